"""Rendered pictures on disk. They never overwrite other pictures or share a folder with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from dreambooth_pl.data.sidecars import is_picture
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import atomic_path


def write_rendered(folder: Path, images: Mapping[str, Image.Image], what: str) -> list[Path]:
    """Write rendered images into a folder. Files that already show them stay.

    Args:
        folder: where the images go.
        images: images by file name.
        what: a name for the images in messages, such as "rendered photos of dog6".

    Returns:
        The paths, in the order of `images`.

    Raises:
        UserError: `folder` holds other pictures or cannot be written to. Nothing is written if it
            holds other pictures.
    """
    paths = {folder / name: image for name, image in images.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()):
            if not is_picture(path) or (path in paths and _shows(path, paths[path])):
                continue
            raise UserError(
                f"{path} is not one of the {what}: nothing was written. Name another folder than "
                f"{folder.parent}, or move the file elsewhere."
            )
        for path, image in paths.items():
            if not path.exists():
                with atomic_path(path) as temporary:
                    image.save(temporary)
    except OSError as error:
        raise UserError(f"Cannot write to {folder}: {error.strerror or error}.") from error
    return list(paths)


def _shows(path: Path, image: Image.Image) -> bool:
    """Return whether a file shows the image, up to rounding that depends on Pillow's version."""
    try:
        found = Image.open(path).convert("RGB")
    except OSError:
        return False
    if found.size != image.size:
        return False
    difference = np.asarray(found).astype(int) - np.asarray(image)
    return bool(np.abs(difference).mean() < 1)
