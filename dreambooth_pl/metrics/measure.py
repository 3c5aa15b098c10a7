"""What images are measured with, and images and texts as the encoders see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from dreambooth_pl.metrics.distances import PairwiseDistance, load_distance
from dreambooth_pl.metrics.encoders import Encoders, EncoderSettings, load_encoders


@dataclass(frozen=True, eq=False)
class Measure:
    """All that scores are measured with. Scores under different measures do not compare."""

    encoders: Encoders
    distance: PairwiseDistance


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """N images and their features; all feature rows have unit length."""

    images: Sequence[Image.Image]
    """RGB, any size."""
    dino: Tensor
    """float32 [N, d1]."""
    clip: Tensor
    """float32 [N, d2]."""

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: Sequence[int]) -> EncodedImages:
        """Return the images at the given places."""
        rows = list(rows)
        return EncodedImages([self.images[row] for row in rows], self.dino[rows], self.clip[rows])


@dataclass(frozen=True, eq=False)
class EncodedTexts:
    """The texts of N images and their CLIP features; all feature rows have unit length."""

    class_texts: Sequence[str]
    """Without the identifier, such as "A dog in the forest."."""
    prompts: Sequence[str]
    """As the images were generated from them, identifier included."""
    clip_of_class_texts: Tensor
    """float32 [N, d2]."""
    clip_of_prompts: Tensor
    """float32 [N, d2]."""


def load_measure(settings: EncoderSettings, device: str | torch.device = "cpu") -> Measure:
    """Load encoders and distance onto a device.

    Raises:
        UserError: an encoder or its weights cannot be had.
    """
    encoders = load_encoders(settings).to(device)
    return Measure(encoders, load_distance(settings, encoders))


def encode_images(encoders: Encoders, images: Sequence[Image.Image]) -> EncodedImages:
    """Encode at least one RGB image of any size."""
    dino, clip = encoders.dino.encode_images(images), encoders.clip.encode_images(images)
    return EncodedImages(images, dino, clip)


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
