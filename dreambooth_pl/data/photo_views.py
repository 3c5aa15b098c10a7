"""How the photos of a subject are looked at: in which sizes, crops and with which masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dreambooth_pl.data.buckets import bucket_sizes, nearest_bucket
from dreambooth_pl.data.masks import find_masks
from dreambooth_pl.data.photos import photo_size
from dreambooth_pl.data.views import View, random_crops
from dreambooth_pl.errors import UserError

MAX_CROPS = 64
"""Most crops of one photo: each is encoded before the first step and kept in memory."""


@dataclass(frozen=True)
class PhotoViews:
    """Makes the views of photos, not flipped; how, its fields say."""

    seed: int
    """Keys random crops."""
    resolution: int
    """Side of a square view; with buckets the square root of a view's area, about."""
    num_crops: int | None = None
    """Random crops of each photo; None for the centre crop alone."""
    bucket_step: int | None = None
    """What the sides of buckets are multiples of; None for square views."""
    mask_dir: Path | None = None
    """Where the masks are; None for beside the photos, if there."""
    mask_background_weight: float = 0.0
    """Weight of the loss where a mask is black."""

    def __call__(self, photos: Sequence[Path], prompts: Sequence[str]) -> list[list[View]]:
        """Return the views of each photo, as many as it has crops that its mask lets count.

        Raises:
            UserError: a mask is missing, unreadable, of another shape than its photo, or black.
        """
        masks = find_masks(photos, self.mask_dir)
        pictures = zip(photos, prompts, masks, strict=True)
        return [self._views(*picture) for picture in pictures]

    def _views(self, photo: Path, prompt: str, mask: Path | None) -> list[View]:
        shape = photo_size(photo)
        size = (self.resolution, self.resolution)
        if self.bucket_step is not None:
            buckets = bucket_sizes(self.resolution, self.bucket_step)
            size = nearest_bucket(shape, buckets, self.resolution)
        crops = [(0.5, 0.5)]
        if self.num_crops is not None:
            crops = random_crops(self.seed, photo.name, shape, size, self.num_crops)
        view = View(photo, prompt, size=size, mask=mask)
        view = replace(view, mask_background_weight=self.mask_background_weight)
        views = [replace(view, centering=crop) for crop in crops]
        if mask is not None:  # a crop that misses the subject has nothing to learn from
            views = [view for view in views if view.loss_weights(self.resolution).any()]
        if not views:
            raise UserError(
                f"{mask}: is black everywhere in the part of {photo.name} that is trained on; "
                "paint the subject white, or set data.mask_background_weight above 0."
            )
        return views

    def remarks(self, views: Sequence[Sequence[View]], flips: bool) -> tuple[str, ...]:
        """Return lines on buckets, flips, random crops and masks, as far as there are any.

        Args:
            views: what calling this returned.
            flips: whether each view is also shown flipped.
        """
        lines = []
        if self.bucket_step is not None:
            sizes = [of_photo[0].size for of_photo in views]
            counts = [f"{sizes.count(size)} at {size[1]} x {size[0]}" for size in sorted({*sizes})]
            lines.append(f"buckets (width x height): {', '.join(counts)}")
        if flips or self.num_crops is not None:
            crops = sum(map(len, views))
            source = "1 photo" if len(views) == 1 else f"{len(views)} photos"
            if self.num_crops is not None:
                source = f"{crops} random crops of {source}"
            lines.append(
                f"distinct views, each encoded once: {crops * (1 + flips)}, from {source}"
                + (", also flipped" if flips else "")
            )
        if any(of_photo[0].mask for of_photo in views):
            lines.append(f"masks: {len(views)}; background weighs {self.mask_background_weight:g}")
        return tuple(lines)
