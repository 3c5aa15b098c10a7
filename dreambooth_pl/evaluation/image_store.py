"""Generated images on disk: verified ones are kept, missing ones are generated."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth_pl.bases.base import Base
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.leftovers import remove_leftovers
from dreambooth_pl.files.png_metadata import read_png_metadata, save_png
from dreambooth_pl.sampling.generation import Progress, generate
from dreambooth_pl.sampling.image_metadata import PIXELS, image_metadata, pixel_hash
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings

log = logging.getLogger(__name__)

ADAPTER_SHA256 = (
    "adapter_sha256"  # metadata key: hash of the adapter's file, None for the untuned base
)


@dataclass(frozen=True)
class GenerationRecipe:
    """A set of images to generate, and what they depend on."""

    requests: tuple[ImageRequest, ...]
    """Prompts and seeds."""
    labels: tuple[str, ...]
    """One per request; they name the files."""
    settings: SamplingSettings
    """How to generate."""
    adapter_sha256: str | None
    """Hash of the adapter that is loaded into the base; None without."""

    def file_names(self) -> list[str]:
        """Return one PNG name per image, in order."""
        return [
            f"{index:04d}_{re.sub(r'[^a-z0-9_]+', '-', label.lower()).strip('-')}.png"
            for index, label in enumerate(self.labels)
        ]

    def metadata(self, base: Base) -> list[dict[str, Any]]:
        """Return all that each image depends on, as it is kept in its file."""
        return [
            image_metadata(base, request, self.settings, **{ADAPTER_SHA256: self.adapter_sha256})
            for request in self.requests
        ]


def generate_missing(
    base: Base,
    recipe: GenerationRecipe,
    folder: Path,
    progress: Progress | None = None,
    shard: tuple[int, int] = (0, 1),
) -> list[Image.Image | None]:
    """Return the images of `recipe`: from `folder` where verified, else generated and kept there.

    A file is reused only if its metadata name exactly this prompt, seed, sampler, base and adapter,
    and its pixels are those that were saved. An interrupted call keeps what it has generated.

    Args:
        base: with the adapter loaded that `recipe` speaks of.
        recipe: what to generate.
        folder: where the PNGs are; made when needed.
        progress: called after each batch with the numbers of images done, kept ones included, and
            asked for.
        shard: this rank, and the number of ranks that share the work. A rank's share are the images
            whose index modulo the number of ranks is the rank, whatever others have done so far.

    Returns:
        One image per request; with several ranks None for those of the others.

    Raises:
        UserError: an image came out black or not finite; the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write images to {folder}: {error.strerror}.") from error
    paths = [folder / name for name in recipe.file_names()]
    metadata = recipe.metadata(base)
    rank, ranks = shard
    mine = range(rank, len(paths), ranks)
    remove_leftovers(folder)
    images: list[Image.Image | None] = [None] * len(paths)
    for index in mine:
        images[index] = _read_verified(paths[index], metadata[index])
    missing = [index for index in mine if images[index] is None]
    kept = len(mine) - len(missing)

    def count(done: int, _: int) -> None:
        if progress is not None:
            progress(kept + done, len(mine))

    requests = [recipe.requests[index] for index in missing]
    for index, image in zip(missing, generate(base, requests, recipe.settings, count), strict=True):
        _save(image, paths[index], metadata[index])
        images[index] = image
    return images


def recorded_batch_size(folder: Path) -> int | None:
    """Return the batch size that the images in `folder` were generated with; None without any.

    An interrupted evaluation goes on with it: another size would give slightly other images.
    """
    for path in sorted(folder.glob("[!.]*.png")):
        try:
            size = read_png_metadata(path).get("batch_size")
        except UserError:
            continue
        if isinstance(size, int):
            return size
    return None


def copy_images(
    images: Sequence[Image.Image], base: Base, recipe: GenerationRecipe, folder: Path
) -> None:
    """Copy images of `recipe` that were generated for another folder to `folder`."""
    names, metadata = recipe.file_names(), recipe.metadata(base)
    for name, facts, image in zip(names, metadata, images, strict=True):
        if _read_verified(folder / name, facts) is None:
            _save(image, folder / name, facts)


def _save(image: Image.Image, path: Path, metadata: dict[str, Any]) -> None:
    save_png(image, path, metadata | {PIXELS: pixel_hash(image)})


def _read_verified(path: Path, metadata: dict[str, Any]) -> Image.Image | None:
    """Return the image in `path` if it is whole and was generated with `metadata`, else None."""
    if not path.is_file():
        return None
    try:
        found = read_png_metadata(path)
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (UserError, OSError, SyntaxError, ValueError):
        log.warning("%s cannot be read; it is generated again.", path)
        return None
    pixels = found.pop(PIXELS, None)
    if found != metadata:
        return None
    if is_black(image) or set(image.size) != {metadata["resolution"]}:
        log.warning("%s is black or of another size; it is generated again.", path)
        return None
    if pixels != pixel_hash(image):
        log.warning("%s was changed after it was generated; it is generated again.", path)
        return None
    return image


def is_black(image: Image.Image) -> bool:
    """Whether every pixel of an RGB image is 0."""
    return all(high == 0 for _, high in image.getextrema())
