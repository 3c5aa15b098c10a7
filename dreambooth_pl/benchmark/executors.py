"""Where jobs run. The rest of the benchmark knows executors by their one protocol only."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import dreambooth_pl

ROOT = Path(dreambooth_pl.__file__).parents[1]  # where the scripts are
_SECONDS_TO_STOP = 30.0
_SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class ScriptCall:
    """A training, or another script of the project, to be run.

    Attributes:
        name: unique among the tasks.
        arguments: what stands after the script.
        log: file that everything it says is appended to; its folder exists.
        script: its name.
    """

    name: str
    arguments: tuple[str, ...]
    log: Path
    script: str = "train.py"


class Executor(Protocol):
    """Runs tasks that do not depend on each other, in any order and any number at a time."""

    def __call__(
        self, tasks: Sequence[ScriptCall], started: Callable[[ScriptCall], None]
    ) -> Iterator[tuple[ScriptCall, int]]:
        """Yield each task with its exit status as soon as it has ended.

        Args:
            tasks: each is run once.
            started: is called with each task when it begins.
        """
        ...


class LocalExecutor:
    """Runs scripts on this machine, by this Python, in the order of the tasks.

    Args:
        held_open: file descriptors that the processes keep open as long as they live.
        at_once: how many run beside each other; each gets its share of the cores. Small networks
            use one core much better than several.
    """

    def __init__(self, held_open: Sequence[int] = (), at_once: int = 1) -> None:
        assert at_once > 0
        self.held_open = tuple(held_open)
        self.at_once = at_once

    def __call__(
        self, tasks: Sequence[ScriptCall], started: Callable[[ScriptCall], None]
    ) -> Iterator[tuple[ScriptCall, int]]:
        """See `Executor`. An interruption ends the processes that run, too."""
        waiting = list(tasks)
        running: list[tuple[ScriptCall, subprocess.Popen[bytes]]] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.at_once:
                    task = waiting.pop(0)
                    started(task)
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
                env=self._environment(),
            )

    def _environment(self) -> dict[str, str]:
        """A share of the cores, unless the user has said how many threads there are to be."""
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
            process.kill()
            process.wait()


def _cores() -> int:
    """Cores that this process may use; not every system says which."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
