"""The verdict below the tables and at the top of the report: one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dreambooth_pl.evaluation.bootstrap import Interval
from dreambooth_pl.evaluation.comparison import paired_difference
from dreambooth_pl.evaluation.protocols import DEFAULT, DREAMBENCH
from dreambooth_pl.evaluation.results import Result, references
from dreambooth_pl.evaluation.shares import share_kept, share_of_range, stack_score
from dreambooth_pl.training.best_checkpoint import balance

ENOUGH_IMAGES = 25
"""With so many images, two trainings of the same config seldom differ by 10 % of the range; see
docs/evaluate.md."""
_MORE = f"--protocol {DEFAULT}"
SUBJECT_SCORE, PROMPT_SCORE = "dino", "clip_t"


@dataclass(frozen=True, eq=False)
class Standing:
    """Where a result stands between floor and ceiling."""

    result: Result
    """What stands there."""
    gone: Interval | None
    """Share of the way from floor to ceiling in DINO; None without either, or without a way."""
    kept: Interval | None
    """Share of the floor's CLIP-T that is left; None without a floor."""


def verdict(results: Sequence[Result]) -> str:
    """Sum up results in one sentence; empty where there is nothing but ceiling and floor.

    Averages over subjects are summed up in place of the runs that they are of.
    """
    evaluated = [result for result in results if result.role == "run"]
    means = [result for result in evaluated if result.run is None and len(result.subjects) > 1]
    averaged = {id(own) for mean in means for own in mean.sets}
    others = [
        result
        for result in evaluated
        if result not in means and not averaged & {id(own) for own in result.sets}
    ]
    standings = [standing(result, results) for result in (*means, *others)]
    if not standings:
        return ""
    first = max(standings, key=lambda own: _weight(own, results))
    images = first.result.image_count
    about = f"{first.result.name} {_what(first, results)}, on {images} image{'s' * (images != 1)}"
    if images < ENOUGH_IMAGES:
        advice = "" if first.result.protocol in (DEFAULT, DREAMBENCH) else f" ({_MORE})"
        about += f": too few to tell runs apart, {ENOUGH_IMAGES} or more do{advice}"
    if len(standings) > 1:
        about = f"Best of {len(standings)}: {about}"
        alike = [s for s in standings if s is not first and not _apart(first.result, s.result)]
        if alike:
            some = f"{len(alike)} other{'s' * (len(alike) > 1)}"
            about += f"; {some} cannot be told apart from it"
    return about + "."


def standing(result: Result, results: Sequence[Result]) -> Standing:
    """Return where one of `results` stands between its floor and ceiling, which are there too."""
    ends = references(result, results)
    dino, clip_t = (
        {
            role: tensor
            for role, own in {"run": result, **ends}.items()
            if (tensor := stack_score(own.sets, name)) is not None
        }
        for name in (SUBJECT_SCORE, PROMPT_SCORE)
    )
    gone = kept = None
    if len(dino) == 3:
        gone = share_of_range(dino["run"], dino["floor"], dino["ceiling"])
    if clip_t.keys() >= {"run", "floor"}:
        kept = share_kept(clip_t["run"], clip_t["floor"])
    return Standing(result, gone, kept)


def _what(own: Standing, results: Sequence[Result]) -> str:
    """Say what a result does, from its verb on."""
    scores = own.result.row.scores
    floor = references(own.result, results).get("floor")
    if own.gone is not None:
        parts = [f"goes {_percent(own.gone)} of the way from floor to ceiling"]
    elif floor is not None:
        before = floor.row.scores[SUBJECT_SCORE].mean
        parts = [f"takes DINO from {before:.2f} to {scores[SUBJECT_SCORE].mean:.2f}"]
    else:
        parts = [f"has a DINO of {scores[SUBJECT_SCORE].mean:.2f}"]
    if own.kept is not None:
        parts.append(f"keeps {_percent(own.kept)} of prompt fidelity")
    elif PROMPT_SCORE in scores:
        parts.append(f"has a CLIP-T of {scores[PROMPT_SCORE].mean:.2f}")
    return ", ".join(parts)


def _weight(own: Standing, results: Sequence[Result]) -> float:
    """Weigh subject against prompt fidelity, as the choice of the best checkpoint does."""
    ends = {"run": own.result, **references(own.result, results)}
    means = {
        role: {name: score.mean for name, score in result.row.scores.items()}
        for role, result in ends.items()
    }
    if "floor" not in means or PROMPT_SCORE not in means["run"]:
        return means["run"][SUBJECT_SCORE]
    ceiling = means.get("ceiling")
    return balance(means["run"], means["floor"], ceiling if ceiling else None)


def _apart(first: Result, second: Result) -> bool:
    """Tell whether two results differ in DINO: in pairs, where their images are."""
    ours, theirs = (stack_score(own.sets, SUBJECT_SCORE) for own in (first, second))
    paired = (
        first.subjects == second.subjects
        and ours.shape == theirs.shape
        and ours.isnan().equal(theirs.isnan())
    )
    if paired:
        difference = paired_difference(ours, theirs)
        return difference.low > 0 or difference.high < 0
    a, b = (own.row.scores[SUBJECT_SCORE] for own in (first, second))
    return a.low > b.high or b.low > a.high


def _percent(share: Interval) -> str:
    """Write a share with its interval.

    >>> _percent(Interval(0.79, 0.54, 0.914)), _percent(Interval(0.5, math.nan, math.nan))
    ('79 % [54, 91]', '50 %')
    """
    value = f"{share.mean * 100:.0f} %"
    if math.isnan(share.low):
        return value
    return f"{value} [{share.low * 100:.0f}, {share.high * 100:.0f}]"
