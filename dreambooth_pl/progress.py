"""Progress of long work: one bar per task on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

REFRESH_SECONDS = 0.5
"""Time between two updates of a bar on a terminal."""
LINE_SECONDS = 15.0
"""Time between two lines in a log file."""


class Task:
    """The progress of one piece of work of known length. `ProgressReporter.task` creates it."""

    def __init__(
        self, reporter: ProgressReporter, description: str, total: int, completed: int
    ) -> None:
        self._reporter = reporter
        self._description = description
        self._total = total
        self._first = completed
        self._done = completed
        self._started = self._shown = time.monotonic()
        self._bar = reporter.bars and reporter.bars.add_task(
            description, total=total, completed=completed, note=""
        )

    def due(self) -> bool:
        """Return whether an update would be shown now. The cost is one reading of the clock."""
        return time.monotonic() - self._shown >= self._reporter.seconds_between_updates

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Report progress.

        Args:
            done: number of items done.
            total: number of all items; `None` keeps the last value.
            note: text shown after the numbers.
        """
        self._done = done
        self._total = self._total if total is None else total
        if self._reporter.bars:
            self._reporter.bars.update(self._bar, completed=done, total=self._total, note=note)
            self._shown = time.monotonic()
        elif self.due() or done == self._total:
            self._shown = time.monotonic()
            self._reporter.line(self._text(note))

    def close(self) -> None:
        """Remove the bar. A finished task leaves a line."""
        if self._reporter.bars:
            self._reporter.bars.remove_task(self._bar)
            if self._done == self._total:
                self._reporter.line(self._text(""))

    def _text(self, note: str) -> str:
        elapsed = time.monotonic() - self._started
        advanced = self._done - self._first
        parts = [f"{self._description} {self._done}/{self._total}"]
        if self._done < self._total and advanced:
            left = elapsed / advanced * (self._total - self._done)
            parts.append(f"{clock(left)} left")
        else:
            parts.append(f"in {clock(elapsed)}")
        if note:
            parts.append(note)
        return ", ".join(parts)


class _Unread(io.TextIOBase):
    """A stream that takes text even when its reader has left: long work goes on without a word.

    A log's reader may end, and a terminal may hang up; neither is a reason to lose a training.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        return self._stream.encoding


class ProgressReporter:
    """Shows the progress of tasks. Tasks may nest, as when probes are generated during training.

    Args:
        stream: output stream; standard error by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=_Unread(stream or sys.stderr))
        self._open_tasks = 0
        self.bars: Progress | None = None
        """rich's display of all open tasks; `None` without a terminal."""
        if self._console.is_terminal:
            self.bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
                refresh_per_second=1 / REFRESH_SECONDS,
                transient=True,
            )

    @property
    def seconds_between_updates(self) -> float:
        """Shortest time between two updates of the display."""
        return REFRESH_SECONDS if self.bars else LINE_SECONDS

    @contextmanager
    def task(self, description: str, total: int, completed: int = 0) -> Iterator[Task]:
        """Show a task while the block runs.

        Args:
            description: text in front of the numbers.
            total: number of items.
            completed: number of items that are already done.

        Yields:
            The task.
        """
        if self.bars and self._open_tasks == 0:
            self.bars.start()
        self._open_tasks += 1
        task = Task(self, description, total, completed)
        try:
            yield task
        finally:
            task.close()
            self._open_tasks -= 1
            if self.bars and self._open_tasks == 0:
                self.bars.stop()

    def close(self) -> None:
        """Remove all bars, for a process that ends in the middle of its tasks."""
        if self.bars:
            self.bars.stop()

    def line(self, text: str) -> None:
        """Write a permanent line above any bars."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def last_progress(output: str, description: str) -> int | None:
    """Return how far a task had come by what it wrote to a log; None if it has not said.

    Args:
        output: what `ProgressReporter` wrote without a terminal.
        description: the task's.

    >>> last_progress("training 20/90, 1:10 left\\ntraining 35/90, 0:50 left", "training")
    35
    """
    found = re.findall(rf"^{re.escape(description)} (\d+)/\d+,", output, flags=re.MULTILINE)
    return int(found[-1]) if found else None


def clock(seconds: float) -> str:
    """Format a duration as minutes and seconds, or hours, minutes and seconds.

    >>> clock(75.2), clock(36_000)
    ('1:15', '10:00:00')
    """
    minutes, seconds = divmod(round(seconds), 60)
    if minutes >= 600:  # up to ten hours in minutes, as bars have them
        return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    return f"{minutes}:{seconds:02d}"
