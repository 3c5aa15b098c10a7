"""All scores of one subject's images: those of prompts, those of the class, those of the photos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from dreambooth_pl.evaluation.protocols import ImagePlan
from dreambooth_pl.evaluation.score_set import ScoreSet, score_set
from dreambooth_pl.metrics.distances import Measure, PairwiseDistance
from dreambooth_pl.metrics.encoders import Encoders
from dreambooth_pl.metrics.scores import SCORES, EncodedImages, EncodedTexts, Scope, Score

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


def encode_images(encoders: Encoders, images: Sequence[Image.Image]) -> EncodedImages:
    """Encode at least one RGB image of any size.

    Each image is read once and scaled at once: photos of phones would fill the memory.
    """
    dino, clip = encoders.dino.preprocessing, encoders.clip.preprocessing
    scaled = [(dino.scale(image), clip.scale(image)) for image in images]
    for_dino, for_clip = zip(*scaled, strict=True)
    return EncodedImages(
        images, encoders.dino.encode_images(for_dino), encoders.clip.encode_images(for_clip)
    )


def encode_texts(
    encoders: Encoders, class_texts: Sequence[str], prompts: Sequence[str]
) -> EncodedTexts:
    """Encode the texts of N >= 1 images: each one's text without and with the identifier."""
    assert len(class_texts) == len(prompts) > 0, "one text and prompt per image"
    texts = list(dict.fromkeys([*class_texts, *prompts]))
    features = encoders.clip.encode_texts(texts)
    rows = {text: row for row, text in enumerate(texts)}
    of_class, of_prompts = (
        features[[rows[text] for text in own]] for own in (class_texts, prompts)
    )
    return EncodedTexts(class_texts, prompts, of_class, of_prompts)


def image_scores(
    images: EncodedImages,
    photos: EncodedImages,
    texts: EncodedTexts,
    scores: Iterable[Score] | None = None,
) -> dict[str, Tensor]:
    """Score each of N generated images.

    Args:
        images: N generated images.
        photos: the subject's photos.
        texts: N, one per image.
        scores: which; those of other scopes are left out. None for all.

    Returns:
        [N] by name.
    """
    partners = {Scope.IMAGE: photos, Scope.TEXT: texts}
    wanted = _of_scopes(partners, scores)
    return {score.name: score.function(images, partners[score.scope]) for score in wanted}


def photo_scores(
    photos: EncodedImages, scores: Iterable[Score] | None = None
) -> dict[str, Tensor] | None:
    """Score each of M photos against the others: what a generator could reach, the ceiling.

    A photo with itself is left out. So the mean of DINO is the off-diagonal mean of R R^T: as true
    to the photos as they are to each other.

    Args:
        photos: the subject's.
        scores: which; those of other scopes are left out. None for all.

    Returns:
        [M] by name; None for a single photo, which has no ceiling.
    """
    if len(photos) < 2:
        return None
    every = range(len(photos))
    pairs = [
        (photos.part([row]), photos.part([other for other in every if other != row]))
        for row in every
    ]
    return {
        score.name: torch.cat([score.function(photo, others) for photo, others in pairs])
        for score in _of_scopes([Scope.IMAGE], scores)
    }


def prompt_scores(images: EncodedImages, distance: PairwiseDistance) -> dict[str, float]:
    """Score the images of one prompt together, at least two: numbers by name."""
    wanted = _of_scopes([Scope.PROMPT])
    return {score.name: score.function(images, distance).item() for score in wanted}


def class_scores(
    images: EncodedImages, base: EncodedImages | None, photos: EncodedImages
) -> dict[str, Tensor]:
    """Score each of C images of "a CLASS".

    Args:
        images: by what is scored.
        base: by the untuned base on the same seeds; None to leave out what needs them.
        photos: the subject's photos.

    Returns:
        [C] by name.
    """
    arguments = {Scope.CLASS: (images, photos)}
    if base is not None:
        arguments[Scope.CLASS_PAIR] = (images, base, photos)
    wanted = _of_scopes(arguments)
    return {score.name: score.function(*arguments[score.scope]) for score in wanted}


def _of_scopes(scopes: Iterable[Scope], scores: Iterable[Score] | None = None) -> list[Score]:
    scopes, scores = set(scopes), SCORES.values() if scores is None else scores
    return [score for score in scores if score.scope in scopes]
