"""Trainings of a benchmark that run side by side in one process."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dreambooth_pl.benchmark.executors.attempt import attempt_words
from dreambooth_pl.benchmark.executors.call import Executor, ScriptCall, Watch
from dreambooth_pl.benchmark.jobs import Job
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import write_json
from dreambooth_pl.training.together.compatibility import shape, why_alone

SCRIPT = "train_together.py"
"""Trains the runs of a file."""
FOLDER = "together"  # in a benchmark's folder
MOST = 16
"""Runs in a group for `--together auto`. Groups gain little from more: the base's share of a step
is nearly that of the arithmetic by then. Where memory is short, a step takes them in parts."""
_RUNS, _STATUSES = "runs", "statuses"


@dataclass(frozen=True)
class PlannedRun:
    """A run in a file of runs."""

    arguments: tuple[str, ...]
    """What stands after `train.py`, `fit` first."""
    log: Path
    """File to which its output is appended."""


def read_runs(path: Path) -> list[PlannedRun]:
    """Read a file of runs, as `TogetherExecutor` writes it.

    Raises:
        UserError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[_RUNS]
        return [
            PlannedRun(
                tuple(attempt_words([*map(str, run["arguments"])], run.get("folder"))),
                Path(run["log"]),
            )
            for run in found
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} is no file of runs, {{"runs": [{{"arguments": ["fit", ...], "log": '
            f'"..."}}]}}: {error}'
        ) from error


def write_statuses(path: Path, statuses: Sequence[int]) -> None:
    """Write how the runs of a file have ended beside it, 0 for those that are complete."""
    write_json(_statuses_file(path), {_STATUSES: list(statuses)})


def _statuses_file(path: Path) -> Path:
    return path.with_suffix(".ended.json")


def shapes(configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what each config can be grouped by, and for the others why they cannot be.

    Args:
        configs: whole configs of `train.py`, by name.
    """
    alone = {name: why for name, config in configs.items() if (why := why_alone(config))}
    return {name: shape(own) for name, own in configs.items() if name not in alone}, alone


class _GroupWatch:
    """Tells of each run of a group what an executor tells of the group."""

    def __init__(self, watch: Watch, members: Mapping[str, Sequence[ScriptCall]]) -> None:
        self.watch, self.members = watch, members

    def started(self, call: ScriptCall, where: str = "") -> None:
        for task in self.members[call.name]:
            self.watch.started(task, where)

    def retried(self, call: ScriptCall, why: str) -> None:
        for task in self.members[call.name]:
            self.watch.retried(task, why)

    def look(self) -> None:
        self.watch.look()


class TogetherExecutor:
    """Runs trainings in groups, each a single call of another executor.

    Args:
        executor: runs the groups, and what is in no group.
        shapes: by the call's name; calls of one shape can be grouped.
        most: runs in a group.
        folder: where files and logs of the groups go.
    """

    def __init__(
        self, executor: Executor, shapes: Mapping[str, str], most: int, folder: Path
    ) -> None:
        self.executor, self.shapes, self.most, self.folder = executor, shapes, most, folder

    @property
    def slots(self) -> int:
        """How many calls run at a time; see `Executor`."""
        return self.executor.slots

    def __call__(
        self, tasks: Sequence[ScriptCall], watch: Watch
    ) -> Iterator[tuple[ScriptCall, int]]:
        """Run the calls; see `Executor`."""
        members: dict[str, list[ScriptCall]] = {}
        calls = []
        for number, group in enumerate(grouped(tasks, self.shapes, self.most), start=1):
            call = group[0] if len(group) == 1 else self._joined(group, number)
            members[call.name] = group
            calls.append(call)

        for call, status in self.executor(calls, _GroupWatch(watch, members)):
            group = members[call.name]
            statuses = [status] if len(group) == 1 else self._statuses(call, status, len(group))
            yield from zip(group, statuses, strict=True)

    def _joined(self, group: Sequence[ScriptCall], number: int) -> ScriptCall:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"group_{number:02d}.json"
        _statuses_file(path).unlink(missing_ok=True)
        runs = [
            {
                "arguments": list(task.arguments),
                "log": str(task.log),
                "folder": None if task.runs is None else str(task.runs),
            }
            for task in group
        ]
        write_json(path, {_RUNS: runs}, indent=1)
        name = f"{group[0].name} and {len(group) - 1} more"
        return ScriptCall(
            name,
            (str(path),),
            path.with_suffix(".txt"),
            SCRIPT,
            inputs=(path, *(own for task in group for own in task.inputs)),
            outputs=(self.folder, *(own for task in group for own in task.outputs)),
            resources=group[0].resources,
        )

    @staticmethod
    def _statuses(call: ScriptCall, status: int, count: int) -> list[int]:
        """Return how each run of a group has ended; all alike if the process did not tell."""
        try:
            text = _statuses_file(Path(call.arguments[-1])).read_text(encoding="utf-8")
            found = json.loads(text)[_STATUSES]
        except (OSError, ValueError, KeyError, TypeError):
            return [status or 1] * count
        return found


def grouped(
    tasks: Sequence[ScriptCall], shapes: Mapping[str, str], most: int
) -> list[list[ScriptCall]]:
    """Return the calls in groups of one shape, of `most` at most and of about equal sizes.

    Calls without a shape are in groups of their own. The order of first members is kept.
    """
    by_shape: dict[str, list[ScriptCall]] = {}
    for task in tasks:
        by_shape.setdefault(shapes.get(task.name, f" {task.name}"), []).append(task)
    groups = []
    for own in by_shape.values():
        size = math.ceil(len(own) / math.ceil(len(own) / most))
        groups += [own[start : start + size] for start in range(0, len(own), size)]
    return groups


class Groups:
    """Which jobs of a benchmark train together.

    Args:
        jobs: all jobs.
        configs: the whole config of each variant's first job, as YAML, by the variant's name.
        most: runs in a group; 1 for no groups.
    """

    def __init__(self, jobs: Sequence[Job], configs: Mapping[str, str], most: int) -> None:
        self.most = most
        plain = {name: yaml.safe_load(text) for name, text in configs.items()} if most > 1 else {}
        found, self.alone = shapes(plain)
        self.by_job = {j.name: found[j.variant.name] for j in jobs if j.variant.name in found}

    def notes(self) -> list[str]:
        """Return a line for each variant whose runs are in no group."""
        return [
            f"runs of the variant {name} train one by one: {why}"
            for name, why in self.alone.items()
        ]

    def over(self, executor: Executor, out: Path) -> Executor:
        """Return an executor that trains in groups; files of the groups go below `out`."""
        if self.most == 1:
            return executor
        return TogetherExecutor(executor, self.by_job, self.most, out / FOLDER)
