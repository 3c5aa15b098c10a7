"""Is one method better than another? Differences image by image, with bootstrap intervals.

Two methods that generated the same prompts from the same seeds are compared in pairs: what is hard
about a prompt or a seed is hard for both and cancels, so that the interval of the difference is
narrower than the two methods' own intervals suggest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.bootstrap import BOOTSTRAP_SEED, Interval, interval
from dreambooth_pl.evaluation.results import Result, Row
from dreambooth_pl.evaluation.score_set import ScoreSet, stack_all
from dreambooth_pl.metrics.scores import SCORES

# Both methods start from one base: its PRES cancels, and the difference of changes is that of PRES.
_NOT_COMPARED = ("pres_base", "pres_change")


@dataclass(frozen=True)
class Comparison:
    """Two methods and how far apart they are."""

    first: str
    """Name of the first method."""
    second: str
    """Name of the second method."""
    difference: Row
    """Scores of the first less the second's; its `run` says so."""


def paired_difference(first: Tensor, second: Tensor, seed: int = BOOTSTRAP_SEED) -> Interval:
    """Mean of `first - second` and its interval by paired percentile bootstrap.

    Subjects are resampled; with one subject its prompts; with one prompt its images. Both
    methods take the same resampled units.

    Args:
        first: score tensor [subject, prompt, image], NaN where there is no image.
        second: the same of the other method, over the same images.
        seed: of the bootstrap.

    >>> paired_difference(torch.full((1, 2, 2), 0.5), torch.full((1, 2, 2), 0.25))
    Interval(mean=0.25, low=0.25, high=0.25)
    """
    assert first.shape == second.shape, "score tensors of the same images"
    assert torch.equal(first.isnan(), second.isnan()), "an image lacks its partner"
    return interval(first.double() - second.double(), seed)


def compare(
    first: str,
    second: str,
    protocol: str,
    first_scores: Mapping[str, Tensor],
    second_scores: Mapping[str, Tensor],
) -> Comparison:
    """Compare two methods by every score that both have.

    Args:
        first: name of a method.
        second: name of the other.
        protocol: name of the prompts and seeds of both.
        first_scores: by the score's name, score tensors [subject, prompt, image].
        second_scores: the same of the other method: the same subjects, prompts and seeds in the
            same order.

    Raises:
        UserError: the scores are about different images, or there is no score in common.
    """
    common = [name for name in first_scores if name in second_scores]
    if not common:
        raise UserError(f"{first} and {second} have no score in common. Evaluate both anew.")
    differences = {}
    for name in common:
        ours, theirs = first_scores[name], second_scores[name]
        if ours.shape != theirs.shape or not torch.equal(ours.isnan(), theirs.isnan()):
            raise UserError(
                f"{first} and {second} drew different images ({_size(ours)} against "
                f"{_size(theirs)}), so they cannot be compared in pairs. Evaluate both under one "
                "protocol on the same subjects."
            )
        differences[name] = paired_difference(ours, theirs)
    n_images = max(int((~first_scores[name].isnan()).sum()) for name in common)
    return Comparison(first, second, Row(f"{first} - {second}", protocol, n_images, differences))


def compare_results(
    first: str, first_results: Sequence[Result], second: str, second_results: Sequence[Result]
) -> Comparison:
    """Compare two methods, each with a result per subject (and run of it), in pairs.

    Raises:
        UserError: they are not about the same subjects and prompts.
    """
    mine, other = (
        sorted((own for result in results for own in result.sets), key=lambda own: own.subject)
        for results in (first_results, second_results)
    )
    if [(own.subject, own.templates) for own in mine] != [
        (own.subject, own.templates) for own in other
    ]:
        raise UserError(
            f"{first} and {second} are not about the same subjects and prompts ("
            f"{_content(mine)} against {_content(other)}), so they cannot be compared in pairs."
        )
    names = [name for name in SCORES if name not in _NOT_COMPARED]
    protocol = first_results[0].protocol
    return compare(first, second, protocol, stack_all(mine, names), stack_all(other, names))


def _content(sets: Sequence[ScoreSet]) -> str:
    return ", ".join(f"{own.subject}: {len(own.templates)} prompts" for own in sets)


def _size(scores: Tensor) -> str:
    subjects, prompts, _ = scores.shape
    images = int((~scores.isnan()).sum())
    return f"{images} images of {subjects} subject(s) x {prompts} prompts"
