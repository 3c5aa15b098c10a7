"""A job: commands of this project, run by a process of its own, with all state in its folder."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import write_json
from dreambooth_pl.files.folder_lock import locked
from dreambooth_pl.files.pictures import once_per_file
from dreambooth_pl.studio.jobs.run_job import ENDED, RECORD

State = Literal["queued", "running", "done", "stopped", "failed"]
Kind = Literal[
    "train", "generate", "reproduce", "evaluate", "export", "pack", "identifier", "estimate"
]

STARTED = "started.json"
LOG = "log.txt"
STOPPED = tuple(128 + number for number in (signal.SIGINT, signal.SIGTERM)) + (129,)
"""Exit statuses of a process that was asked to stop."""

_TAIL_BYTES = 20_000


@dataclass(frozen=True)
class Job:
    """What was asked for.

    A job is queued until `started.json` is there, and runs while its process holds the folder's
    lock. `stopping.json` asks it to stop. `ended.json` has its exit status; a process that was
    killed leaves none.
    """

    folder: Path
    """The job's folder; its name is the job's number."""
    kind: Kind
    title: str
    """For people: what it is about."""
    commands: tuple[tuple[str, ...], ...]
    """Arguments of Python, one command after the other."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Settings that it was asked for with, in plain types."""

    @property
    def number(self) -> int:
        """Its place in the order of all jobs."""
        return int(self.folder.name)

    @property
    def run(self) -> str | None:
        """The run's folder that a training works in, relative to the working folder."""
        return self.facts.get("run") or read_json(self.folder / STARTED).get("run")

    def state(self) -> State:
        """Return how far it is, by what lies in its folder."""
        if (self.folder / ENDED).is_file():
            status = read_json(self.folder / ENDED).get("status")
            return "done" if status == 0 else "stopped" if status in STOPPED else "failed"
        if is_held(self.folder):
            return "running"
        return "stopped" if (self.folder / STARTED).is_file() else "queued"

    def log_lines(self, count: int) -> list[str]:
        """Return the last lines that its commands have written."""
        try:
            with (self.folder / LOG).open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - _TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-count:]

    def mistake(self) -> str:
        """Return what a failed command has said, in a line; empty if it has not."""
        lines = self.log_lines(200)
        errors = [n for n, line in enumerate(lines) if line.startswith("error: ")]
        if errors:
            return " ".join(lines[errors[-1] :]).removeprefix("error: ")
        return lines[-1] if lines else ""


def write_job(
    folder: Path,
    kind: Kind,
    title: str,
    commands: Sequence[Sequence[str]],
    facts: dict[str, Any],
) -> Job:
    """Write the record of a new job into its folder, which queues it."""
    job = Job(folder, kind, title, tuple(tuple(command) for command in commands), facts)
    record = asdict(job)
    del record["folder"]
    write_json(folder / RECORD, record, indent=1)
    return job


def read_job(folder: Path) -> Job | None:
    """Return the job in a folder; None if there is none that can be read."""
    record = read_json(folder / RECORD)
    try:
        commands = tuple(tuple(command) for command in record["commands"])
        return Job(folder, record["kind"], record["title"], commands, record["facts"])
    except (KeyError, TypeError):
        return None


@once_per_file(4096)
def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds; nothing where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def is_held(folder: Path) -> bool:
    """Return whether a process is at work in a job's folder."""
    try:
        with locked(folder):
            return False
    except UserError:
        return True
