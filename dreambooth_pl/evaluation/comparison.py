"""Is one method better than another? Differences image by image, with bootstrap intervals.

Two methods that drew the same prompts from the same seeds are compared in pairs: what is hard about
a prompt or a seed is hard for both and cancels, so that the interval of the difference is narrower
than the two methods' own intervals suggest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.intervals import BOOTSTRAP_SEED, Interval, Row, interval


@dataclass(frozen=True)
class Comparison:
    """Two methods and how far apart they are.

    Attributes:
        first, second: names of the methods.
        difference: scores of the first less the second's; ``run`` says so.
    """

    first: str
    second: str
    difference: Row


def paired_difference(first: Tensor, second: Tensor, seed: int = BOOTSTRAP_SEED) -> Interval:
    """Mean of ``first - second`` and its interval by paired bootstrap (percentile, 10,000 draws).

    Subjects are resampled; with one subject its prompts; with one prompt its images. A unit that is
    drawn is drawn for both.

    Args:
        first, second: score tensors [subject, prompt, image] over the same images, NaN where there
            is none.
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
        first, second: names.
        protocol: name of the prompts and seeds that both drew.
        first_scores, second_scores: by name of a ``Row``'s field, score tensors [subject, prompt,
            image]: the same subjects, prompts and seeds in the same order.

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
    scores = {"dino": None, "clip_i": None, "clip_t": None} | differences
    n_images = max(int((~first_scores[name].isnan()).sum()) for name in common)
    row = Row(run=f"{first} - {second}", protocol=protocol, n_images=n_images, **scores)
    return Comparison(first, second, row)


def _size(scores: Tensor) -> str:
    subjects, prompts, _ = scores.shape
    images = int((~scores.isnan()).sum())
    return f"{images} images of {subjects} subject(s) x {prompts} prompts"
