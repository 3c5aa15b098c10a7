"""Locks that let only one process at a time work in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.lease import HeldError, Lease

try:
    import fcntl
except ImportError:  # Windows has no fcntl
    fcntl = None

_NAME = ".lock"
_LEASE = ".lease"


_BENCHMARK = (
    "Another benchmark, or a training that one has started, is at work in {folder}. Let it end or "
    "end it, or choose another folder with --out."
)


@contextmanager
def locked(folder: Path, busy: str = _BENCHMARK) -> Iterator[int]:
    """Lock `folder` while the block runs, or longer if a child process keeps the descriptor open.

    Benchmarks and the studio use this lock. A training process outlives a benchmark that is killed.
    Without the lock, the restarted benchmark would train the same job a second time, in parallel.
    On Windows nothing is locked.

    Args:
        folder: the folder; it is made if needed.
        busy: what is said if another process holds the lock; `{folder}` is filled in.

    Yields:
        File descriptor of the lock.

    Raises:
        UserError: another process holds the lock, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _NAME).open("ab")
    except OSError as error:
        raise UserError(
            f"Cannot write to {folder}: {error.strerror or error}. Choose another one with --out."
        ) from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(busy.format(folder=folder)) from error
        yield file.fileno()


@contextmanager
def leased(folder: Path) -> Iterator[None]:
    """Keep benchmarks of other machines out of `folder` while the block runs.

    Raises:
        UserError: one is at work there.
    """
    lease = Lease(folder / _LEASE)
    try:
        lease.take()
    except HeldError as held:
        raise UserError(
            f"Another benchmark is at work in {folder}: {held.holder}. Let it end or end it, or "
            "choose another folder with --out."
        ) from held
    with lease.kept():
        yield


@contextmanager
def taking_turns(folder: Path, across_machines: bool = False) -> Iterator[None]:
    """Wait until no other process is in such a block for this folder.

    The folder must exist. It is locked itself, so that no lock file is added to it. On systems
    without such locks (Windows, some network file systems) there is no waiting.

    Args:
        folder: what the block works on.
        across_machines: whether to wait for other machines, too, by a hidden file in the folder.
    """
    with _turn_here(folder):
        if not across_machines:
            yield
            return
        lease = Lease(folder / _LEASE)
        while True:
            try:
                lease.take()
                break
            except HeldError:
                continue  # taking has waited already
        with lease.kept():
            yield


@contextmanager
def _turn_here(folder: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
