"""Executors run the scripts of a benchmark; the rest of it uses only the protocol `Executor`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import dreambooth_pl
from dreambooth_pl.stop_signals import STOP

ROOT = Path(dreambooth_pl.__file__).parents[1]  # folder of the scripts
_SECONDS_TO_STOP = 30.0
_SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class ScriptCall:
    """One call of a script of the project, such as a training run."""

    name: str
    """Unique among the tasks."""
    arguments: tuple[str, ...]
    """Command-line arguments after the script's name."""
    log: Path
    """File to which the output is appended; its folder exists."""
    script: str = "train.py"
    """File name of the script."""


class Executor(Protocol):
    """Runs independent tasks, in any order and any number at a time."""

    def __call__(
        self, tasks: Sequence[ScriptCall], started: Callable[[ScriptCall], None]
    ) -> Iterator[tuple[ScriptCall, int]]:
        """Run each task once.

        Args:
            tasks: the calls to run.
            started: called with each task when it starts.

        Yields:
            Each task with its exit status, as soon as it has ended.
        """
        ...


class LocalExecutor:
    """Runs scripts on this machine with this Python, in the order of the tasks.

    Args:
        held_open: file descriptors that the processes keep open while they run.
        at_once: number of processes that run in parallel, each with its share of the cores. Small
            networks use one core much more efficiently than several.
    """

    def __init__(self, held_open: Sequence[int] = (), at_once: int = 1) -> None:
        assert at_once > 0
        self.held_open = tuple(held_open)
        self.at_once = at_once

    def __call__(
        self, tasks: Sequence[ScriptCall], started: Callable[[ScriptCall], None]
    ) -> Iterator[tuple[ScriptCall, int]]:
        """Run the tasks; see `Executor`. An interruption also stops the running processes."""
        waiting = list(tasks)
        running: list[tuple[ScriptCall, subprocess.Popen[bytes]]] = []
        with STOP.at_once(lambda: _kill([process for _, process in running])):
            try:
                while waiting or running:
                    while waiting and len(running) < self.at_once:
                        task = waiting.pop(0)
                        started(task)
                        with STOP.deferred():  # or a process would run that nobody knows
                            running.append((task, self._start(task)))
                    ended = [pair for pair in running if pair[1].poll() is not None]
                    if not ended:
                        time.sleep(_SECONDS_BETWEEN_LOOKS)
                    for pair in ended:
                        running.remove(pair)
                        yield pair[0], pair[1].returncode
            finally:
                _stop([process for _, process in running])

    def _start(self, task: ScriptCall) -> subprocess.Popen[bytes]:
        with task.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(ROOT / task.script), *task.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=self.held_open,
                start_new_session=True,  # a terminal's signals would come before those of `_stop`
                env=self._environment(),
            )

    def _environment(self) -> dict[str, str]:
        """Return the environment of a process.

        Processes that run in parallel get an equal share of the cores as `OMP_NUM_THREADS`, unless
        the user has set it.
        """
        if self.at_once == 1:
            return dict(os.environ)
        share = max(1, _cores() // self.at_once)
        return {"OMP_NUM_THREADS": str(share), **os.environ}


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            _kill([process])
            process.wait()


def _kill(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes at once, with those that they have started."""
    for process in processes:
        if process.poll() is not None:
            continue
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _cores() -> int:
    """Return how many cores this process may use, or all cores if the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
