"""A folder of numbered images. New images never overwrite existing ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import WriteError
from dreambooth_pl.files.contact_sheet import contact_sheet
from dreambooth_pl.files.folder_lock import taking_turns
from dreambooth_pl.files.png_metadata import save_png
from dreambooth_pl.files.writable import check_writable
from dreambooth_pl.sampling.image_metadata import PIXELS, pixel_hash
from dreambooth_pl.sampling.requests import ImageRequest

_LONGEST_SLUG = 40  # characters


def check_folder(folder: Path, option: str = "--out") -> None:
    """Check that images can be written to `folder`.

    Args:
        folder: the folder; it need not exist.
        option: command-line option that names it, for the message.

    Raises:
        UserError: `folder` is a file or cannot be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{option}: {folder} is a file; give a folder.")
    check_writable(folder, option)


class NumberedImages:
    """Adds images to a folder as `0000_PROMPT_seedN.png`.

    The numbers continue those of the images that the folder already has.

    Processes that add to one folder at the same time take numbers in turns.

    Args:
        folder: created when the first image is added.
    """

    first: int
    """Number of the first image that is added."""
    images: list[Image.Image]
    """Images added so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = []
        self._requests: list[ImageRequest] = []
        self.first = self._last = self._free_number()

    def add(self, image: Image.Image, request: ImageRequest, metadata: dict[str, Any]) -> Path:
        """Save an image with its metadata and a hash of its pixels.

        Returns:
            Path of the file.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with taking_turns(self.folder):
            number = self._free_number()
            path = self.folder / f"{number:04d}_{_slug(request.prompt)}_seed{request.seed}.png"
            path = save_image(image, path, metadata)
        self.first, self._last = self.first if self.images else number, number
        self.images.append(image)
        self._requests.append(request)
        return path

    def save_grid(self, columns: int) -> Path:
        """Save all added images as one contact sheet, each above its prompt and seed.

        Returns:
            Path of the sheet.
        """
        path = self.folder / f"{self.first:04d}-{self._last:04d}_grid.png"
        labels = [f"{request.prompt} ({request.seed})" for request in self._requests]
        prompts = dict.fromkeys(request.prompt for request in self._requests)
        sheet = contact_sheet(self.images, labels, columns)
        return _save_new(sheet, path, {"title": "; ".join(prompts)})

    def _free_number(self) -> int:
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        numbers = [int(number) for name in names for number in re.findall(r"^(\d{4,})_", name)]
        return max(numbers, default=-1) + 1


def save_image(image: Image.Image, path: Path, metadata: dict[str, Any]) -> Path:
    """Save an image with its metadata and a hash of its pixels, and return the file.

    Nothing is overwritten: if there is such a file already, a number is put behind the name.
    """
    return _save_new(image, path, metadata | {PIXELS: pixel_hash(image)})


def _save_new(image: Image.Image, path: Path, metadata: dict[str, Any]) -> Path:
    while True:
        free = _free_path(path)
        try:
            save_png(image, free, metadata, replace=False)
        except WriteError as error:
            if isinstance(error.os_error, FileExistsError):
                continue  # another process has taken the name meanwhile
            raise
        return free


def _free_path(path: Path) -> Path:
    """Return `path`, or a numbered variant of it if the file already exists."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}_{number}{path.suffix}")
    return free


def _slug(prompt: str) -> str:
    """Return a prompt in a form that can be part of a file name.

    >>> _slug("A sks dog, in the snow!")
    'a-sks-dog-in-the-snow'
    """
    return re.sub(r"\W+", "-", prompt.lower()).strip("-")[:_LONGEST_SLUG].strip("-") or "image"
