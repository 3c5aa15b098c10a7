"""Drawn pictures on disk: beside nothing else, so that nobody's photos are lost or mixed in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from dreambooth_pl.data.sidecars import is_picture
from dreambooth_pl.errors import UserError


def write_drawn(folder: Path, images: Mapping[str, Image.Image], what: str) -> list[Path]:
    """Write `images`, by file name, into `folder`; those that are there already stay.

    Args:
        what: the images are, for messages: "drawn photos of dog6".

    Returns:
        The paths, in order.

    Raises:
        UserError: the folder holds other pictures, or it cannot be written to. Nothing is written
            then.
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
                image.save(path)
    except OSError as error:
        raise UserError(f"Cannot write to {folder}: {error.strerror or error}.") from error
    return list(paths)


def _shows(path: Path, image: Image.Image) -> bool:
    """Tell whether a file shows the image, but for rounding, in which versions of Pillow differ."""
    try:
        found = Image.open(path).convert("RGB")
    except OSError:
        return False
    if found.size != image.size:
        return False
    difference = np.asarray(found).astype(int) - np.asarray(image)
    return bool(np.abs(difference).mean() < 1)
