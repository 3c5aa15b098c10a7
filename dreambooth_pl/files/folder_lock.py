"""One process at a time in a folder: a second one is refused, or waits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dreambooth_pl.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

_NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold ``folder`` while the block runs, and longer if a child keeps the descriptor open.

    For benchmarks: a training outlives a benchmark that is killed; without the lock, the benchmark
    started again would train the same job a second time beside it.

    Yields:
        File descriptor of the lock.

    Raises:
        UserError: another process holds the folder, or it cannot be written to.
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
                raise UserError(
                    f"Another benchmark, or a training that one has started, is at work in "
                    f"{folder}. Let it end or end it, or choose another folder with --out."
                ) from error
        yield file.fileno()


@contextmanager
def taking_turns(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for this folder, which exists.

    It is the folder itself that is locked, so that nothing is added to it. Where there are no such
    locks (Windows, some network file systems) there is no waiting.
    """
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
