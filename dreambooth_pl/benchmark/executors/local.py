"""Script calls as processes of this machine, each on its GPU and its share of the cores."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dreambooth_pl.benchmark.executors.attempt import cause, kill, start, stop, tail
from dreambooth_pl.benchmark.executors.call import Resources, ScriptCall, Watch
from dreambooth_pl.benchmark.executors.memory import (
    cores,
    free_memory_gb,
    gpu_memory_gb,
    resident_gb,
    that_fit,
)
from dreambooth_pl.benchmark.executors.retries import Retries
from dreambooth_pl.stop_signals import STOP

AUTO = "auto"
_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_BETWEEN_MEASURES = 1.0
_MOST_ON_A_CARD = 16


@dataclass
class _Running:
    """A process and the slot that it takes."""

    call: ScriptCall
    process: subprocess.Popen[bytes]
    slot: int
    log_start: int


class LocalExecutor:
    """Runs scripts on this machine with this Python, in the order of the calls.

    Slots are dealt to the GPUs in turn, and a process sees its own GPU alone. Calls of several GPUs
    take as many; those of a part of one share it.

    Args:
        held_open: file descriptors that the processes keep open while they run.
        at_once: number of processes that run in parallel, each with its share of the cores. Small
            networks use one core much more efficiently than several. `auto`: one for each GPU, or
            one, until the first has ended; then as many as fit into memory beside each other.
        resources: what calls need, where it is known.
        gpus: what `CUDA_VISIBLE_DEVICES` calls them; none for a machine without.
    """

    def __init__(
        self,
        held_open: Sequence[int] = (),
        at_once: int | Literal["auto"] = 1,
        resources: Resources | None = None,
        gpus: Sequence[str] = (),
    ) -> None:
        assert at_once == AUTO or at_once > 0
        self.held_open = tuple(held_open)
        self.resources = resources or Resources()
        self.gpus = tuple(gpus) if self.resources.gpus != 0 else ()
        self.measuring = False  # whether the memory of a call decides on further slots
        self.slots = self._auto() if at_once == AUTO else at_once
        self._share = self.resources.threads  # threads of a process; None for all
        if self._share is None and (at_once == AUTO or at_once > 1):
            alone = self.measuring and not self.gpus
            self._share = 1 if alone else max(1, cores() // self.slots)
        self._peak_gb = 0.0

    def _auto(self) -> int:
        """Return how many calls run at first. See `at_once`."""
        asked = self.resources
        groups = max(1, len(self.gpus))
        if asked.gpus and asked.gpus >= 1 and self.gpus:
            return max(1, int(len(self.gpus) / asked.gpus))
        if asked.gpus and self.gpus:
            return groups * int(1 / asked.gpus)
        if asked.memory_gb:
            return self._fitting(asked.memory_gb)
        self.measuring = True
        return groups

    def _fitting(self, each_gb: float) -> int:
        """Return how many calls of this size fit beside each other."""
        if self.gpus:
            totals = [total for _, total in gpu_memory_gb()] or [0.0]
            on_a_card = min(_MOST_ON_A_CARD, that_fit(each_gb, min(totals)))
            return min(cores(), on_a_card * len(self.gpus))
        free = free_memory_gb()
        return min(cores() // (self.resources.threads or 1) or 1, that_fit(each_gb, free or 0))

    def __call__(
        self, calls: Sequence[ScriptCall], watch: Watch
    ) -> Iterator[tuple[ScriptCall, int]]:
        """Run the calls; see `Executor`. An interruption also stops the running processes."""
        waiting = list(calls)
        running: list[_Running] = []
        retries = Retries(lost=False)  # who kills a process here does not want it back
        measured = 0.0
        with STOP.at_once(lambda: kill([one.process for one in running])):
            try:
                while waiting or running:
                    while waiting and len(running) < self.slots:
                        slot = min(set(range(self.slots)) - {one.slot for one in running})
                        with STOP.deferred():  # or a process would run that nobody knows
                            running.append(self._start(waiting.pop(0), slot))
                        watch.started(running[-1].call, self._where(slot))
                    if self.measuring and time.monotonic() > measured + _SECONDS_BETWEEN_MEASURES:
                        measured = time.monotonic()
                        self._measure(running)
                    ended = [one for one in running if one.process.poll() is not None]
                    if not ended:
                        watch.look()
                        time.sleep(_SECONDS_BETWEEN_LOOKS)
                    for one in ended:
                        running.remove(one)
                        again = self._next_attempt(one, retries)
                        if again is not None:
                            watch.retried(*again)
                            waiting.insert(0, again[0])
                            continue
                        yield one.call, one.process.returncode
            finally:
                stop([one.process for one in running])

    def _next_attempt(self, one: _Running, retries: Retries) -> tuple[ScriptCall, str] | None:
        """Return what to run after a process that has ended, and why; None if that was all."""
        if one.process.returncode:
            said = tail(one.call.log, one.log_start)
            return retries.after(one.call, cause(one.process.returncode, said))
        if self.measuring and self._peak_gb:
            self.slots = max(self.slots, self._fitting(self._peak_gb))
            self.measuring = False
        return None

    def _start(self, call: ScriptCall, slot: int) -> _Running:
        log_start = call.log.stat().st_size if call.log.exists() else 0
        process = start(
            call.command(), call.log, self._environment(slot), descriptors=self.held_open
        )
        return _Running(call, process, slot, log_start)

    def _cards(self, slot: int) -> list[str]:
        """Return the GPUs of a slot."""
        several = max(1, int(self.resources.gpus or 1))
        first = slot * several
        return [self.gpus[(first + i) % len(self.gpus)] for i in range(several)]

    def _where(self, slot: int) -> str:
        return f"GPU {','.join(self._cards(slot))}" if self.gpus else "this machine"

    def _environment(self, slot: int) -> dict[str, str]:
        """Return the environment of a process.

        It computes with its share of the cores (`OMP_NUM_THREADS`), unless the user has set that.
        """
        own = dict(os.environ)
        if self._share is not None:
            own.setdefault("OMP_NUM_THREADS", str(self._share))
        if self.gpus:
            own["CUDA_VISIBLE_DEVICES"] = ",".join(self._cards(slot))
        elif self.resources.gpus == 0:
            own["CUDA_VISIBLE_DEVICES"] = ""
        return own

    def _measure(self, running: Sequence[_Running]) -> None:
        """Note the most memory that a call takes: of its card, else of the machine."""
        if self.gpus:
            used = max((used for used, _ in gpu_memory_gb()), default=0.0)
            self._peak_gb = max(self._peak_gb, used)
        else:
            for one in running:
                self._peak_gb = max(self._peak_gb, resident_gb(one.process.pid))


def visible_gpus(count: int) -> list[str]:
    """Return what `CUDA_VISIBLE_DEVICES` calls this process's GPUs.

    Args:
        count: how many there are.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in named.split(",")] if named else []
    return names[:count] if names else [str(number) for number in range(count)]
