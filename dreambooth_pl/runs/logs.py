"""The logs in a run's folder, `metrics.csv` and TensorBoard's: written, and cut back to resume."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from dreambooth_pl.files.atomic import atomic_path, write_text

_EVENTS = "events.out.tfevents.*"
_HPARAMS = "_hparams_"  # tags that TensorBoard's plugin writes at every start
_TRAINING = (
    "train",
    "epoch",
)  # groups that Lightning logs with the step's index, which is one less


@dataclass(frozen=True)
class LogPoint:
    """How far the logs of a run go when it is at `step`."""

    step: int = 0
    """Optimiser steps done."""
    training: int = 0
    """The training curves go to the step index before this one."""
    groups: frozenset[str] = frozenset()
    """Groups of other curves and pictures, such as `validation`, that have this step's already."""

    def holds(self, step: int, group: str) -> bool:
        """Tell whether a value with this index was logged before the point.

        >>> LogPoint(6, 6, frozenset({"validation"})).holds(6, "validation")
        True
        >>> LogPoint(6, 6).holds(6, "train")
        False
        """
        if group in _TRAINING:
            return step < self.training
        return step < self.step or (step == self.step and group in self.groups)


def own_loggers(folder: Path) -> list[Logger]:
    """Return the loggers that every run has. They add to what the folder holds."""
    parent, name, version = folder.parents[1], folder.parent.name, folder.name
    return [
        RunCSVLogger(parent, name=name, version=version),
        TensorBoardLogger(parent, name=name, version=version, default_hp_metric=False),
    ]


def flush(loggers: Iterable[Logger]) -> None:
    """Hand everything that was logged to the operating system: it outlives the process then."""
    for logger in loggers:
        logger.save()
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.flush()


def cut_logs(folder: Path, point: LogPoint) -> None:
    """Remove from a run's logs what came after the point, so that going on logs nothing twice."""
    _cut_metrics(folder / ExperimentWriter.NAME_METRICS_FILE, point)
    for path in sorted(folder.glob(_EVENTS)):
        _cut_events(path, point)


class RunCSVLogger(CSVLogger):
    """Lightning's, but it goes on with a file that is there, and never leaves half of one."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer; made when it is first asked for."""
        if self._experiment is None:
            self._experiment = _Writer(log_dir=self.log_dir)
        return self._experiment


class _Writer(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:
        """Take over the columns of the file that is there; Lightning would remove the file."""
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self.metrics_keys = next(csv.reader(file), [])

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        write_text(path, _table(fieldnames, rows))


def _table(columns: list[str], rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _cut_metrics(path: Path, point: LogPoint) -> None:
    if not path.is_file():
        return
    text = path.read_bytes().decode()
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    kept = [row for row in reader if _row_stays(row, point)]
    if not kept:
        path.unlink()
    else:
        write_text(path, _table(list(reader.fieldnames or []), kept))


def _row_stays(row: dict[str | None, Any], point: LogPoint) -> bool:
    if None in row or None in row.values() or not (row.get("step") or "").isdigit():
        return False  # the process was killed while it wrote the row
    if row.get("epoch"):
        return point.holds(int(row["step"]), "epoch")
    names = [name for name, value in row.items() if value and name != "step"]
    return all(point.holds(int(row["step"]), _group(name)) for name in names)


def _cut_events(path: Path, point: LogPoint) -> None:
    kept = []
    for record in RawEventFileLoader(str(path)).Load():
        event = Event.FromString(record)
        if event.HasField("summary"):
            values = [value for value in event.summary.value if _stays(event, value.tag, point)]
            if not values:
                continue
            if len(values) < len(event.summary.value):
                del event.summary.value[:]
                event.summary.value.extend(values)
        kept.append(event)
    if not any(event.HasField("summary") for event in kept):
        path.unlink()
        return
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        writer = RecordWriter(file)
        for event in kept:
            writer.write(event.SerializeToString())


def _stays(event: Event, tag: str, point: LogPoint) -> bool:
    group = _group(tag)
    return group != _HPARAMS and point.holds(event.step, group)


def _group(name: str) -> str:
    return name.partition("/")[0]
