"""All scores of one subject's images: those of prompts, those of the class, those of the photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from dreambooth_pl.evaluation.protocols import ImagePlan
from dreambooth_pl.evaluation.score_tensors import ScoreSet, score_set
from dreambooth_pl.evaluation.scoring import (
    ImageScores,
    encode_real_photos,
    score_images,
    score_real_photos,
)
from dreambooth_pl.metrics.encoders import Encoders
from dreambooth_pl.metrics.functional import diversity_scores, drift_scores, preservation_scores

Distance = Callable[[Sequence[Image.Image]], Tensor]
"""Distances between K images: [K, K]."""
PHOTOS = "photos"  # stands for the prompt of real photos


@dataclass(frozen=True, eq=False)
class ClassImages:
    """Images of "a CLASS", drawn without the identifier.

    Attributes:
        plan: what they were drawn from.
        own: by what is scored.
        base: by the untuned base on the same seeds; None if it is itself what is scored, or if
            nobody drew them.
    """

    plan: ImagePlan
    own: Sequence[Image.Image]
    base: Sequence[Image.Image] | None = None


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """A plan's images and their scores, in the plan's order, and the same by prompt."""

    plan: ImagePlan
    images: Sequence[Image.Image]
    scores: ImageScores
    by_prompt: ScoreSet
    class_images: ClassImages | None = None


class SubjectScorer:
    """Scores images against one subject's photos.

    Args:
        encoders: CLIP and DINO.
        distance: between images of a prompt, for DIV.
        photos: the subject's; at least one.
        subject: its name.
        live: whether it takes the live prompts.
    """

    def __init__(
        self,
        encoders: Encoders,
        distance: Distance,
        photos: Sequence[Image.Image],
        subject: str,
        live: bool,
    ) -> None:
        self.encoders = encoders
        self.distance = distance
        self.subject = subject
        self.live = live
        self._real = encode_real_photos(encoders, photos)

    def photos(self) -> tuple[ImageScores, ScoreSet] | None:
        """Score each photo against the others: the ceiling. None for a single photo."""
        scores = score_real_photos(self._real)
        if scores is None:
            return None
        templates = [PHOTOS] * len(self._real)
        kinds = [""] * len(self._real)
        return scores, score_set(self.subject, self.live, templates, kinds, scores.columns())

    def images(
        self,
        plan: ImagePlan,
        images: Sequence[Image.Image],
        class_images: ClassImages | None = None,
    ) -> ScoredImages:
        """Score a plan's images, and if there are images of the class, how they have changed."""
        scores = score_images(self.encoders, images, self._real, plan.class_texts, plan.prompts)
        by_prompt = score_set(
            self.subject,
            self.live,
            plan.templates,
            plan.kinds,
            scores.columns(),
            self._diversity(plan.templates, images),
            self._class_scores(class_images) if class_images else None,
        )
        return ScoredImages(plan, images, scores, by_prompt, class_images)

    def _diversity(
        self, templates: Sequence[str], images: Sequence[Image.Image]
    ) -> dict[str, float]:
        """Mean distance between the images of each prompt that has several."""
        of_prompt: dict[str, list[Image.Image]] = {}
        for template, image in zip(templates, images, strict=True):
            of_prompt.setdefault(template, []).append(image)
        return {
            template: diversity_scores(self.distance(own)).item()
            for template, own in of_prompt.items()
            if len(own) > 1
        }

    def _class_scores(self, images: ClassImages) -> dict[str, Tensor]:
        own = self.encoders.dino.encode_images(images.own)
        found = {"pres": preservation_scores(own, self._real.dino)}
        if images.base is not None:
            base = self.encoders.dino.encode_images(images.base)
            found["pres_base"] = preservation_scores(base, self._real.dino)
            found["pres_change"] = found["pres"] - found["pres_base"]
            found["drift"] = drift_scores(base, own)
        return found
