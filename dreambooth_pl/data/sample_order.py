"""Whose turn it is: the order of pictures, crops and flips as a function of (seed, index)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dreambooth_pl.randomness import generator


class SampleOrder:
    """Whose turn it is: the view of the i-th sample, a function of (seed, i).

    Samples go through the pictures in rounds, each round a permutation of its own, so that every
    picture is seen equally often. With flips, every two rounds show each picture both ways; with k
    crops of a picture, its every k (with flips 2 k) turns show each of its crops equally often.

    Args:
        seed: the run's seed.
        kind: tells apart the turns of different kinds of picture under one seed.
        count: number of pictures.
        flips: whether pictures are shown flipped as well.
        crops: how many crops each picture has; None for one each.
    """

    def __init__(
        self, seed: int, kind: str, count: int, flips: bool, crops: Sequence[int] | None = None
    ) -> None:
        assert count > 0
        self.seed, self.kind, self.count, self.flips = seed, kind, count, flips
        self.crops = list(crops) if crops is not None else [1] * count
        assert len(self.crops) == count
        self.first_view = first_views(self.crops, flips)
        self._round = -1  # the one whose permutation is kept
        self._permutation: list[int] = []

    def __call__(self, index: int) -> int:
        """Return the view index: views are ordered by picture, then crop, then flip."""
        picture, way = self.turn(index)
        return self.first_view[picture] + way

    def turn(self, index: int) -> tuple[int, int]:
        """Return the picture and which of its views: its crop, or 2 * crop + flipped."""
        round_, position = divmod(index, self.count)
        if round_ != self._round:
            rng = generator(self.seed, "turns", self.kind, round_)
            self._permutation = torch.randperm(self.count, generator=rng).tolist()
            self._round = round_
        picture = self._permutation[position]
        if not self.flips:
            return picture, self._crop(picture, round_)
        rng = generator(self.seed, "flips", self.kind, round_ // 2)
        flipped_first = torch.randint(2, (self.count,), generator=rng)[picture].item()
        return picture, 2 * self._crop(picture, round_ // 2) + (flipped_first ^ round_ % 2)

    def _crop(self, picture: int, turn: int) -> int:
        crops = self.crops[picture]
        if crops == 1:
            return 0
        cycle, position = divmod(turn, crops)
        rng = generator(self.seed, "crop turns", self.kind, picture, cycle)
        return torch.randperm(crops, generator=rng)[position].item()


class BucketSampleOrder:
    """An order in which every `block` consecutive samples come from one bucket.

    Samples go in cycles of as many blocks as there are pictures, in an order of their own; a bucket
    of n pictures has n of them. Within a bucket its pictures follow each other as in `SampleOrder`,
    so that in a cycle every picture is seen `block` times.

    Args:
        seed, kind, flips, crops: as for `SampleOrder`.
        buckets: the pictures of each bucket, by their numbers; together all pictures.
        block: samples that must share a bucket: those of a batch.
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
        self._turns = [
            SampleOrder(seed, f"{kind} bucket {b}", len(bucket), flips, [crops[p] for p in bucket])
            for b, bucket in enumerate(self.buckets)
        ]

    def __call__(self, index: int) -> int:
        """Return the view index of the i-th sample."""
        cycle, position = divmod(index, self.count * self.block)
        slot, within = divmod(position, self.block)
        rng = generator(self.seed, "bucket turns", self.kind, cycle)
        order = torch.randperm(self.count, generator=rng).tolist()
        bucket = self._bucket_of[order[slot]]
        before = sum(self._bucket_of[number] == bucket for number in order[:slot])
        pictures = self.buckets[bucket]
        own = (cycle * len(pictures) + before) * self.block + within
        picture, way = self._turns[bucket].turn(own)
        return self.first_view[pictures[picture]] + way


def first_views(crops: Sequence[int], flips: bool) -> list[int]:
    """Return the index of each picture's first view, and last the number of all views.

    >>> first_views([1, 3, 1], flips=True)
    [0, 2, 8, 10]
    """
    firsts = [0]
    for count in crops:
        firsts.append(firsts[-1] + count * (1 + flips))
    return firsts
