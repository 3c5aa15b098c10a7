"""Which trainings are grouped, and how an executor runs groups."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dreambooth_pl.benchmark.executors.call import ScriptCall
from dreambooth_pl.benchmark.together import (
    TogetherExecutor,
    grouped,
    read_runs,
    shapes,
    write_statuses,
)
from dreambooth_pl.errors import UserError
from dreambooth_pl.training.together.compatibility import check_together

CONFIG: dict[str, Any] = {
    "seed_everything": 1,
    "data": {"instance_dir": "a", "resolution": 64, "batch_size": 1, "num_class_images": 9},
    "model": {
        "base": "b",
        "adapter": "lora",
        "lora": {"rank": 8, "alpha": 8.0, "dropout": 0.0, "use_dora": False},
        "learning_rate": 1e-4,
        "prior_loss_weight": 1.0,
        "optimizer": None,
    },
    "trainer": {"max_steps": 10, "devices": 1, "precision": None, "callbacks": None},
}


def changed(key: str, value: Any) -> dict[str, Any]:
    config = json.loads(json.dumps(CONFIG))
    *groups, name = key.split(".")
    inner = config
    for group in groups:
        inner = inner[group]
    inner[name] = value
    return config


def call(name: str, folder: Path = Path()) -> ScriptCall:
    return ScriptCall(name, ("fit", f"--name={name}"), folder / f"{name}.txt")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed_everything", 2),
        ("data.instance_dir", "other"),
        ("data.num_class_images", 100),
        ("model.learning_rate", 1.0),
        ("model.lora.alpha", 1.0),
        ("model.prior_loss_weight", 0.5),
        ("trainer.max_steps", 99),
    ],
)
def test_each_run_has_these_for_itself(key: str, value: Any) -> None:
    found, alone = shapes({"a": CONFIG, "b": changed(key, value)})
    assert found["a"] == found["b"] and not alone
    check_together(CONFIG, changed(key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.base", "other"),
        ("model.lora.rank", 4),
        ("data.resolution", 32),
        ("data.batch_size", 2),
        ("data.num_class_images", 0),
        ("model.prior_loss_weight", 0.0),
        ("trainer.precision", "bf16-mixed"),
    ],
)
def test_runs_of_a_group_agree_in_these(key: str, value: Any) -> None:
    found, alone = shapes({"a": CONFIG, "b": changed(key, value)})
    assert found["a"] != found["b"] and not alone
    with pytest.raises(UserError, match=key):
        check_together(CONFIG, changed(key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.adapter", "lokr"),
        ("model.lora.use_dora", True),
        ("model.lora.dropout", 0.1),
        ("model.optimizer", {"class_path": "torch.optim.SGD"}),
        ("trainer.precision", "16-mixed"),
        ("trainer.devices", 2),
        ("trainer.callbacks", [{"class_path": "x.Y"}]),
    ],
)
def test_runs_with_these_train_by_themselves(key: str, value: Any) -> None:
    found, alone = shapes({"a": CONFIG, "b": changed(key, value)})
    assert found.keys() == {"a"} and alone == {"b": f"{key} is {value!r}"}
    with pytest.raises(UserError, match=key):
        check_together(CONFIG, changed(key, value))


def test_groups_are_of_one_shape_and_of_about_equal_sizes() -> None:
    names = [*(f"x{n}" for n in range(5)), "alone", "y0", "also alone", "y1", "y2"]
    by_name = {name: name[0] for name in names if name[0] in "xy"}
    found = grouped([call(name) for name in names], by_name, most=4)
    assert [[task.name for task in group] for group in found] == [
        ["x0", "x1", "x2"],
        ["x3", "x4"],
        ["alone"],
        ["y0", "y1", "y2"],
        ["also alone"],
    ]


class Pretend:
    """Writes what groups write as they end; a group of which it knows nothing is killed."""

    def __init__(self, statuses: dict[str, list[int]]) -> None:
        self.statuses = statuses
        self.ran: list[ScriptCall] = []

    def __call__(self, tasks: Sequence[ScriptCall], watch: Any) -> Iterator[tuple[ScriptCall, int]]:
        for task in tasks:
            watch.started(task)
            self.ran.append(task)
            statuses = self.statuses.get(task.name)
            if statuses is None:
                yield task, -9
                continue
            if task.script == "train_together.py":
                write_statuses(Path(task.arguments[0]), statuses)
            yield task, max(statuses)


def test_each_run_of_a_group_is_reported_by_itself(tmp_path) -> None:
    names = ["x0", "x1", "alone", "y0", "y1"]
    tasks = [call(name, tmp_path) for name in names]
    own = Pretend({"x0 and 1 more": [0, 1], "alone": [0]})
    by_name = {name: name[0] for name in names if name != "alone"}
    executor = TogetherExecutor(own, by_name, 8, tmp_path / "together")
    begun: list[str] = []
    watch = SimpleNamespace(started=lambda task, where: begun.append(task.name))
    found = {task.name: status for task, status in executor(tasks, watch)}
    assert begun == names
    assert found == {"x0": 0, "x1": 1, "alone": 0, "y0": -9, "y1": -9}
    assert own.ran[1] == tasks[2]
    runs = read_runs(Path(own.ran[0].arguments[0]))
    assert [run.arguments for run in runs] == [task.arguments for task in tasks[:2]]
    assert [run.log for run in runs] == [task.log for task in tasks[:2]]


def test_a_file_that_holds_no_runs_is_told(tmp_path) -> None:
    path = tmp_path / "runs.json"
    for text in ("", "[]", '{"runs": [{"arguments": 1}]}', '{"runs": 3}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"runs\.json is no file of runs"):
            read_runs(path)
