"""Where jobs run. The rest of the benchmark knows executors by their one protocol only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import dreambooth_pl

TRAIN = Path(dreambooth_pl.__file__).parents[1] / "train.py"
_SECONDS_TO_STOP = 30.0


@dataclass(frozen=True)
class Task:
    """A training to be run.

    Attributes:
        name: unique among the tasks.
        arguments: what stands after ``train.py``.
        log: file that everything it says is appended to; its folder exists.
    """

    name: str
    arguments: tuple[str, ...]
    log: Path


class Executor(Protocol):
    """Runs tasks that do not depend on each other, in any order and any number at a time."""

    def __call__(
        self, tasks: Sequence[Task], started: Callable[[Task], None]
    ) -> Iterator[tuple[Task, int]]:
        """Yield each task with its exit status as soon as it has ended.

        Args:
            tasks: each is run once.
            started: is called with each task when it begins.
        """
        ...


class LocalExecutor:
    """Runs ``train.py`` on this machine, by this Python, one task after the other.

    Args:
        held_open: file descriptors that the trainings keep open as long as they live.
    """

    def __init__(self, held_open: Sequence[int] = ()) -> None:
        self.held_open = tuple(held_open)

    def __call__(
        self, tasks: Sequence[Task], started: Callable[[Task], None]
    ) -> Iterator[tuple[Task, int]]:
        """See ``Executor``. An interruption ends the training that runs, too."""
        for task in tasks:
            started(task)
            yield task, self._run(task)

    def _run(self, task: Task) -> int:
        command = [sys.executable, str(TRAIN), *task.arguments]
        with (
            task.log.open("ab") as log,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=self.held_open,
            ) as process,
        ):
            try:
                return process.wait()
            except BaseException:
                process.terminate()
                try:
                    process.wait(_SECONDS_TO_STOP)
                except subprocess.TimeoutExpired:
                    process.kill()
                raise
