"""Files and folders that appear whole or not at all. Everything that is kept is written here.

A write goes to a temporary neighbour of its target first and takes the target's name when it is
complete and on the disk. Whoever reads the target therefore finds what was there before or what is
there now, whatever interrupts the write.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from dreambooth_pl.errors import UserError

_NAME = re.compile(r"\.dreambooth_pl-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}(?:\.[^.]*)?")
_LONGEST_SUFFIX = 32  # bytes; longer ones are no file types
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # of file systems that have no fsync
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how safetensors, written in Rust, gives the errno
_ABANDONED = 24 * 60 * 60  # seconds after which another machine's temporary is nobody's any more


class WriteError(UserError):
    """A file or folder could not be written; what was at its place before is there unchanged."""

    os_error: OSError
    """What the operating system said."""

    @classmethod
    def of(cls, target: Path, error: OSError) -> WriteError:
        """Return the error with a message of one line."""
        advice = ""
        if error.errno in _FULL:
            advice = " Nothing was changed. Make space on that disk and start again."
        refused = cls(f"{target} cannot be written: {error.strerror or error}.{advice}")
        refused.os_error = error
        return refused


@contextmanager
def atomic_path(target: Path, replace: bool = True) -> Iterator[Path]:
    """Let the block write a temporary file, which then becomes `target`.

    The temporary is an empty file in the target's folder, which is made when needed. It has the
    target's suffix, so libraries that choose a format by it choose the right one. The target gets
    the permissions that the process gives to new files, whatever the block did about them. A block
    that fails leaves the target as it was, and no temporary.

    Args:
        target: the file.
        replace: whether a file may be there already. If not, one that another process puts there
            meanwhile is an error, too.

    Yields:
        Path of the temporary. The block may write to it, or put another file in its place.

    Raises:
        WriteError: the operating system refused something that the block or this function did.
    """
    temporary = _beside(target)
    with _as_write_error(target):
        try:
            _check_replaceable(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            mode = _create(temporary)
            yield temporary
            _settle(temporary, mode)
            if not replace:
                _take(target, temporary)
            os.replace(temporary, target)
            _sync_folder(target.parent)
        finally:
            _remove(temporary)


@contextmanager
def atomic_folder(target: Path, replace: bool = False) -> Iterator[Path]:
    """Let the block fill a temporary folder, which then becomes `target`.

    Args:
        target: in a folder that is made when needed.
        replace: whether a folder may be there already. It is then moved aside for the moment in
            which the new one takes its place, and removed.

    Yields:
        Path of the temporary folder, which is empty.

    Raises:
        WriteError: as for `atomic_path`; also if `target` is there already and not to be replaced.
    """
    temporary, before = _beside(target), _beside(target)
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
            if os.path.lexists(target):
                os.rename(target, before)
            try:
                os.rename(temporary, target)
            except OSError:
                if os.path.lexists(before):
                    os.rename(before, target)
                raise
            _sync_folder(target.parent)
        finally:
            _remove(temporary)
            _remove(before)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, its line ends as in `text`, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write plain values as a JSON file with a line end, whole or not at all."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def copy_file(source: Path, target: Path) -> None:
    """Copy the contents of a file, whole or not at all.

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
    """Give a file that is finished a second name, or copy it where the disk has no hard links.

    The two names share their contents until one of them is replaced. So it takes neither time nor
    space, and files that are only ever replaced, never changed, do not notice.
    """
    with atomic_path(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while they wrote into `folder` have left there.

    Temporaries of processes that run stay. Another machine's processes cannot be looked up, so
    their temporaries go when they are a day old. What cannot be removed stays, too.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            match = _NAME.fullmatch(path.name)
            if match and _is_abandoned(path, host=match[1], pid=int(match[2])):
                _remove(path)


def _beside(target: Path) -> Path:
    """Return a new hidden name in the target's folder, by which the process can be found.

    The target's own name is not in it: that may be as long as names can be.
    """
    suffix = target.suffix if len(os.fsencode(target.suffix)) <= _LONGEST_SUFFIX else ""
    name = f".dreambooth_pl-{_host()}-{os.getpid()}-{secrets.token_hex(4)}{suffix}"
    return target.parent / name


def _host() -> str:
    return sha256(platform.node().encode()).hexdigest()[:8]


def _check_replaceable(target: Path) -> None:
    """Refuse before the block's work what `os.replace` would refuse after it."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(target.lstat().st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _create(path: Path) -> int:
    """Create an empty file and return its permissions: those that the process's umask leaves.

    Asking for the umask instead would set it for a moment, for all threads.
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


def _settle(path: Path, mode: int) -> None:
    """Set a finished file's permissions and wait until it is on the disk."""
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
    """Wait until a folder's new names are on the disk, where the platform has that (not Windows).

    The names are there already, so nothing has failed if this does.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _as_write_error(target: Path) -> Iterator[None]:
    try:
        yield
    except WriteError as error:  # of a file inside a temporary folder, which is gone
        raise WriteError.of(target, error.os_error) from error
    except OSError as error:
        raise WriteError.of(target, error) from error
    except SafetensorError as error:
        match = _OS_ERROR.search(str(error))
        if match is None:
            raise
        number = int(match[1])
        raise WriteError.of(target, OSError(number, os.strerror(number))) from error


def _is_abandoned(path: Path, host: str, pid: int) -> bool:
    if host == _host() and not _runs(pid):
        return True
    return time.time() - path.lstat().st_mtime > _ABANDONED


def _runs(pid: int) -> bool:
    """Tell whether there is a process of this number."""
    if os.name == "nt":  # os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return True
