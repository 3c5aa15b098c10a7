"""Rows from score tensors, against means taken by hand; tensors on disk and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import scipy.stats
import torch

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.lines import Line, averages, compare_lines
from dreambooth_pl.evaluation.record import read_sets, save_sets
from dreambooth_pl.evaluation.score_tensors import ScoreSet, row_of, score_set, stack
from dreambooth_pl.reporting.output import read_lines, save_lines


def scores_of(subject: str, live: bool, offset: float, class_images: int = 3) -> ScoreSet:
    """Two settings of two images, two properties and a thing of one."""
    values = torch.tensor([0.1, 0.3, 0.2, 0.6, 0.9, 0.5, 0.2]) + offset
    templates = ["in snow", "in snow", "at sea", "at sea", "red", "wet", "hat"]
    kinds = ["setting"] * 4 + ["property"] * 2 + ["thing"]
    return score_set(
        subject,
        live,
        templates,
        kinds,
        {"dino": values, "clip_i": values / 2, "clip_t": values / 4, "copy": values},
        {"in snow": 0.5 + offset, "at sea": 0.7 + offset},
        {"pres": torch.linspace(0.2, 0.4, class_images) + offset} if class_images else None,
    )


def test_scores_are_arranged_by_prompt() -> None:
    own = scores_of("dog", True, 0.0)
    assert own.templates == ("in snow", "at sea", "red", "wet", "hat")
    assert own.kinds == ("setting", "setting", "property", "property", "thing")
    nan = float("nan")
    expected = torch.tensor([[0.1, 0.3], [0.2, 0.6], [0.9, nan], [0.5, nan], [0.2, nan]])
    torch.testing.assert_close(own.scores["dino"], expected, equal_nan=True)
    torch.testing.assert_close(
        own.scores["div"], torch.tensor([[0.5], [0.7], [nan], [nan], [nan]]), equal_nan=True
    )
    assert own.n_images == 7


def test_a_row_of_one_subject() -> None:
    row = row_of("it", "trial", [scores_of("dog", True, 0.0)])
    assert row.n_images == 7
    assert row.dino.mean == pytest.approx(2.8 / 7)
    assert row.div.mean == pytest.approx(0.6)
    assert row.pres.mean == pytest.approx(0.3)
    assert row.drift is None and row.clip_t_identifier is None
    assert set(row.groups) == {"setting", "property"}, "one prompt makes no kind"
    assert row.groups["setting"]["dino"].mean == pytest.approx(0.3)
    assert row.groups["property"]["clip_t"].mean == pytest.approx((0.9 + 0.5) / 2 / 4)
    assert "div" not in row.groups["property"] and "pres" not in row.groups["setting"]


def test_several_subjects_are_averaged_by_subject() -> None:
    # The second subject has twice the images: it must not count twice.
    first, second = scores_of("dog", True, 0.0), scores_of("cat", False, 0.1)
    row = row_of("all", "trial", [first, second, second])
    own, other = 0.4, 0.5
    assert row.dino.mean == pytest.approx((own + other) / 2)
    assert set(row.groups) == {"live", "object", "setting", "property"}
    assert row.groups["live"]["dino"].mean == pytest.approx(own)
    assert row.groups["object"]["dino"].mean == pytest.approx(other)
    assert row.groups["live"]["pres"].mean == pytest.approx(0.3)
    assert stack([first, second, second], "dino").shape == (2, 5, 4)
    reversed_ = row_of("all", "trial", [second, first]).dino.mean
    assert reversed_ == pytest.approx(row.dino.mean), "the order of subjects does not matter"


def test_the_interval_of_subjects_agrees_with_scipy() -> None:
    offsets = torch.rand(20, generator=torch.Generator().manual_seed(0)) * 0.3
    sets = [scores_of(f"dog{i}", True, offset) for i, offset in enumerate(offsets.tolist())]
    ours = row_of("all", "trial", sets).dino
    means = (offsets + 0.4).double().numpy()
    theirs = scipy.stats.bootstrap(
        (means,), lambda x, axis: x.mean(axis=axis), n_resamples=10_000, method="percentile", rng=1
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_sets_on_disk_give_the_same_rows(tmp_path: Path) -> None:
    own = scores_of("dog", True, 0.0)
    save_sets(tmp_path, {"tuned": own, "base": scores_of("dog", True, 0.1, class_images=0)})
    again = read_sets(tmp_path)
    assert list(again) == ["tuned", "base"]
    assert row_of("it", "trial", [again["tuned"]]) == row_of("it", "trial", [own])
    assert again["base"].class_scores == {}
    (tmp_path / "scores.safetensors").write_bytes(b"?")
    with pytest.raises(UserError, match="Evaluate again"):
        read_sets(tmp_path)


def lines() -> list[Line]:
    return [
        Line("ceiling", "real photos", "trial", (), n_images=1),
        Line("floor", "base", "trial", (scores_of("dog", True, 0.0), scores_of("dog", True, 0.2))),
        Line("run", "sks", "trial", (scores_of("dog", True, 0.3),), distance="LPIPS"),
    ]


def test_lines_on_disk_give_the_same_rows(tmp_path: Path) -> None:
    save_lines(lines(), tmp_path / "out")
    assert [line.row() for line in read_lines(tmp_path / "out")] == [line.row() for line in lines()]


def test_without_several_subjects_there_is_no_average() -> None:
    assert averages(lines()) == []


def test_methods_are_compared_subject_by_subject() -> None:
    def line(subject: str, offset: float) -> Line:
        return Line("run", subject, "trial", (scores_of(subject, True, offset),))

    first = [line("dog", 0.1), line("cat", 0.3)]
    second = [line("cat", 0.0), line("dog", 0.0)]
    difference = compare_lines("ours", first, "theirs", second).difference
    assert difference.dino.mean == pytest.approx(0.2)
    assert (difference.dino.low, difference.dino.high) == pytest.approx((0.1, 0.3), abs=1e-6)
    assert difference.clip_t.mean == pytest.approx(0.05)
    with pytest.raises(UserError, match="cannot be compared"):
        compare_lines("ours", first, "theirs", second[:1])
