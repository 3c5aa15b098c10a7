"""Signals that ask a process to end: work stops where it can be taken up again.

Signals belong to the whole process, and so does `STOP`, the one object that answers them.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
_WAITING = "\nStopping after this step. A second signal ends the process at once.\n"
NOTHING = "Nothing was changed."
"""What is said of a command that had not begun to write."""


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
        """What is kept and what the user can do next; set by whoever knows."""

    @property
    def status(self) -> int:
        """The exit status that shells know for a process ended by this signal."""
        return 128 + self.signum

    def __str__(self) -> str:
        return f"Stopped by {signal.Signals(self.signum).name}. {self.advice}".rstrip()


class StopSignals:
    """Answers SIGINT, SIGTERM and SIGHUP once `handled` is entered.

    The first signal raises `Stopped`. While signals are deferred it only sets `pending`, and the
    work asks for that at its next good place. A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self.pending: int | None = None
        """The signal that has arrived."""
        self._raised = False
        self._deferring = False
        self._announcing = False
        self._loading = False
        self._at_once: list[Callable[[], None]] = []
        self._pid: int | None = None
        self._before: dict[int, object] = {}

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Answer signals while the block runs, in the main thread of the process.

        A signal that the process was started to ignore (`nohup`, a job in the background) stays
        ignored. Within another such block, or in another thread, it does nothing.
        """
        if self._pid == os.getpid() or threading.current_thread() is not threading.main_thread():
            yield
            return
        self.pending, self._raised, self._deferring, self._pid = None, False, False, os.getpid()
        handlers = {number: signal.getsignal(number) for number in _numbers()}
        self._before = {n: found for n, found in handlers.items() if found is not signal.SIG_IGN}
        self._claim()
        try:
            yield
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._before, self._pid, self._deferring = {}, None, False

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Let the first signal end the process at once: nothing has begun, libraries are loaded.

        An exception in the middle of that could be swallowed or come out as another one.
        """
        self._loading = True
        try:
            yield
        finally:
            self._loading = False

    def defer(self) -> None:
        """Let signals wait from now on, until `release`, and tell the user when one comes."""
        self._claim()
        self._deferring = self._announcing = True

    def release(self) -> None:
        """Let signals raise again. What has waited stays in `pending`."""
        self._deferring = self._announcing = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let a signal wait while a short block runs, then raise, unless deferred around it."""
        before, self._deferring = self._deferring, True
        try:
            yield
        finally:
            self._deferring = before
        if self.pending is not None and not before and not self._raised:
            self._raise(self.pending)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let signals raise while the block runs, even if they are deferred around it."""
        self._claim()
        before, self._deferring = self._deferring, False
        try:
            if self.pending is not None:
                self._raise(self.pending)
            yield
        finally:
            self._deferring = before

    @contextmanager
    def at_once(self, act: Callable[[], None]) -> Iterator[None]:
        """Have a second signal call `act` before it ends the process, while the block runs."""
        self._at_once.append(act)
        try:
            yield
        finally:
            self._at_once.remove(act)

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
            for act in self._at_once:
                act()
            os._exit(128 + self.pending)
        self.pending = signum
        if self._loading:
            _write(f"{Stopped(signum)} {NOTHING}\n")
            os._exit(128 + signum)
        if not self._deferring:
            self._raise(signum)
        if self._announcing:
            _write(_WAITING)

    def _raise(self, signum: int) -> None:
        self._raised = True
        raise Stopped(signum)


@contextmanager
def advising(advice: str | Callable[[], str]) -> Iterator[None]:
    """Give advice to a user whose signal stops the block, unless advice is given within it.

    Args:
        advice: what is kept and how to go on, or a function that returns it.
    """
    try:
        yield
    except Stopped as stopped:
        if not stopped.advice:
            stopped.advice = advice if isinstance(advice, str) else advice()
        raise


def _write(text: str) -> None:
    """Write to standard error. Printing is not safe: the signal may have come within a print."""
    if os.environ.get("LOCAL_RANK", "0") == "0":  # the others get the same signal
        with suppress(OSError):  # nobody reads it
            os.write(2, text.encode())


STOP = StopSignals()
"""The process's own."""
