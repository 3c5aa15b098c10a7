"""What an open picture file shows, as an upright 8-bit sRGB image."""

from __future__ import annotations

import io
from contextlib import nullcontext
from threading import Lock
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms

from dreambooth_pl.files.pictures import Unsuitable

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
_LARGE = 64_000_000  # pixels; decoded, one takes half a gigabyte
_ONE_AT_A_TIME = Lock()
_SAVE_AGAIN = "save it with 8 bits a channel"


def upright_size(file: Image.Image) -> tuple[int, int]:
    """Return (height, width) in pixels as the picture is seen, before anything is decoded."""
    width, height = file.size
    if file.format == "TIFF":  # newer versions of Pillow give the upright size here
        width, height = file.tag_v2[256], file.tag_v2[257]
    return (width, height) if _orientation(file) in range(5, 9) else (height, width)


def upright(file: Image.Image) -> Image.Image:
    """Decode a file and turn the picture upright, as its EXIF data says."""
    file.load()
    orientation = _orientation(file)  # of a TIFF none is left: Pillow has turned it in loading
    return file.transpose(_TURNS[orientation]) if orientation in _TURNS else file


class UprightPicture(NamedTuple):
    """A decoded picture."""

    image: Image.Image
    """Upright, RGB."""
    fixes: list[str]
    """What was done to it."""
    size: tuple[int, int]
    """Height and width in pixels of the whole picture, of which `image` may be a smaller copy."""


def to_upright_rgb(file: Image.Image, at_least: int | None = None) -> UprightPicture:
    """Decode an open picture; of large ones only one at a time, whatever threads there are.

    Args:
        file: just opened.
        at_least: make a smaller copy where both sides keep this many pixels; a JPEG file is then
            decoded at a half, quarter or eighth of its size. None for the full size.

    Raises:
        Unsuitable: its numbers cannot be understood as grey or colour values.
    """
    scaled_in_decoding = at_least is not None and file.format in ("JPEG", "MPO")
    large = not scaled_in_decoding and file.width * file.height > _LARGE
    with _ONE_AT_A_TIME if large else nullcontext():
        return _to_upright_rgb(file, at_least)


def _to_upright_rgb(file: Image.Image, at_least: int | None) -> UprightPicture:
    fixes = []
    # Asked first: PNG files are decoded in looking for EXIF data, and forget it.
    deep_colour = any(";16" in str(part) for part in getattr(file, "tile", ()))
    position = file.tell()  # the first picture, or the main one of a HEIC file
    frames = getattr(file, "n_frames", 1)
    if frames > 1:
        fixes.append(f"took the first of {frames} pictures in the file")
        file.seek(position)
    size = upright_size(file)
    if at_least is not None:
        file.draft(None, (at_least, at_least))
    if _orientation(file) in _TURNS:
        fixes.append("turned upright as its EXIF data says")
    promised = file.size
    image = upright(file)
    if sorted(image.size) != sorted(promised):
        raise ValueError(f"it says {promised} pixels and holds {image.size}")
    if is_deep(image):
        image, remarks = to_eight_bits(image)
        fixes += ["reduced to 8 bits a channel", *remarks]
    elif deep_colour:
        _check_upper_bytes(image)
        fixes.append("reduced to 8 bits a channel")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if layer.getextrema()[3][0] < 255:
            fixes.append("put its transparent parts on white")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    elif image.mode not in ("RGB", "L", "P", "1"):
        fixes.append(f"converted from {image.mode} to RGB")
    if image.mode not in ("RGB", "CMYK"):
        image = image.convert("RGB")
    image, name = _to_srgb(image, file)
    if name is not None:
        fixes.append(f"converted its colours from {name} to sRGB")
    if at_least is not None and (factor := min(image.size) // at_least) > 1:
        image = image.reduce(factor)
    # The file's own pixels are given free when it is closed; a copy of others is a waste.
    if image is file or image.mode != "RGB":
        image = image.convert("RGB")
    return UprightPicture(image, fixes, size)


def is_deep(image: Image.Image) -> bool:
    """Tell whether a greyscale image has more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def to_eight_bits(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Scale a greyscale image of more than 8 bits to 8; return remarks on it too.

    Whole numbers are taken for 8, 10, 12 or 16 bits, the fewest that hold them: scanners and
    cameras put 12 bits into 16, which would come out nearly black.

    Raises:
        Unsuitable: it has values outside of these, or floats outside [0, 1], or no numbers.
    """
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Unsuitable(f"holds values that are no finite numbers; {_SAVE_AGAIN}")
    whole = image.mode != "F" or (high >= 2 and bool((values == np.rint(values)).all()))
    slack = 0 if whole else 1e-3  # of a picture that was scaled as floats
    if low < -slack or high > (65535 if whole else 1 + slack):
        raise Unsuitable(
            f"holds values from {low:g} to {high:g}, neither in [0, 1] nor of 8 or 16 bits; "
            f"{_SAVE_AGAIN}"
        )
    if not whole:
        greys = np.clip(values.astype(np.float64), 0, 1) * 255
        return Image.fromarray(np.round(greys).astype(np.uint8)), []
    bits = next(bits for bits in (8, 10, 12, 16) if high < 1 << bits)
    greys = np.round(np.arange(1 << bits) / ((1 << bits) - 1) * 255).astype(np.uint8)
    remarks = [f"took its values, at most {high:g}, for {bits} bits"] if bits != 16 else []
    return Image.fromarray(greys[values.astype(np.uint16)]), remarks


def _check_upper_bytes(image: Image.Image) -> None:
    """Refuse colours of 12 bits in 16: of these Pillow keeps the upper 8 bits, nearly nothing."""
    extrema = image.getextrema()
    colours = extrema[:1] if image.mode in ("LA", "La") else extrema[:3]
    if max(high for _, high in colours) < 16:
        raise Unsuitable(
            "holds at most 12 bits in the 16 of each channel, which would come out nearly black; "
            f"{_SAVE_AGAIN}"
        )


def _to_srgb(image: Image.Image, file: Image.Image) -> tuple[Image.Image, str | None]:
    """Return the image in sRGB and the name of the file's colour profile if that was another.

    Phones save in Display P3: the same numbers mean stronger colours there. A profile that cannot
    be read, or is of another kind of picture, is passed over, as viewers do.
    """
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(file.info["icc_profile"]))
        name = ImageCms.getProfileDescription(profile).strip()[:60] or "another profile"
        if "sRGB" in name:
            return image, None
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    except MemoryError:
        raise
    except Exception:  # many kinds for broken profiles; the picture may be sound
        return image, None
    assert converted is not None, "only conversion in place returns nothing"
    return converted, name


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where there is none or it cannot be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises many kinds for broken EXIF data; the picture may be sound
        return 1
    return orientation if isinstance(orientation, int) else 1
