"""Rows from score tensors, against means taken by hand; tensors on disk and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import scipy.stats
import torch

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation import results as results_module
from dreambooth_pl.evaluation.comparison import compare_results
from dreambooth_pl.evaluation.record import SCORES_FILE, read_sets, save_sets
from dreambooth_pl.evaluation.results import Result, Row, averages, mean_of, row_of
from dreambooth_pl.evaluation.score_set import ScoreSet, score_set, stack
from dreambooth_pl.reporting.output import save_results


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
        {"in snow": {"div": 0.5 + offset}, "at sea": {"div": 0.7 + offset}},
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
    assert row.scores["dino"].mean == pytest.approx(2.8 / 7)
    assert row.scores["div"].mean == pytest.approx(0.6)
    assert row.scores["pres"].mean == pytest.approx(0.3)
    assert not {"drift", "clip_t_identifier"} & row.scores.keys()
    assert set(row.groups) == {"setting", "property"}, "one prompt makes no kind"
    assert row.groups["setting"]["dino"].mean == pytest.approx(0.3)
    assert row.groups["property"]["clip_t"].mean == pytest.approx((0.9 + 0.5) / 2 / 4)
    assert "div" not in row.groups["property"] and "pres" not in row.groups["setting"]


def test_several_subjects_are_averaged_by_subject() -> None:
    # The second subject has twice the images: it must not count twice.
    first, second = scores_of("dog", True, 0.0), scores_of("cat", False, 0.1)
    row = row_of("all", "trial", [first, second, second])
    own, other = 0.4, 0.5
    assert row.scores["dino"].mean == pytest.approx((own + other) / 2)
    assert set(row.groups) == {"live", "object", "setting", "property"}
    assert row.groups["live"]["dino"].mean == pytest.approx(own)
    assert row.groups["object"]["dino"].mean == pytest.approx(other)
    assert row.groups["live"]["pres"].mean == pytest.approx(0.3)
    assert stack([first, second, second], "dino").shape == (2, 5, 4)
    reversed_ = row_of("all", "trial", [second, first]).scores["dino"].mean
    assert reversed_ == pytest.approx(row.scores["dino"].mean), (
        "the order of subjects does not matter"
    )


def test_the_interval_of_subjects_agrees_with_scipy() -> None:
    offsets = torch.rand(20, generator=torch.Generator().manual_seed(0)) * 0.3
    sets = [scores_of(f"dog{i}", True, offset) for i, offset in enumerate(offsets.tolist())]
    ours = row_of("all", "trial", sets).scores["dino"]
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


def results() -> list[Result]:
    return [
        Result("ceiling", "real photos", "trial", (), n_images=1),
        Result(
            "floor", "base", "trial", (scores_of("dog", True, 0.0), scores_of("dog", True, 0.2))
        ),
        Result("run", "sks", "trial", (scores_of("dog", True, 0.3),), distance="LPIPS"),
    ]


def test_results_on_disk_give_the_same_rows(tmp_path: Path) -> None:
    out = tmp_path / "out"
    save_results(results(), out)
    sets, index = read_sets(out), json.loads((out / SCORES_FILE).read_text())["lines"]
    again = [
        row_of(
            entry["name"],
            entry["protocol"],
            [sets[name] for name in entry["sets"]],
            entry["n_images"],
        )
        for entry in index
    ]
    assert again == [result.row for result in results()]
    assert [entry["role"] for entry in index] == ["ceiling", "floor", "run"]
    assert [entry["distance"] for entry in index] == [None, None, "LPIPS"]


def test_a_row_is_computed_once_and_images_are_counted_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []

    def counting(name: str, *rest: object) -> Row:
        calls.append(name)
        return row_of(name, *rest)

    monkeypatch.setattr(results_module, "row_of", counting)
    mean = mean_of("mean", results())
    assert mean.n_images == sum(result.image_count for result in results()) == 1 + 14 + 7
    assert calls == []
    assert mean.row is mean.row
    assert calls == ["mean"]


def test_without_several_subjects_there_is_no_average() -> None:
    assert averages(results()) == []


def test_methods_are_compared_subject_by_subject() -> None:
    def result(subject: str, offset: float) -> Result:
        return Result("run", subject, "trial", (scores_of(subject, True, offset),))

    first = [result("dog", 0.1), result("cat", 0.3)]
    second = [result("cat", 0.0), result("dog", 0.0)]
    difference = compare_results("ours", first, "theirs", second).difference
    assert difference.scores["dino"].mean == pytest.approx(0.2)
    assert (difference.scores["dino"].low, difference.scores["dino"].high) == pytest.approx(
        (0.1, 0.3), abs=1e-6
    )
    assert difference.scores["clip_t"].mean == pytest.approx(0.05)
    with pytest.raises(UserError, match="cannot be compared"):
        compare_results("ours", first, "theirs", second[:1])
