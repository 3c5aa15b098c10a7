"""The sample order: which picture, crop and flip each sample shows, a function of (seed, index).

The strings that key the generators are part of every run's results. Renaming one changes the order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dreambooth_pl.randomness import generator


class SampleOrder:
    """Maps the index of a sample to the index of its view.

    Samples pass through the pictures again and again, each pass in a permutation of its own, so
    every picture is shown equally often. With flips, every two passes show each picture both ways.
    With k crops of a picture, every k passes (2 k with flips) show each of its crops equally often.

    Args:
        seed: The run's seed.
        kind: Name of the kind of picture; each kind has an order of its own under one seed.
        count: Number of pictures.
        flips: Whether pictures are shown flipped as well.
        crops: Number of crops of each picture; None for one each.
    """

    def __init__(
        self, seed: int, kind: str, count: int, flips: bool, crops: Sequence[int] | None = None
    ) -> None:
        assert count > 0
        self.seed, self.kind, self.count, self.flips = seed, kind, count, flips
        self.crops = list(crops) if crops is not None else [1] * count
        assert len(self.crops) == count
        self.first_view = first_views(self.crops, flips)
        self._pass = -1  # the one whose permutation is kept
        self._permutation: list[int] = []

    def __call__(self, index: int) -> int:
        """Return the view index of a sample. Views are ordered by picture, then crop, then flip."""
        picture, view = self.picture_and_view(index)
        return self.first_view[picture] + view

    def picture_and_view(self, index: int) -> tuple[int, int]:
        """Return a sample's picture and the number of the view among that picture's views.

        That number is the crop without flips, and 2 * crop + flipped with flips.
        """
        pass_, position = divmod(index, self.count)
        if pass_ != self._pass:
            rng = generator(self.seed, "turns", self.kind, pass_)
            self._permutation = torch.randperm(self.count, generator=rng).tolist()
            self._pass = pass_
        picture = self._permutation[position]
        if not self.flips:
            return picture, self._crop(picture, pass_)
        rng = generator(self.seed, "flips", self.kind, pass_ // 2)
        flipped_first = torch.randint(2, (self.count,), generator=rng)[picture].item()
        return picture, 2 * self._crop(picture, pass_ // 2) + (flipped_first ^ pass_ % 2)

    def _crop(self, picture: int, showing: int) -> int:
        """Return the crop of a picture at its `showing`-th showing; both ways are one showing."""
        crops = self.crops[picture]
        if crops == 1:
            return 0
        cycle, position = divmod(showing, crops)
        rng = generator(self.seed, "crop turns", self.kind, picture, cycle)
        return torch.randperm(crops, generator=rng)[position].item()


class BucketSampleOrder:
    """A sample order in which every `block` consecutive samples come from one bucket.

    A cycle has as many blocks as there are pictures, in a permutation of its own. A bucket of n
    pictures has n of these blocks, and its pictures follow each other as in `SampleOrder`, so a
    cycle shows every picture `block` times.

    Args:
        seed: The run's seed.
        kind: Name of the kind of picture; each kind has an order of its own under one seed.
        buckets: Numbers of the pictures in each bucket; together all pictures.
        flips: Whether pictures are shown flipped as well.
        crops: Number of crops of each picture.
        block: Number of samples that must share a bucket: those of a batch.
    """

    def __init__(
        self,
        seed: int,
        kind: str,
        buckets: Sequence[Sequence[int]],
        flips: bool,
        crops: Sequence[int],
        block: int,
    ) -> None:
        self.seed, self.kind, self.block = seed, kind, block
        self.buckets = [list(bucket) for bucket in buckets]
        self.count = sum(map(len, self.buckets))
        self.first_view = first_views(crops, flips)
        self._bucket_of = [b for b, bucket in enumerate(self.buckets) for _ in bucket]
        self._orders = [
            SampleOrder(seed, f"{kind} bucket {b}", len(bucket), flips, [crops[p] for p in bucket])
            for b, bucket in enumerate(self.buckets)
        ]

    def __call__(self, index: int) -> int:
        """Return the view index of a sample. Views are ordered by picture, then crop, then flip."""
        cycle, position = divmod(index, self.count * self.block)
        slot, within = divmod(position, self.block)
        rng = generator(self.seed, "bucket turns", self.kind, cycle)
        slots = torch.randperm(self.count, generator=rng).tolist()
        bucket = self._bucket_of[slots[slot]]
        before = sum(self._bucket_of[number] == bucket for number in slots[:slot])
        pictures = self.buckets[bucket]
        index_in_bucket = (cycle * len(pictures) + before) * self.block + within
        picture, view = self._orders[bucket].picture_and_view(index_in_bucket)
        return self.first_view[pictures[picture]] + view


def first_views(crops: Sequence[int], flips: bool) -> list[int]:
    """Return the index of each picture's first view, followed by the number of all views.

    >>> first_views([1, 3, 1], flips=True)
    [0, 2, 8, 10]
    """
    firsts = [0]
    for count in crops:
        firsts.append(firsts[-1] + count * (1 + flips))
    return firsts
