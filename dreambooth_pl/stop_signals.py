"""Signals that ask a process to end: work stops where it can be taken up again.

Signals belong to the whole process, and so does `STOP`, the one object that answers them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
_WAITING = b"\nStopping after this step. A second signal ends the process at once.\n"


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Let no process that the block starts receive such signals; this one answers for all.

    What arrives here meanwhile is answered after the block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _numbers())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class Stopped(BaseException):
    """A signal has asked the process to end.

    It is no `Exception`, so code that handles errors lets it pass. It is no `KeyboardInterrupt`
    either: Lightning turns that into an exit status of its own.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
        """The signal."""
        self.advice = ""
        """What the user can do next; set by whoever knows."""

    @property
    def status(self) -> int:
        """The exit status that shells know for a process ended by this signal."""
        return 128 + self.signum


class StopSignals:
    """Answers SIGINT, SIGTERM and SIGHUP once `handled` is entered.

    The first signal raises `Stopped`. While signals are deferred it only sets `pending`, and the
    work asks for that at its next good place. A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self.pending: int | None = None
        """The signal that has arrived."""
        self._deferring = False
        self._pid: int | None = None
        self._before: dict[int, object] = {}

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Answer signals while the block runs, in the main thread of the process.

        A signal that the process was started to ignore (`nohup`, a job in the background) stays
        ignored.
        """
        self.pending, self._deferring, self._pid = None, False, os.getpid()
        handlers = {number: signal.getsignal(number) for number in _numbers()}
        self._before = {n: found for n, found in handlers.items() if found is not signal.SIG_IGN}
        self._claim()
        try:
            yield
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._before, self._pid, self._deferring = {}, None, False

    def defer(self) -> None:
        """Let signals wait from now on, until `release`."""
        self._claim()
        self._deferring = True

    def release(self) -> None:
        """Let signals raise again. What has waited stays in `pending`."""
        self._deferring = False

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let signals raise while the block runs, even if they are deferred around it."""
        self._claim()
        before, self._deferring = self._deferring, False
        try:
            if self.pending is not None:
                raise Stopped(self.pending)
            yield
        finally:
            self._deferring = before

    def _claim(self) -> None:
        """Take the signals; Lightning puts a handler of its own in front when training starts."""
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a data loader's worker; the main process ends it
            if signum != signal.SIGINT:
                os._exit(128 + signum)
            return
        if self.pending is not None:
            os._exit(128 + self.pending)
        self.pending = signum
        if not self._deferring:
            raise Stopped(signum)
        if os.environ.get("LOCAL_RANK", "0") == "0":  # the others get the same signal
            os.write(2, _WAITING)  # printing is not safe: the signal may have come within a print


STOP = StopSignals()
"""The process's own."""
