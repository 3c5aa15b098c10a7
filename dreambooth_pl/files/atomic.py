"""Atomic writes of files and folders. All lasting output is written through this module.

A write goes to a temporary path in the target's folder first. The temporary path is renamed to the
target when it is complete and on the disk. A reader therefore finds either the old or the new
contents, whatever interrupts the write.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.leftovers import aside_path, put_back, remove_temporary, temporary_path
from dreambooth_pl.stop_signals import STOP

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # raised by file systems without fsync
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # errno in the messages of safetensors


class WriteError(UserError):
    """A file or folder could not be written. Its previous contents are unchanged."""

    os_error: OSError
    """Error of the operating system."""

    @classmethod
    def of(cls, target: Path, error: OSError) -> WriteError:
        """Return the error for a target, with a message of one line."""
        advice = ""
        if error.errno in _FULL:
            advice = " Nothing was changed. Make space on that disk and start again."
        refused = cls(f"{target} cannot be written: {error.strerror or error}.{advice}")
        refused.os_error = error
        return refused


@contextmanager
def atomic_path(target: Path, replace: bool = True) -> Iterator[Path]:
    """Provide a temporary file that replaces `target` when the block ends.

    The temporary file is empty and lies in the target's folder, which is created if needed. It has
    the target's suffix, so that libraries that choose a format by suffix choose the right one. The
    target gets the permissions that the process gives to new files, even if the block changes
    those of the temporary file. If the block fails, the target is unchanged and the temporary file
    is removed.

    Args:
        target: the file.
        replace: whether a file may be there already. If not, one that another process puts there
            meanwhile is an error, too.

    Yields:
        Path of the temporary file. The block may write to it or replace it.

    Raises:
        WriteError: the operating system refused an operation of the block or of this function.
    """
    temporary = temporary_path(target)
    with _as_write_error(target):
        try:
            _check_replaceable(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            mode = _create(temporary)
            yield temporary
            _settle(temporary, mode)
            with STOP.deferred():
                if not replace:
                    _take(target, temporary)
                os.replace(temporary, target)
            _sync_folder(target.parent)
        finally:
            with STOP.deferred():
                remove_temporary(temporary)


@contextmanager
def atomic_folder(target: Path, replace: bool = False) -> Iterator[Path]:
    """Provide a temporary folder that becomes `target` when the block ends.

    Args:
        target: the folder. Its parent is created if needed.
        replace: whether `target` may exist already. The old folder is then moved aside, replaced by
            the new one, and removed. If the process is killed in between, `remove_leftovers` puts
            the old one back.

    Yields:
        Path of the temporary folder, which is empty.

    Raises:
        WriteError: as for `atomic_path`, or `target` exists and `replace` is false.
    """
    temporary, aside = temporary_path(target), aside_path(target)
    with _as_write_error(target):
        try:
            if not replace and os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            temporary.mkdir(parents=True)
            mode = temporary.stat().st_mode & 0o666
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    _settle(path, mode)
            _sync_folder(temporary)
            with STOP.deferred():  # there is no such folder for a moment
                _exchange(temporary, target, aside)
            _sync_folder(target.parent)
        finally:
            with STOP.deferred():
                remove_temporary(temporary)
                remove_temporary(aside)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically, as described in `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically. Line ends stay as in `text`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write plain values atomically as a JSON file that ends with a newline."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def copy_file(source: Path, target: Path) -> None:
    """Copy the contents of a file atomically.

    Raises:
        UserError: `source` cannot be opened, or `target` cannot be written.
    """
    try:
        file = source.open("rb")
    except OSError as error:
        raise UserError(f"Cannot read {source}: {error.strerror or error}.") from error
    with file, atomic_path(target) as temporary, temporary.open("wb") as copy:
        shutil.copyfileobj(file, copy)


def link_file(source: Path, target: Path) -> None:
    """Create a hard link to a finished file, or copy it if the disk has no hard links.

    A link takes neither time nor space. Both names share their contents until one of them is
    replaced, so neither file may be changed in place.
    """
    with atomic_path(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def _check_replaceable(target: Path) -> None:
    """Raise IsADirectoryError if `target` is a folder, which `os.replace` would refuse later."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(target.lstat().st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _create(path: Path) -> int:
    """Create an empty file and return its permissions, which follow the process's umask.

    Reading the umask directly would require setting it for a moment, for all threads.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _take(target: Path, finished: Path) -> None:
    """Take the target's name for a finished file, or fail because another file has it."""
    try:
        os.link(finished, target)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links: an empty file holds the place for a moment
        _create(target)


def _exchange(temporary: Path, target: Path, aside: Path) -> None:
    """Give a finished folder the target's name; what has it keeps it if that fails."""
    if os.path.lexists(target):
        aside.mkdir()
        os.rename(target, aside / target.name)
    try:
        os.rename(temporary, target)
    except OSError:
        put_back(aside)
        raise


def _settle(path: Path, mode: int) -> None:
    """Set the permissions of a finished file and wait until it is on the disk."""
    path.chmod(mode)
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Wait until the new names of a folder are on the disk, on platforms that support it.

    Windows does not. Errors are ignored, because the names are in place already.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _as_write_error(target: Path) -> Iterator[None]:
    try:
        yield
    except WriteError as error:  # of a file inside the temporary folder, which no longer exists
        raise WriteError.of(target, error.os_error) from error
    except OSError as error:
        raise WriteError.of(target, error) from error
    except SafetensorError as error:
        match = _OS_ERROR.search(str(error))
        if match is None:
            raise
        number = int(match[1])
        raise WriteError.of(target, OSError(number, os.strerror(number))) from error
