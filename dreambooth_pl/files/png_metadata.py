"""Metadata of a generated image inside its PNG file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import atomic_path

_METADATA_KEY = "dreambooth_pl"  # PNG text chunk that holds all metadata as JSON


def save_png(
    image: Image.Image,
    path: str | Path,
    metadata: Mapping[str, Any] | None = None,
    replace: bool = True,
) -> None:
    """Write a PNG file atomically, with metadata in its text chunks.

    There is one chunk per key, for people and other programs, and one chunk with all metadata as
    JSON, for `read_png_metadata`. Without metadata there are no such chunks. With `replace` false,
    an existing file is an error.
    """
    chunks = None
    if metadata is not None:
        chunks = PngInfo()
        for key, value in metadata.items():
            chunks.add_itxt(key, str(value))
        chunks.add_itxt(_METADATA_KEY, json.dumps(dict(metadata)))
    with atomic_path(Path(path), replace) as temporary:
        image.save(temporary, format="PNG", pnginfo=chunks)


def read_png_metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata that `save_png` wrote.

    Raises:
        UserError: the file cannot be read, or has no metadata of `save_png`.
    """
    try:
        with Image.open(path) as image:
            image.load()  # text chunks may follow the pixels
            metadata = json.loads(image.info[_METADATA_KEY])
    except KeyError:
        raise UserError(f"{path}: holds no settings of the kind that this project writes") from None
    except (OSError, SyntaxError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as a PNG with settings: {error}") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: is too large for an image: {error}") from error
    if not isinstance(metadata, dict):
        raise UserError(f"{path}: its settings are no keys with values; they were changed")
    return metadata
