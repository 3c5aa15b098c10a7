"""Masks that say where in a photo the subject is: white for the subject, black for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dreambooth_pl.data.photos import photo_size
from dreambooth_pl.data.sidecars import masks_beside, masks_in, shown
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.pictures import UnreadablePicture, check_png, open_picture
from dreambooth_pl.files.upright_rgb import is_deep, to_eight_bits, upright


def find_masks(photos: Sequence[Path], mask_dir: Path | None) -> list[Path | None]:
    """Return the mask file of each photo; of all photos or of none.

    Args:
        photos: the photos.
        mask_dir: folder with a mask NAME.png (or NAME.mask.png, or another picture format) for
            each photo NAME; None looks beside the photo for a name as in `sidecars`.

    Raises:
        UserError: some photos have a mask and others not, one has two, or `mask_dir` is no folder.
    """
    if mask_dir is not None and not mask_dir.is_dir():
        raise UserError(f"data.mask_dir: there is no folder {str(mask_dir)!r}.")
    if mask_dir is None or mask_dir.resolve() == photos[0].parent.resolve():
        found = masks_beside(photos)
        where = "beside it"
    else:
        found = masks_in(mask_dir, photos)
        where = f"in {mask_dir}"
    if mask_dir is not None and not any(found):
        raise UserError(
            f"data.mask_dir: {str(mask_dir)!r} holds no mask for {shown(photos[0].name)}; masks "
            f"have the photos' names, such as {shown(photos[0].stem)}.png."
        )
    for photo, masks in zip(photos, found, strict=True):
        if len(masks) > 1:
            names = " and ".join(shown(mask.name) for mask in masks[:2])
            raise UserError(f"{photo}: has two masks, {names}; remove one.")
        if any(found) and not masks:
            raise UserError(
                f"{photo}: other photos have a mask, this one has none {where}. Add one (all "
                "white if the whole photo counts), or remove the others."
            )
    return [masks[0] if masks else None for masks in found]


def read_mask(path: Path, photo: Path) -> Image.Image:
    """Return a photo's mask as an upright 8-bit greyscale image; transparent counts as black.

    It may be larger or smaller than the photo, of the same shape. White is 255, or 1 where
    nothing is brighter, as labels are.

    Raises:
        UserError: it cannot be read as a picture, or has another shape than the photo.
    """
    try:
        with open_picture(path) as file:
            if file.format == "PNG":
                check_png(path)
            image = upright(file)
            if is_deep(image):
                image, _ = to_eight_bits(image)
            if image.has_transparency_data:
                layer = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", layer.size, "black"), layer)
            mask = image.convert("L")
    except UnreadablePicture as error:
        raise UserError(
            f"{path}: cannot be read as a mask ({error.reason}); save it as PNG."
        ) from error
    height, width = photo_size(photo)
    # Half a pixel of rounding on a side of the smaller one is no other shape.
    slack = 0.5 * (1 / min(mask.width, width) + 1 / min(mask.height, height))
    if abs(mask.width * height / (mask.height * width) - 1) > slack:
        raise UserError(
            f"{path}: the mask is {mask.width} x {mask.height} pixels, its photo "
            f"{shown(photo.name)} {width} x {height} (upright); the shapes must agree."
        )
    return mask.point(lambda grey: 255 * grey) if mask.getextrema()[1] == 1 else mask


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
