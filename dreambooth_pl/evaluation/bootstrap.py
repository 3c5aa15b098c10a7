"""Means and 95 % intervals of score tensors, by the percentile bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BOOTSTRAP_DRAWS = 10_000
BOOTSTRAP_SEED = 0
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Interval:
    """A mean with its 95 % interval; the ends are NaN where a single unit allows none."""

    mean: float
    low: float
    high: float

    def __eq__(self, other: object) -> bool:
        """Whether the numbers are equal; NaN equals NaN."""
        return isinstance(other, Interval) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash(tuple(self.as_dict().values()))

    def as_dict(self) -> dict[str, float | None]:
        """`{"mean", "low", "high"}`; NaN becomes None, for JSON knows no NaN."""
        values = {"mean": self.mean, "low": self.low, "high": self.high}
        return {key: None if math.isnan(value) else value for key, value in values.items()}


def interval(scores: Tensor, seed: int = BOOTSTRAP_SEED) -> Interval:
    """Mean and bootstrap interval of a score tensor [subject, prompt, image].

    The mean is over a subject's images, then over subjects (macro). The bootstrap resamples
    subjects; with one subject its prompts, each with all of its images; with one prompt its images.

    Args:
        scores: NaN where there is no image.
        seed: of the resamplings.
    """
    totals, counts = units(scores)
    return bootstrap_interval(totals, counts, seed)


def units(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the bootstrap of a score tensor [subject, prompt, image] resamples.

    Returns:
        For each of n units the sum of its scores and how many these are, both float64 [n]: one mean
        per subject; with one subject a sum per prompt; with one prompt each image.
    """
    assert scores.ndim == 3, "a score tensor is [subject, prompt, image]"
    present = ~scores.isnan()
    values = scores.double().nan_to_num(0.0)
    n_subjects, n_prompts, _ = scores.shape
    if n_subjects > 1:
        means = values.sum(dim=(1, 2)) / present.sum(dim=(1, 2))
        return means, torch.ones_like(means)
    if n_prompts > 1:
        return values[0].sum(dim=1), present[0].sum(dim=1).double()
    images = values[0, 0][present[0, 0]]
    return images, torch.ones_like(images)


def bootstrap_interval(
    totals: Tensor, counts: Tensor | None = None, seed: int = BOOTSTRAP_SEED
) -> Interval:
    """Percentile bootstrap (Efron 1979) of `sum(totals) / sum(counts)` over units.

    Args:
        totals: [n] sum of each unit's scores.
        counts: [n] how many scores each sum holds, at least 1; None for 1 each, a plain mean.
        seed: of the resamplings.

    Returns:
        The value on all units, and the 2.5 % and 97.5 % quantiles over 10,000 resamplings of the
        units with a fixed seed: the same numbers every time. One unit has no interval.
    """
    totals = totals.double()
    counts = torch.ones_like(totals) if counts is None else counts.double()
    assert totals.ndim == 1 and totals.shape == counts.shape and len(totals) > 0
    assert (counts > 0).all(), "a unit without scores"
    return bootstrap((totals, counts), lambda total, count: total / count, seed)


def bootstrap(
    sums: Sequence[Tensor], statistic: Callable[..., Tensor], seed: int = BOOTSTRAP_SEED
) -> Interval:
    """Percentile bootstrap of a function of sums over units; see `bootstrap_interval`.

    Args:
        sums: float64 [n] each: what the units add to each of the sums.
        statistic: takes each of the sums as a tensor of any shape, and returns that shape. NaN
            where it has no value, and then there is no interval.
        seed: of the resamplings.
    """
    count = len(sums[0])
    value = statistic(*(own.sum() for own in sums)).item()
    if count == 1:
        return Interval(value, math.nan, math.nan)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(count, (BOOTSTRAP_DRAWS, count), generator=generator)
    values = statistic(*(own[draws].sum(dim=1) for own in sums))
    if values.isnan().any():
        return Interval(value, math.nan, math.nan)
    tail = (1 - CONFIDENCE) / 2
    low, high = torch.quantile(values, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(value, low, high)
