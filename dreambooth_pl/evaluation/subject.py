"""All scores of one subject's images: those of prompts, those of the class, those of the photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from dreambooth_pl.evaluation.protocols import ImagePlan
from dreambooth_pl.evaluation.score_set import ScoreSet, score_set
from dreambooth_pl.metrics.measure import EncodedImages, Measure, encode_images, encode_texts
from dreambooth_pl.metrics.scores import class_scores, image_scores, photo_scores, prompt_scores

PHOTOS = "photos"  # stands for the prompt of real photos


@dataclass(frozen=True, eq=False)
class ClassImages:
    """Images of "a CLASS", generated without the identifier."""

    plan: ImagePlan
    """What they were generated from."""
    own: Sequence[Image.Image]
    """By what is scored."""
    base: Sequence[Image.Image] | None = None
    """By the untuned base on the same seeds; None if it is itself what is scored, or if nobody
    generated them."""


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """A plan's images and their scores."""

    plan: ImagePlan
    """What the images were generated from."""
    images: Sequence[Image.Image]
    """In the plan's order."""
    by_image: Mapping[str, Tensor]
    """[N] in the plan's order, by the score's name."""
    by_prompt: ScoreSet
    """The same and all other scores, arranged by prompt."""
    class_images: ClassImages | None = None
    """What the scores of the class are about."""


class SubjectScorer:
    """Scores images against one subject's photos.

    Args:
        measure: encoders and distance.
        photos: the subject's; at least one.
        subject: its name.
        live: whether it takes the live prompts.
    """

    def __init__(
        self, measure: Measure, photos: Sequence[Image.Image], subject: str, live: bool
    ) -> None:
        self.measure = measure
        self.subject = subject
        self.live = live
        self._photos = encode_images(measure.encoders, photos)

    def photos(self) -> ScoreSet | None:
        """Score each photo against the others: the ceiling. None for a single photo."""
        scores = photo_scores(self._photos)
        if scores is None:
            return None
        count = len(self._photos)
        return score_set(self.subject, self.live, [PHOTOS] * count, [""] * count, scores)

    def images(
        self,
        plan: ImagePlan,
        images: Sequence[Image.Image],
        class_images: ClassImages | None = None,
    ) -> ScoredImages:
        """Score a plan's images, and if there are images of the class, how they have changed."""
        encoded = encode_images(self.measure.encoders, images)
        texts = encode_texts(self.measure.encoders, plan.class_texts, plan.prompts)
        scores = image_scores(encoded, self._photos, texts)
        by_prompt = score_set(
            self.subject,
            self.live,
            plan.templates,
            plan.kinds,
            scores,
            self._of_prompts(plan.templates, encoded),
            self._of_class(class_images) if class_images else None,
        )
        return ScoredImages(plan, images, scores, by_prompt, class_images)

    def _of_prompts(
        self, templates: Sequence[str], images: EncodedImages
    ) -> dict[str, dict[str, float]]:
        """Score the images of each prompt that has several: numbers by name, by template."""
        rows: dict[str, list[int]] = {}
        for row, template in enumerate(templates):
            rows.setdefault(template, []).append(row)
        return {
            template: prompt_scores(images.part(own), self.measure.distance)
            for template, own in rows.items()
            if len(own) > 1
        }

    def _of_class(self, images: ClassImages) -> dict[str, Tensor]:
        encoders = self.measure.encoders
        base = None if images.base is None else encode_images(encoders, images.base)
        return class_scores(encode_images(encoders, images.own), base, self._photos)
