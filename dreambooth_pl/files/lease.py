"""A file that says who works in a folder, for machines that share it over a network.

Locks of the operating system do not reach over all network file systems. A lease does: it rests on
the exclusive creation of a hard link alone. Its holder renews it again and again, and one that is
no longer renewed is free. No clocks are compared, since those of two machines differ.

Nodes of a cluster get this module by value, so it imports nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BEAT = 2.0
"""Seconds between two renewals."""
_PATIENCE = 4  # beats without renewal after which a lease is free


class HeldError(Exception):
    """Somebody else works in the folder, and is alive."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder
        """Machine and process."""


class Lease:
    """A lease on a folder.

    Args:
        path: its file.
        beat: seconds between two renewals; the same for all who ask for it.
    """

    def __init__(self, path: str | Path, beat: float = BEAT) -> None:
        self.path = Path(path)
        self.beat = beat
        self._token = secrets.token_hex(8)
        self._count = 0

    def take(self) -> None:
        """Take the lease. One whose process has ended on this machine is free at once.

        Raises:
            HeldError: somebody else renews it.
            OSError: the file cannot be written.
        """
        while not self._create():
            found = self._read()
            if found is not None and not _ended_here(found) and self._is_renewed(found):
                raise HeldError(f"process {found.get('pid')} on {found.get('host')}")
            self._put_aside(found)

    def seize(self) -> None:
        """Take the lease from whoever has it, and wait until they must have noticed.

        For an attempt that whoever directs the work has ordered in place of an earlier one.
        """
        if self._create():
            return
        found = self._read()
        self._write(os.replace)
        if found is not None and not _ended_here(found):
            time.sleep(2 * self.beat)

    def renew(self) -> bool:
        """Renew the lease; return whether it is still ours. Do it once a beat."""
        found = self._read()
        if found is None or found.get("owner") != self._token:
            return False
        self._count += 1
        with suppress(OSError):  # a disk that is full for a moment takes no lease away
            self._write(os.replace)
        return True

    def release(self) -> None:
        """Give the lease up, if it is still ours."""
        found = self._read()
        if found is not None and found.get("owner") == self._token:
            with suppress(OSError):
                self.path.unlink()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep a lease that was taken while the block runs, then give it up."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(self.beat):
                self.renew()

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.release()

    def _create(self) -> bool:
        try:
            self._write(os.link)
        except FileExistsError:
            return False
        return True

    def _write(self, put: Any) -> None:
        """Write our lease beside its place and put it there with `os.link` or `os.replace`."""
        content = {
            "owner": self._token,
            "host": platform.node(),
            "pid": os.getpid(),
            "beat": self._count,
        }
        temporary = self.path.with_name(f"{self.path.name}-{self._token}")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(content, file)
            put(temporary, self.path)
        finally:
            with suppress(OSError):
                temporary.unlink()

    def _read(self) -> dict[str, Any] | None:
        """Return what the lease says; None if there is none, or nothing sensible."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _is_renewed(self, found: dict[str, Any]) -> bool:
        for _ in range(2 * _PATIENCE):
            time.sleep(self.beat / 2)
            if self._read() != found:
                return True
        return False

    def _put_aside(self, stale: dict[str, Any] | None) -> None:
        """Remove a lease that nobody renews; a new one that came meanwhile is put back."""
        aside = self.path.with_name(f"{self.path.name}-{self._token}-aside")
        with suppress(OSError):
            os.rename(self.path, aside)
        try:
            moved = json.loads(aside.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            moved = None
        if moved != stale and moved is not None:
            with suppress(OSError):
                os.link(aside, self.path)
        with suppress(OSError):
            aside.unlink()


def _ended_here(found: dict[str, Any]) -> bool:
    """Return whether the holder was a process of this machine that is no more."""
    if found.get("host") != platform.node() or os.name == "nt":
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except (OSError, KeyError, TypeError, ValueError):
        return False
    return False
