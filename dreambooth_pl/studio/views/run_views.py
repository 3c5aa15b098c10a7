"""Runs on disk as the page shows them, also those that are at work: read from files alone."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.pictures import once_per_file
from dreambooth_pl.files.plain_yaml import read_yaml
from dreambooth_pl.runs.folder import CHECKPOINTS, CONFIG, LAST, LORA, METRICS, PROBES, TUNED
from dreambooth_pl.studio.jobs.job import Job

BEST_BY = "validation/score"
"""The curve by which the best step is marked."""

_STEP = re.compile(r"step_(\d+)")
_PROGRESS = re.compile(
    r"^(?P<what>.+?) (?P<done>\d+)/(?P<total>\d+), "
    r"(?:(?P<left>[\d:]+) left|in [\d:]+)(?:, (?P<rate>[\d.]+) steps/s, loss (?P<loss>[\d.]+))?"
)


@dataclass(frozen=True)
class Progress:
    """The last progress that a job's log tells."""

    what: str
    done: int
    total: int
    left: str
    """Time left, such as 1:05; empty if it is over or unknown."""
    rate: str
    """Steps a second; empty for what is not training."""


@dataclass(frozen=True)
class RunView:
    """A run's folder.

    Args:
        folder: the folder.
        name: relative to the folder of runs, such as `sks/version_0`.
    """

    folder: Path
    name: str

    @property
    def config(self) -> dict[str, Any]:
        """Its own configuration; empty while it has none."""
        return _config(self.folder / CONFIG)

    def setting(self, key: str, default: Any = None) -> Any:
        """Return the value of a dotted key of its configuration."""
        value: Any = self.config
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                return default
            value = value[part]
        return value

    @property
    def steps(self) -> int:
        """Its length in optimiser steps."""
        return int(self.setting("trainer.max_steps", 0) or 0)

    @property
    def finished(self) -> bool:
        """Whether its training has come to the end."""
        return any(any((self.folder / part).glob("*.safetensors")) for part in (LORA, TUNED))

    @property
    def resumable(self) -> bool:
        """Whether `train.py fit --resume` takes it up again."""
        return not self.finished and (self.folder / CONFIG).is_file()

    @property
    def adapter(self) -> Path | None:
        """What images can be generated with: its result, or its last checkpoint so far."""
        if self.finished:
            return self.folder
        last = self.folder / CHECKPOINTS / LAST
        return last if last.is_file() else None

    def checkpoints(self) -> list[str]:
        """Return the names of its checkpoints."""
        return sorted(path.name for path in (self.folder / CHECKPOINTS).glob("[!.]*.ckpt"))

    def probes(self) -> list[tuple[int, list[Path]]]:
        """Return the probe images by step, from step 0 on."""
        found = []
        for folder in (self.folder / PROBES).glob("step_*"):
            match = _STEP.fullmatch(folder.name)
            images = sorted(folder.glob("[!.]*.png"))
            if match and images:
                found.append((int(match[1]), images))
        return sorted(found)

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Return the points (step, value) that it has logged under a name."""
        return _metrics(self.folder / METRICS).get(name, [])

    def best_step(self) -> int | None:
        """Return the step whose images score best so far; None before any but the first."""
        points = [point for point in self.curve(BEST_BY) if point[0] > 0]
        return max(points, key=lambda point: point[1])[0] if points else None


def find_run_views(runs: Path) -> list[RunView]:
    """Return the runs in a folder of runs, those that wrote last first."""
    configs = [path for path in runs.glob(f"*/version_*/{CONFIG}") if path.is_file()]
    configs.sort(key=lambda path: -_last_written(path.parent))
    return [run_view(runs, path.parent) for path in configs]


def run_view(runs: Path, folder: Path) -> RunView:
    """Return a run by its folder below the folder of runs."""
    return RunView(folder, folder.relative_to(runs).as_posix())


def named_run(runs: Path, name: str | None) -> RunView:
    """Return the run of a name that the page has sent.

    Raises:
        UserError: there is none; names are compared, and never become paths.
    """
    for run in find_run_views(runs):
        if run.name == name:
            return run
    raise UserError(f"There is no run {name!r}." if name else "Choose a run first.")


def last_progress(job: Job) -> Progress | None:
    """Return the last progress that a job has reported."""
    for line in reversed(job.log_lines(50)):
        if match := _PROGRESS.match(line):
            return Progress(
                match["what"],
                int(match["done"]),
                int(match["total"]),
                match["left"] or "",
                match["rate"] or "",
            )
    return None


def _last_written(folder: Path) -> int:
    paths = [folder / CONFIG, folder / METRICS, folder / CHECKPOINTS / LAST]
    return max((path.stat().st_mtime_ns for path in paths if path.is_file()), default=0)


@once_per_file(64)
def _config(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}


@once_per_file(16)
def _metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return all curves of a table; rows that are being written are passed over."""
    curves: dict[str, list[tuple[int, float]]] = {}
    try:
        rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    for row in rows:
        try:
            step = int(row.pop("step") or "")
            points = {name: float(value) for name, value in row.items() if name and value}
        except (ValueError, TypeError, KeyError):
            continue
        for name, value in points.items():
            curves.setdefault(name, []).append((step, value))
    return curves
