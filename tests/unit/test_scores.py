"""Score tensors by hand, bootstrap intervals against scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from dreambooth_pl.evaluation.bootstrap import Interval, bootstrap_interval, interval
from dreambooth_pl.evaluation.score_set import score_tensor


def test_score_tensor_gathers_images_of_a_prompt_in_order() -> None:
    tensor = score_tensor(
        torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]),
        prompts=["a", "b", "a", "b", "a"],
        subjects=["x", "x", "x", "y", "y"],
    )
    nan = math.nan
    expected = torch.tensor([[[1, 3], [2, nan]], [[4, nan], [5, nan]]])
    torch.testing.assert_close(tensor, expected, equal_nan=True)


def test_score_tensor_refuses_a_missing_score() -> None:
    with pytest.raises(AssertionError, match="missing"):
        score_tensor(torch.tensor([1.0, math.nan]), ["a", "a"])


def test_bootstrap_agrees_with_scipy() -> None:
    scores = torch.randn(30, generator=torch.Generator().manual_seed(0)).double() * 0.1 + 0.6
    ours = bootstrap_interval(scores)
    theirs = scipy.stats.bootstrap(
        (scores.numpy(),), np.mean, n_resamples=10_000, method="percentile", rng=1
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.mean == pytest.approx(scores.mean().item(), abs=1e-9)
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_bootstrap_of_unequal_units_agrees_with_scipy() -> None:
    counts = torch.tensor([4, 1, 1, 1, 2, 3, 1, 1, 2, 2])
    means = torch.linspace(0.4, 0.8, 10, dtype=torch.float64)
    ours = bootstrap_interval(means * counts, counts)
    theirs = scipy.stats.bootstrap(
        ((means * counts).numpy(), counts.numpy()),
        lambda t, c, axis: t.sum(axis) / c.sum(axis),
        n_resamples=10_000,
        method="percentile",
        paired=True,
        rng=1,
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_intervals_repeat_exactly() -> None:
    scores = torch.rand(1, 9, 4, generator=torch.Generator().manual_seed(3))
    assert interval(scores) == interval(scores)


def test_one_subject_is_resampled_over_prompts() -> None:
    scores = torch.tensor([[[0.1, 0.2, 0.3], [0.9, math.nan, math.nan]]])
    result = interval(scores)
    assert result.mean == pytest.approx(1.5 / 4), "every image counts once"
    # Two prompts: the resamplings are (a, a), (a, b), (b, a), (b, b).
    assert result.low == pytest.approx(0.2, abs=1e-6)
    assert result.high == pytest.approx(0.9, abs=1e-6)


def test_several_subjects_are_averaged_over_subjects_first() -> None:
    nan = math.nan
    scores = torch.tensor([[[0.2, 0.4], [0.6, 0.8]], [[1.0, nan], [nan, nan]]])
    result = interval(scores)
    assert result.mean == pytest.approx((0.5 + 1.0) / 2)
    assert (result.low, result.high) == (pytest.approx(0.5), pytest.approx(1.0))


def test_one_prompt_is_resampled_over_its_images() -> None:
    result = interval(torch.tensor([[[0.0, 1.0]]]))
    assert (result.mean, result.low, result.high) == (0.5, 0, 1)


def test_one_image_has_a_mean_and_no_interval() -> None:
    result = interval(torch.tensor([[[0.25]]]))
    assert result.as_dict() == {"mean": 0.25, "low": None, "high": None}


def test_order_of_subjects_does_not_change_the_mean() -> None:
    scores = torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(4))
    assert interval(scores).mean == pytest.approx(interval(scores.flip(0)).mean, abs=1e-12)


def test_interval_dictionary_has_the_documented_keys() -> None:
    assert Interval(0.5, 0.25, 0.75).as_dict() == {"mean": 0.5, "low": 0.25, "high": 0.75}
