"""Images to scores: encode generated images, real photos and texts, and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from PIL import Image
from torch import Tensor

from dreambooth_pl.metrics.encoders import Encoders
from dreambooth_pl.metrics.functional import (
    ceiling_scores,
    copy_scores,
    prompt_fidelity_scores,
    subject_fidelity_scores,
)


@dataclass(frozen=True)
class RealPhotos:
    """Features of a subject's real photos, unit length: ``dino`` [M, d1], ``clip`` [M, d2]."""

    dino: Tensor
    clip: Tensor

    def __len__(self) -> int:
        return len(self.dino)


@dataclass(frozen=True)
class ImageScores:
    """One score per image, in [-1, 1]; see ``metrics`` for the formulas.

    Attributes:
        dino, clip_i: [N] fidelity to the subject.
        clip_t: [N] fidelity to the text without the identifier; None for real photos.
        clip_t_identifier: [N] the same with the identifier kept; None for real photos.
        copy: [N] likeness to the nearest photo; of a photo, to the nearest other one.
    """

    dino: Tensor
    clip_i: Tensor
    clip_t: Tensor | None = None
    clip_t_identifier: Tensor | None = None
    copy: Tensor | None = None

    def columns(self) -> dict[str, Tensor]:
        """Return the scores that there are by their names."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: values for name, values in found.items() if values is not None}


def encode_real_photos(encoders: Encoders, photos: Sequence[Image.Image]) -> RealPhotos:
    """Encode a subject's photos (RGB, any size, at least one).

    They are asked for one after another, once: photos of phones fill the memory.
    """
    dino, clip = encoders.dino.preprocessing, encoders.clip.preprocessing
    scaled = [(dino.scale(photo), clip.scale(photo)) for photo in photos]
    for_dino, for_clip = zip(*scaled, strict=True)
    return RealPhotos(encoders.dino.encode_images(for_dino), encoders.clip.encode_images(for_clip))


def score_images(
    encoders: Encoders,
    images: Sequence[Image.Image],
    real: RealPhotos,
    class_texts: Sequence[str],
    prompts: Sequence[str],
) -> ImageScores:
    """Score N generated images.

    Args:
        encoders: both as for ``real``.
        images: RGB.
        real: features of the subject's photos.
        class_texts: N texts without identifier ("A dog in the forest."), what CLIP-T compares with.
        prompts: N texts that the images were drawn from, identifier included.
    """
    assert len(images) == len(class_texts) == len(prompts) > 0, "one text and prompt per image"
    clip = encoders.clip.encode_images(images)
    texts = list(dict.fromkeys([*class_texts, *prompts]))
    text_features = encoders.clip.encode_texts(texts)
    rows = {text: row for row, text in enumerate(texts)}

    def clip_t(of: Sequence[str]) -> Tensor:
        return prompt_fidelity_scores(clip, text_features[[rows[text] for text in of]])

    dino = encoders.dino.encode_images(images)
    return ImageScores(
        dino=subject_fidelity_scores(dino, real.dino),
        clip_i=subject_fidelity_scores(clip, real.clip),
        clip_t=clip_t(class_texts),
        clip_t_identifier=clip_t(prompts),
        copy=copy_scores(dino, real.dino),
    )


def score_real_photos(real: RealPhotos) -> ImageScores | None:
    """Score each photo against the others: the ceiling. None for a single photo."""
    if len(real) < 2:
        return None
    rows = range(len(real))
    others = (real.dino[[other for other in rows if other != row]] for row in rows)
    nearest = [
        copy_scores(photo[None], rest) for photo, rest in zip(real.dino, others, strict=True)
    ]
    return ImageScores(
        dino=ceiling_scores(real.dino), clip_i=ceiling_scores(real.clip), copy=torch.cat(nearest)
    )
