"""Measure whether an identifier already means something to an untuned base.

To Stable Diffusion, "sks" is also a rifle. Images of "a sks dog" are generated from the same seeds
as images of "a dog". The larger their distance, the more the identifier means to the base.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from dreambooth_pl.bases.base import Base
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.contact_sheet import image_table
from dreambooth_pl.files.png_metadata import save_png
from dreambooth_pl.metrics.encoders import Encoders
from dreambooth_pl.metrics.functional import drift_scores
from dreambooth_pl.prompts import fill
from dreambooth_pl.sampling.generation import Progress, generate
from dreambooth_pl.sampling.image_metadata import image_metadata
from dreambooth_pl.sampling.requests import ImageRequest, image_seed
from dreambooth_pl.sampling.settings import SamplingSettings

TEMPLATE = "a {identifier} {class}"
"""Template of the prompts."""
SHEET = "identifiers.png"
"""File name of the contact sheet."""


@dataclass(frozen=True)
class Trial:
    """Images of one prompt and their distance from those of the plain class."""

    identifier: str | None
    """The identifier; `None` for the plain class."""
    prompt: str
    """The prompt."""
    images: tuple[Image.Image, ...]
    """One image per seed."""
    dino: float
    """Mean distance from the plain class by DINO: 1 - cosine for images of a seed, in [0, 2]."""
    clip: float
    """The same by CLIP."""


def try_identifiers(
    base: Base,
    encoders: Encoders,
    identifiers: Sequence[str],
    class_noun: str,
    settings: SamplingSettings,
    count: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Trial]:
    """Generate the plain class and each identifier from the same seeds and measure their distance.

    Args:
        base: the base, without adapters or with adapters at the strengths of `settings`.
        encoders: the encoders that measure distances.
        identifiers: the words to try.
        class_noun: class noun of the subject.
        settings: settings of the sampler.
        count: images per prompt.
        seed: decides the images' seeds. They do not depend on the identifier.
        progress: called with the number of images done and the total.

    Returns:
        The plain class, then the identifiers, ordered by their DINO distance from it.
    """
    prompts = [fill(TEMPLATE, identifier, class_noun) for identifier in [None, *identifiers]]
    seeds = [image_seed(seed, "identifiers", n) for n in range(count)]
    requests = [ImageRequest(prompt, image) for prompt in prompts for image in seeds]
    images = list(generate(base, requests, settings, progress))
    dino, clip = encoders.dino.encode_images(images), encoders.clip.encode_images(images)
    trials = []
    for n, (identifier, prompt) in enumerate(zip([None, *identifiers], prompts, strict=True)):
        own = slice(n * count, (n + 1) * count)
        trials.append(
            Trial(
                identifier,
                prompt,
                tuple(images[own]),
                dino=drift_scores(dino[:count], dino[own]).mean().item(),
                clip=drift_scores(clip[:count], clip[own]).mean().item(),
            )
        )
    plain, *others = trials
    plain = replace(plain, dino=0.0, clip=0.0)  # by definition; rounding aside
    return [plain, *sorted(others, key=lambda trial: trial.dino)]


def save_trials(
    trials: Sequence[Trial], base: Base, settings: SamplingSettings, folder: Path, seed: int = 0
) -> Path:
    """Write the images and a contact sheet with one row per prompt and one column per seed.

    The metadata of each image records how it was generated.

    Args:
        trials: the trials, as from `try_identifiers`.
        base: the base that generated the images.
        settings: settings of the sampler.
        folder: output folder.
        seed: the seed that `try_identifiers` had.

    Returns:
        The path of the contact sheet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(trials[0].images)
    seeds = [image_seed(seed, "identifiers", n) for n in range(count)]
    for row, trial in enumerate(trials):
        words = re.sub(r"[^\w.-]+", "_", trial.prompt)  # an identifier may contain any character
        for n, (image, own) in enumerate(zip(trial.images, seeds, strict=True)):
            request = ImageRequest(trial.prompt, own)
            metadata = image_metadata(base, request, settings)
            save_png(image, folder / f"{row:02d}_{words}_{n}.png", metadata)
    title = f"{base.name}, untuned: distance from {trials[0].prompt!r} by DINO and CLIP"
    sheet = image_table(
        [trial.images for trial in trials],
        [_label(trial) for trial in trials],
        [f"seed {own}" for own in seeds],
        title,
    )
    save_png(sheet, folder / SHEET, {"title": title})
    return folder / SHEET


def check_folder(folder: Path) -> None:
    """Check that images can be written to a folder.

    Raises:
        UserError: `folder` or one of its parents is a file.
    """
    existing = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    if not existing.is_dir():
        raise UserError(f"--draw: {existing} is a file. Give a folder for the images.")


def _label(trial: Trial) -> str:
    if trial.identifier is None:
        return trial.prompt
    return f"{trial.prompt}\nDINO {trial.dino:.3f}\nCLIP {trial.clip:.3f}"
