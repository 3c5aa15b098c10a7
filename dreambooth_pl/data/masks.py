"""Masks that say where in a photo the subject is: white for the subject, black for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dreambooth_pl.data.photos import MASK_SUFFIX, photo_size, to_eight_bits
from dreambooth_pl.errors import UserError


def find_masks(photos: Sequence[Path], mask_dir: Path | None) -> list[Path | None]:
    """Return the mask file of each photo; of all photos or of none.

    Args:
        photos: the photos.
        mask_dir: folder with a mask NAME.png (or NAME.mask.png, or another picture format) for
            each photo NAME; None looks for NAME.mask.png beside the photo.

    Raises:
        UserError: some photos have a mask and others not, or `mask_dir` is no folder.
    """
    if mask_dir is None:
        masks = [_in_folder(photo.parent, (photo.stem + MASK_SUFFIX,)) for photo in photos]
        where = "beside it"
    else:
        if not mask_dir.is_dir():
            raise UserError(f"data.mask_dir: there is no folder {str(mask_dir)!r}.")
        endings = (MASK_SUFFIX, *sorted(Image.registered_extensions()))
        masks = [_in_folder(mask_dir, [photo.stem + e for e in endings]) for photo in photos]
        where = f"in {mask_dir}"
        if not any(masks):
            raise UserError(
                f"data.mask_dir: {str(mask_dir)!r} holds no mask for {photos[0].name}; masks have "
                f"the photos' names, such as {photos[0].stem}.png."
            )
    if any(masks):
        for photo, mask in zip(photos, masks, strict=True):
            if mask is None:
                raise UserError(
                    f"{photo}: other photos have a mask, this one has none {where}. Add one (all "
                    "white if the whole photo counts), or remove the others."
                )
    return masks


def read_mask(path: Path, photo: Path) -> Image.Image:
    """Return a photo's mask as an upright 8-bit greyscale image; transparent counts as black.

    It may be larger or smaller than the photo, of the same shape.

    Raises:
        UserError: it cannot be read as a picture, or has another shape than the photo.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            image = to_eight_bits(image)
    except (OSError, SyntaxError, ValueError, EOFError, UnidentifiedImageError) as error:
        raise UserError(f"{path}: cannot be read as a mask ({error}); save it as PNG.") from error
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "black"), layer)
    height, width = photo_size(photo)
    # Half a pixel of rounding on a side of the smaller one is no other shape.
    slack = 0.5 * (1 / min(image.width, width) + 1 / min(image.height, height))
    if abs(image.width * height / (image.height * width) - 1) > slack:
        raise UserError(
            f"{path}: the mask is {image.width} x {image.height} pixels, its photo {photo.name} "
            f"{width} x {height} (upright); the shapes must agree."
        )
    return image.convert("L")


def prepare_mask(
    mask: Image.Image, size: tuple[int, int], centering: tuple[float, float]
) -> Tensor:
    """Scale and crop a mask as `photos.prepare` does its photo, by area means.

    Returns float32 [1, height, width] in [0, 1].
    """
    height, width = size
    # As floats: greys would be rounded twice, after each of the two directions.
    greys = mask.convert("F")
    fitted = ImageOps.fit(greys, (width, height), Image.Resampling.BOX, centering=centering)
    return torch.from_numpy(np.asarray(fitted, dtype=np.float32) / 255)[None]


def _in_folder(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
