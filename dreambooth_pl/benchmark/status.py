"""Where a benchmark's calls stand: one line and one file for every executor."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dreambooth_pl.benchmark.executors.attempt import tail
from dreambooth_pl.benchmark.executors.call import ScriptCall
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import write_json
from dreambooth_pl.progress import ProgressReporter, Task, clock, last_progress

STATUS = "status.json"  # in a benchmark's folder
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
_SECONDS_BETWEEN_LOOKS = 2.0
_CALLS_A_SECOND = 1000  # that are written to the file
_SILENT = 60.0  # seconds after which nobody is taken to be at work
_TRAINING = "training"  # what train.py's progress lines begin with


@dataclass
class State:
    """Where one call stands."""

    log: str
    """File of its output."""
    state: str = WAITING
    """`waiting`, `running`, `done` or `failed`."""
    where: str = ""
    """The machine or card that it runs on, or ran on last."""
    retries: int = 0
    """Further attempts so far."""
    step: int = 0
    """Optimiser steps so far; for trainings."""
    steps: int = 0
    """Steps of the whole run; 0 for what is no training."""
    first: int = 0
    """Steps that it had when this benchmark took it up."""
    seconds: float = 0.0
    """How long the attempts that have ended have run in all."""
    since: float = 0.0
    """When the last attempt began, in seconds since 1970."""


@dataclass
class Status:
    """Where the calls of a phase stand."""

    phase: str
    """What is done, such as `training`."""
    where: str = ""
    """The executor, and where it can be watched."""
    host: str = field(default_factory=platform.node)
    """Machine that the benchmark itself runs on."""
    pid: int = field(default_factory=os.getpid)
    """Its process there."""
    began: float = field(default_factory=time.time)
    """When the phase began, in seconds since 1970."""
    updated: float = field(default_factory=time.time)
    """When this was written."""
    ended: bool = False
    """Whether nothing more is to come."""
    calls: dict[str, State] = field(default_factory=dict)
    """States by the call's name."""

    @property
    def rate(self) -> float:
        """Optimiser steps per second of all calls together; 0 if none has been heard of."""
        made = sum(call.step - call.first for call in self.calls.values())
        return max(made, 0) / max(self.updated - self.began, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the rate so far; None if nothing tells."""
        calls = self.calls.values()
        ended = sum(call.state in (DONE, FAILED) for call in calls)
        if self.rate:
            steps = sum(c.steps - c.step for c in calls if c.state in (WAITING, RUNNING))
            return steps / self.rate
        if ended:
            return (self.updated - self.began) / ended * (len(calls) - ended)
        return None

    def summary(self) -> str:
        """Return how many calls stand where, the speed and the time left, on one line."""
        counts = Counter(call.state for call in self.calls.values())
        parts = [f"{counts[state]} {state}" for state in (WAITING, RUNNING, DONE, FAILED)]
        retried = sum(call.retries for call in self.calls.values())
        parts.append(f"{retried} retried")
        if self.rate:
            parts.append(f"{self.rate:.1f} steps/s in all")
        if self.seconds_left is not None and counts[WAITING] + counts[RUNNING]:
            parts.append(f"{clock(self.seconds_left)} left")
        return ", ".join(parts)


class Board:
    """Follows the calls of a phase; an executor's `Watch`.

    Args:
        phase: what is done, such as `training`.
        calls: all calls of the phase.
        reporter: shows lines and a bar.
        file: is kept up to date; None for no file.
        where: the executor, and where it can be watched.
        steps: optimiser steps of the calls that are trainings, by name.
        noun: what a call is.
    """

    def __init__(
        self,
        phase: str,
        calls: Sequence[ScriptCall],
        reporter: ProgressReporter,
        file: Path | None = None,
        where: str = "",
        steps: Mapping[str, int] | None = None,
        noun: str = "job",
    ) -> None:
        self.status = Status(phase, where)
        self.noun = noun
        self._number = {call.name: i for i, call in enumerate(calls, start=1)}
        self._goes_on = {call.name: call.begun() for call in calls}
        self._reporter = reporter
        self._file = file
        self._task: Task | None = None
        self._looked = 0.0
        self._ended = 0  # how many calls have
        for call in calls:
            state = State(str(call.log), steps=(steps or {}).get(call.name, 0))
            if state.steps and self._goes_on[call.name]:
                state.first = state.step = last_progress(tail(call.log), _TRAINING) or 0
            self.status.calls[call.name] = state

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress while the block runs, and leave the last state in the file."""
        total = len(self._number)
        with self._reporter.task(f"{self.noun}s", total=total) as self._task:
            try:
                self._write()
                yield
            finally:
                self._read_steps()
                self.status.ended = True
                self._write()

    def started(self, call: ScriptCall, where: str = "") -> None:
        """Note a start and say so."""
        state = self.status.calls[call.name]
        state.state, state.where, state.since = RUNNING, where, time.time()
        run = self._goes_on[call.name]
        how = f"goes on in {run}" if run else "starts"
        place = f" on {where}" if where else ""
        self._reporter.line(
            f"{self.noun} {self._number[call.name]} of {len(self._number)}: {call.name} "
            f"{how}{place}; its log is {call.log}"
        )
        self.look()

    def retried(self, call: ScriptCall, why: str) -> None:
        """Note a further attempt and say why."""
        state = self.status.calls[call.name]
        state.state = WAITING
        state.retries += 1
        _stop_clock(state)
        self._goes_on[call.name] = call.begun()
        if call.runs is None:
            state.first = state.step = 0
        self._reporter.line(f"{self.noun} {call.name} on {state.where} is tried again: {why}")

    def ended(self, call: ScriptCall, failed: bool) -> None:
        """Note an end."""
        state = self.status.calls[call.name]
        state.state = FAILED if failed else DONE
        _stop_clock(state)
        if not failed:
            state.step = state.steps
        self._ended += 1
        if self._task is not None and (self._task.due() or self._ended == len(self._number)):
            self._show(f"{call.name} {state.state}")
        self.look()

    def look(self) -> None:
        """Read how far the trainings are and tell, if that is some time ago."""
        now = time.monotonic()
        pause = max(_SECONDS_BETWEEN_LOOKS, len(self._number) / _CALLS_A_SECOND)
        if now - self._looked < pause:
            return
        self._looked = now
        self._read_steps()
        self._write()
        if self._task is not None and self._task.due():
            self._show("")

    def _show(self, note: str) -> None:
        if self._task is not None:
            note = f"{note}; {self.status.summary()}" if note else self.status.summary()
            self._task.update(self._ended, note=note)

    def _read_steps(self) -> None:
        self.status.updated = time.time()
        for state in self.status.calls.values():
            if state.state == RUNNING and state.steps:
                step = last_progress(tail(state.log), _TRAINING)
                state.step = max(state.first, step or 0)

    def _write(self) -> None:
        if self._file is not None:
            write_json(self._file, asdict(self.status), indent=1)


def _stop_clock(state: State) -> None:
    if state.since:
        state.seconds += time.time() - state.since
        state.since = 0.0


def read_status(out: Path) -> Status:
    """Return where a benchmark stands, or stood when it was last at work.

    Raises:
        UserError: no benchmark has been at work in this folder, or the file is not as it was
            written.
    """
    path = out / STATUS
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        calls = {name: State(**state) for name, state in content.pop("calls").items()}
        return Status(**content, calls=calls)
    except FileNotFoundError as error:
        raise UserError(
            f"--status: no benchmark has begun in {out}. Name its folder with --out."
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"--status: {path} cannot be read as a status: {error}.") from error


def described(status: Status, now: float) -> list[str]:
    """Return lines that tell where a benchmark stands.

    Args:
        status: of the benchmark.
        now: seconds since 1970.
    """
    age = max(0.0, now - status.updated)
    if status.ended:
        life = f"ended {clock(age)} ago"
    elif age > _SILENT:
        life = f"was last heard of {clock(age)} ago; the same command goes on"
    else:
        life = f"at work, process {status.pid} on {status.host}"
    lines = [f"{status.phase}: {status.summary()}", life]
    if status.where:
        lines.append(f"on {status.where}")
    for name, call in status.calls.items():
        if call.state == RUNNING:
            step = f", step {call.step} of {call.steps}" if call.steps else ""
            lines.append(f"running: {name} on {call.where or 'this machine'}{step}")
    for name, call in status.calls.items():
        if call.state == FAILED:
            lines.append(f"failed: {name}; its log is {call.log}")
    return lines
