"""Paired differences against scipy's bootstrap and an independent one in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.bootstrap import interval
from dreambooth_pl.evaluation.comparison import compare, paired_difference


def two_methods(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores that share what is hard about a subject or prompt; the first is 0.02 better."""
    generator = torch.Generator().manual_seed(0)
    hardness = torch.randn(shape[0], shape[1], 1, generator=generator) * 0.1
    noise = torch.randn(2, *shape, generator=generator) * 0.02
    return 0.6 + hardness + noise[0] + 0.02, 0.6 + hardness + noise[1]


def test_several_subjects_agree_with_scipys_paired_bootstrap() -> None:
    first, second = two_methods(30, 5, 4)
    ours = paired_difference(first, second)
    theirs = scipy.stats.bootstrap(
        (first.double().mean(dim=(1, 2)).numpy(), second.double().mean(dim=(1, 2)).numpy()),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        n_resamples=10_000,
        method="percentile",
        paired=True,
        rng=1,
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.mean == pytest.approx((first.mean() - second.mean()).item(), abs=1e-6)
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)
    assert ours.low > 0, "the better method is seen to be better"
    assert interval(first).low < interval(second).high, "which its own interval does not show"


def test_one_subject_agrees_with_resampling_prompts_in_numpy() -> None:
    first, second = two_methods(1, 25, 4)
    ours = paired_difference(first, second)
    per_prompt = (first - second)[0].double().numpy().mean(axis=1)
    draws = np.random.default_rng(7).choice(per_prompt, (10_000, 25)).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    assert ours.low == pytest.approx(low, abs=0.05 * (high - low))
    assert ours.high == pytest.approx(high, abs=0.05 * (high - low))


def test_the_seed_decides_the_draws_and_nothing_else_does() -> None:
    first, second = two_methods(1, 9, 4)
    one = paired_difference(first, second, seed=1)
    assert one == paired_difference(first, second, seed=1)
    assert one != paired_difference(first, second, seed=2)
    other_way = paired_difference(second, first, seed=1)
    assert (other_way.mean, other_way.low) == pytest.approx((-one.mean, -one.high))


def test_compare_takes_the_scores_that_both_have() -> None:
    first, second = two_methods(1, 8, 4)
    second_clip = second.clone()
    first_scores = {"dino": first, "clip_t": first, "drift": first}
    found = compare("http", "sks", "probes", first_scores, {"dino": second, "clip_t": second_clip})
    assert (found.first, found.second) == ("http", "sks")
    assert found.difference.run == "http - sks"
    assert found.difference.n_images == 32
    assert found.difference.scores["dino"] == paired_difference(first, second)
    assert found.difference.scores.keys() == {"dino", "clip_t"}


def test_missing_images_are_missing_on_both_sides() -> None:
    first, second = two_methods(2, 3, 4)
    first[0, 2, 3] = second[0, 2, 3] = math.nan
    differences = first - second
    expected = (differences[0].nanmean() + differences[1].mean()) / 2
    assert paired_difference(first, second).mean == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("change", ["a prompt less", "an image less"])
def test_different_images_are_refused(change: str) -> None:
    first, second = two_methods(1, 8, 4)
    if change == "a prompt less":
        second = second[:, :7]
    else:
        second[0, 0, 3] = math.nan
    with pytest.raises(UserError, match=r"A and B drew different images \(32 images"):
        compare("A", "B", "probes", {"dino": first}, {"dino": second})
    with pytest.raises(UserError, match="no score in common"):
        compare("A", "B", "probes", {"dino": first}, {"clip_i": first})
