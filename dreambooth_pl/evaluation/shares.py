"""Two numbers that sum a run up: how far it has come from floor to ceiling, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dreambooth_pl.evaluation.bootstrap import Interval, bootstrap, units
from dreambooth_pl.evaluation.score_set import ScoreSet, stack


def share_of_range(run: Tensor, floor: Tensor, ceiling: Tensor) -> Interval | None:
    """Return the share of the way from floor to ceiling that a run has gone, 1 for all of it.

    The interval resamples subjects, with their photos; with one subject its prompts, while the
    photos stay as they are. Run and floor take the same resampled units.

    Args:
        run: score tensor [subject, prompt, image], NaN where there is no image.
        floor: of the untuned base on the same prompts.
        ceiling: of the photos of the same subjects.

    Returns:
        None where the floor is not below the ceiling: there is no way to go.
    """
    (top, n_top), (own, n_own), (low, n_low) = units(ceiling), units(run), units(floor)
    if len(run) == 1:
        top = torch.full_like(own, (top.sum() / n_top.sum()).item())
        n_top = torch.ones_like(own)
    if top.sum() / n_top.sum() <= low.sum() / n_low.sum():
        return None

    def share(own: Tensor, n_own: Tensor, low: Tensor, n_low: Tensor, *of_top: Tensor) -> Tensor:
        top, n_top = of_top
        below = low / n_low
        way = top / n_top - below
        return torch.where(way > 0, (own / n_own - below) / way, math.nan)

    return _paired([own, n_own, low, n_low, top, n_top], share)


def share_kept(run: Tensor, floor: Tensor) -> Interval | None:
    """Return what is left of the floor's score, 1 for all of it; intervals as `share_of_range`.

    Returns:
        None where the floor's score is not above 0.
    """
    (own, n_own), (low, n_low) = units(run), units(floor)
    if low.sum() <= 0:
        return None
    return _paired(
        [own, n_own, low, n_low],
        lambda own, n_own, low, n_low: torch.where(
            low > 0, (own / n_own) / (low / n_low), math.nan
        ),
    )


def stack_score(sets: Sequence[ScoreSet], name: str) -> Tensor | None:
    """Return a score of sets, whose subjects come in the order of their names; see `stack`."""
    return stack(sorted(sets, key=lambda own: own.subject), name)


def _paired(sums: Sequence[Tensor], statistic: Callable[..., Tensor]) -> Interval:
    """Bootstrap units of several sets together; without partners, there is no interval."""
    if len({len(own) for own in sums}) > 1:
        value = statistic(*(own.sum() for own in sums)).item()
        return Interval(value, math.nan, math.nan)
    return bootstrap(sums, statistic)
