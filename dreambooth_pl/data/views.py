"""A view: one way of looking at one picture, and which ways of a photo there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dreambooth_pl.data.masks import prepare_mask, read_mask
from dreambooth_pl.data.photos import photo_size, prepare, read_photo, to_tensor
from dreambooth_pl.files.pictures import once_per_file
from dreambooth_pl.randomness import generator


@dataclass(frozen=True)
class View:
    """One way of looking at one picture, with its prompt: encoded once, sampled often."""

    path: Path
    prompt: str
    flip: bool = False
    """Whether left and right are swapped, after cropping."""
    size: tuple[int, int] | None = None
    """Height and width in pixels; None for the square of the resolution."""
    centering: tuple[float, float] = (0.5, 0.5)
    """Where in the overhang the crop lies, (x, y) in [0, 1]; see `photos.prepare`."""
    mask: Path | None = None
    """The photo's mask, white where the subject is."""
    mask_background_weight: float = 0.0
    """Weight of the loss where the mask is black; 1 where it is white."""

    def pixels(self, resolution: int, photo: Image.Image | None = None) -> Tensor:
        """Return float32 [3, height, width] in [-1, 1].

        Args:
            resolution: side in pixels of a view without a size of its own.
            photo: what `read_photo` returns for the view's path, if it has been read already.
        """
        if photo is None:
            photo = read_photo(self.path)
        image = prepare(photo, self.size or resolution, self.centering)
        pixels = to_tensor(image)
        return pixels.flip(-1) if self.flip else pixels

    def loss_weights(self, resolution: int) -> Tensor | None:
        """Return the weight of each pixel in the loss, float32 [1, height, width], None for 1."""
        if self.mask is None:
            return None
        size = self.size or (resolution, resolution)
        mask = prepare_mask(_last_mask(self.mask, self.path), size, self.centering)
        weights = mask + (1 - mask) * self.mask_background_weight
        return weights.flip(-1) if self.flip else weights

    @property
    def original_size(self) -> tuple[int, int]:
        """Height and width in pixels of the upright photo as it lies on the disk."""
        return photo_size(self.path)

    def crop_top_left(self, resolution: int) -> tuple[int, int]:
        """Return (y, x) of the view's upper left corner in the scaled (and flipped) photo."""
        size = self.size or (resolution, resolution)
        over_y, over_x = overhang(self.original_size, size)
        x, y = self.centering
        left = round(over_x * x)
        return round(over_y * y), over_x - left if self.flip else left


def overhang(photo: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return how many pixels, down and across, a scaled photo has more than the view needs.

    Both arguments are (height, width); the photo is scaled until it just covers the size, so at
    least one of the two numbers is 0.

    >>> overhang((300, 400), (150, 150))
    (0, 50)
    """
    scale = max(size[0] / photo[0], size[1] / photo[1])
    return round(photo[0] * scale) - size[0], round(photo[1] * scale) - size[1]


def random_crops(
    seed: int, name: str, photo: tuple[int, int], size: tuple[int, int], count: int
) -> list[tuple[float, float]]:
    """Return up to `count` distinct crops of a photo, as centerings, keyed by seed and file name.

    A photo that has no overhang (a square one for a square view) has a single crop; in general as
    many as there are pixels of overhang, and one.
    """
    down, across = overhang(photo, size)
    positions = max(down, across) + 1
    # A name that is no UTF-8 cannot be hashed as it is.
    printable = name.encode("utf-8", "backslashreplace").decode("utf-8")
    rng = generator(seed, "crops", printable)
    chosen = torch.randperm(positions, generator=rng)[:count].tolist()
    if positions == 1:
        return [(0.5, 0.5)]
    shares = [position / (positions - 1) for position in chosen]
    return [(share, 0.5) if across >= down else (0.5, share) for share in shares]


# The views of a photo are looked at one after another: with the last mask kept, each is read once,
# and not once for each crop and flip.
_last_mask = once_per_file(1)(read_mask)
