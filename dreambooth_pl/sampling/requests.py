"""Requests for images: a prompt and a seed each."""

from __future__ import annotations

from dataclasses import dataclass

from dreambooth_pl.prompts import FIRST_IMAGE, fill, prompt_set
from dreambooth_pl.randomness import stable_hash

_FIRST_IMAGES = 4


MAX_IMAGES = 100_000
"""Most images that one command generates with one adapter."""


@dataclass(frozen=True)
class ImageRequest:
    """One image to generate."""

    prompt: str
    seed: int
    """Seed of the image's own CPU generator, in [0, 2**63)."""


def probe_requests(identifier: str, class_noun: str, seed: int) -> list[tuple[str, ImageRequest]]:
    """Return the labelled probes: four plain images of the subject, then the four probe prompts.

    The seeds of the images depend on `seed` but not on `identifier` or `class_noun`. Runs can
    therefore be compared on the same noise.
    """
    templates = [(f"first_{n}", FIRST_IMAGE) for n in range(1, _FIRST_IMAGES + 1)]
    probes = prompt_set("probes")
    templates += zip(probes.labels, probes.prompts, strict=True)
    return [
        (label, ImageRequest(fill(template, identifier, class_noun), image_seed(seed, label)))
        for label, template in templates
    ]


def image_seed(seed: int, *parts: str | int) -> int:
    """Return a seed in [0, 2**32) keyed by `seed` and `parts`.

    The seed is small enough to be typed into other tools.
    """
    return stable_hash(seed, "image", *parts) % 2**32
