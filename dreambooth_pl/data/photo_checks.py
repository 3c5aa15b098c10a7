"""What is probably wrong with photos that can be read: said before training, never refused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

MAX_SHAPE = 3.0
"""Sides that differ by more than this factor are pointed out."""
LOOK_SIZE = 512
"""Sides in pixels that the checks need of a photo at least, where it has them."""

_SHARPNESS_SIZE = 256
_MIN_SHARPNESS = 10.0
"""Variance of the Laplacian of greys 0 to 255 at a short side of 256 pixels, below which a photo
counts as blurred. Fourteen real photos of toys and dogs have 155 to 6500; the same photos blurred
by a Gaussian of 2 pixels at that size have 2 to 13, and of 1 pixel 11 to 160."""
_FLAT = 8  # greys by which a picture of one colour may differ, for the noise of a camera
_BLACK = 24
_NEAR_BITS = 9
"""Most of the 64 bits of a difference hash that differ between two copies of a photo. Of nineteen
photos, copies that are scaled, brightened or compressed again differ by 0 to 4, those trimmed by
2 % by up to 9; any two different photos differ by 15 or more."""
_NEAR_COLOURS = 12.0
"""Largest mean difference of colours 0 to 255, at equal brightness: flat pictures may have much
the same hash and not look alike. Copies as above differ by 0 to 9."""


@dataclass(frozen=True)
class Look:
    """What a photo looks like, as far as the checks go."""

    warnings: tuple[str, ...]
    """About this photo alone."""
    pixels: bytes
    """A digest of the whole photo's size and of the pixels that were looked at."""
    difference_hash: np.ndarray
    """Whether each of 8 x 8 pixels is brighter than its left neighbour."""
    colours: np.ndarray
    """The photo at 8 x 9 pixels, float32."""


def look_at(image: Image.Image, size: tuple[int, int], resolution: int) -> Look:
    """Look at one photo.

    Args:
        image: the photo, RGB, perhaps scaled down to no less than `LOOK_SIZE`.
        size: height and width of the whole photo in pixels.
        resolution: side in pixels of the images that are trained on.
    """
    digest = hashlib.blake2b(repr((size, image.size)).encode())
    digest.update(np.asarray(image).data)
    grey = image.convert("L")
    tiny = np.asarray(grey.resize((9, 8), Image.Resampling.BOX))
    colours = np.asarray(image.resize((9, 8), Image.Resampling.BOX), dtype=np.float32)
    warnings = [*_of_size(size, resolution), *_of_content(image, grey)]
    return Look(tuple(warnings), digest.digest(), tiny[:, 1:] > tiny[:, :-1], colours)


def find_duplicates(looks: Sequence[Look]) -> list[tuple[int, int, str]]:
    """Return (position of a photo, that of an earlier one like it, in what way they are alike)."""
    found = []
    first: dict[bytes, int] = {}
    hashes = np.array([look.difference_hash.ravel() for look in looks])
    for later, look in enumerate(looks):
        if look.pixels in first:
            found.append((later, first[look.pixels], "shows the same picture as"))
            continue
        first[look.pixels] = later
        near = np.flatnonzero((hashes[:later] != hashes[later]).sum(1) <= _NEAR_BITS)
        alike = (n for n in near.tolist() if _colours_apart(look, looks[n]) <= _NEAR_COLOURS)
        earlier = next(alike, None)
        if earlier is not None:
            found.append((later, earlier, "is nearly the same picture as"))
    return found


def _colours_apart(one: Look, other: Look) -> float:
    """Return the mean difference of two photos' colours, made equally bright."""
    brighter = max(float(one.colours.mean()), 1.0) / max(float(other.colours.mean()), 1.0)
    return float(np.abs(one.colours - brighter * other.colours).mean())


def _of_size(size: tuple[int, int], resolution: int) -> list[str]:
    height, width = size
    found = []
    if 2 * min(size) < resolution:
        found.append(
            f"has {width} x {height} pixels, less than half of data.resolution {resolution}: it "
            "is enlarged, and that blur is learnt; take a larger copy or a lower resolution"
        )
    if max(size) > MAX_SHAPE * min(size):
        found.append(
            f"has {width} x {height} pixels, a shape beyond {MAX_SHAPE:g} : 1, of which a crop "
            "shows a small part; crop it to the subject"
        )
    return found


def _of_content(image: Image.Image, grey: Image.Image) -> list[str]:
    extrema = image.resize((64, 64), Image.Resampling.BOX).getextrema()
    if max(high for _, high in extrema) < _BLACK:
        return ["is black all over; remove it"]
    if all(high - low <= _FLAT for low, high in extrema):
        return ["shows one colour all over; remove it"]
    if _sharpness(grey) < _MIN_SHARPNESS:
        return ["is blurred so much that no detail can be learnt from it; take a sharper one"]
    return []


def _sharpness(grey: Image.Image) -> float:
    """Return the variance of the Laplacian at a fixed size."""
    scale = _SHARPNESS_SIZE / min(grey.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in grey.size)
        grey = grey.resize((width, height), Image.Resampling.LANCZOS)
    values = np.asarray(grey, dtype=np.float32)
    if min(values.shape) < 3:
        return _MIN_SHARPNESS  # nothing to tell
    middle = values[1:-1, 1:-1]
    around = values[1:-1, :-2] + values[1:-1, 2:] + values[:-2, 1:-1] + values[2:, 1:-1]
    return float((around - 4 * middle).var())
