"""What executors run, and what they tell: the protocols `Executor` and `Watch`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import dreambooth_pl
from dreambooth_pl.benchmark.executors.attempt import attempt_words, begun_run

ROOT = Path(dreambooth_pl.__file__).parents[1]  # folder of the scripts


@dataclass(frozen=True)
class Resources:
    """What one call needs; `resources` in a benchmark file."""

    cpus: float | None = None
    """CPU cores; None for the executor's share."""
    gpus: float | None = None
    """GPUs; a fraction shares a card with others. None for one where there are GPUs."""
    memory_gb: float | None = None
    """GiB of memory: of the card where the call has one, else of the machine. None if unknown."""
    minutes: float | None = None
    """The longest time that a call may take, for schedulers that ask; None for theirs."""

    @property
    def threads(self) -> int | None:
        """Threads that a call computes with; None for the executor's share."""
        return None if self.cpus is None else max(1, int(self.cpus))


@dataclass(frozen=True)
class ScriptCall:
    """One call of a script of the project, such as a training run."""

    name: str
    """Unique among the calls."""
    arguments: tuple[str, ...]
    """Command-line arguments after the script's name."""
    log: Path
    """File to which the output is appended; its folder exists."""
    script: str = "train.py"
    """File name of the script."""
    runs: Path | None = None
    """A training's folder: a run that has begun there goes on, in place of `arguments`."""
    inputs: tuple[Path, ...] = ()
    """Files and folders that it reads, beyond those that all calls of a benchmark do."""
    outputs: tuple[Path, ...] = ()
    """Folders that it writes to, besides its log."""
    batch: tuple[int, int] | None = None
    """A training's batch size and accumulated batches, to be halved and doubled when memory is
    short; None if they cannot be."""
    resources: Resources = field(default_factory=Resources)
    """What it needs."""

    def begun(self) -> Path | None:
        """Return the folder of the run that an attempt would go on with; None if it starts one."""
        return begun_run(self.runs) if self.runs else None

    def words(self) -> list[str]:
        """Return the arguments of an attempt that starts now."""
        return attempt_words(self.arguments, self.runs)

    def command(self) -> list[str]:
        """Return the command of an attempt that starts now, for this Python."""
        return [sys.executable, str(ROOT / self.script), *self.words()]

    @property
    def size(self) -> int | None:
        """Its batch size; None if it has none to be halved."""
        return self.batch[0] if self.batch else None

    def with_half_the_batch(self) -> ScriptCall | None:
        """Return the call with half the batch, accumulated twice, from the start; else None.

        A step sees the same samples. The run so far had another config, so it does not go on.
        """
        if self.batch is None or self.batch[0] % 2:
            return None
        size, accumulated = self.batch[0] // 2, self.batch[1] * 2
        more = (f"--data.batch_size={size}", f"--trainer.accumulate_grad_batches={accumulated}")
        return replace(
            self, arguments=(*self.arguments, *more), batch=(size, accumulated), runs=None
        )


class Watch(Protocol):
    """Is told by an executor what happens."""

    def started(self, call: ScriptCall, where: str = "") -> None:
        """A call has started, on the machine or card `where`."""
        ...

    def retried(self, call: ScriptCall, why: str) -> None:
        """A call has failed and waits for another attempt."""
        ...

    def look(self) -> None:
        """Time has passed; an executor calls this every second or so."""
        ...


class Executor(Protocol):
    """Runs independent calls, in any order and any number at a time."""

    slots: int
    """How many calls run at a time, as far as is known."""

    def __call__(
        self, calls: Sequence[ScriptCall], watch: Watch
    ) -> Iterator[tuple[ScriptCall, int]]:
        """Run each call to its end.

        Args:
            calls: what to run.
            watch: is told of each start.

        Yields:
            Each call with its exit status, as soon as it has ended.
        """
        ...
