"""Temporary paths beside their targets, and what becomes of those that killed processes leave."""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

_NAME = re.compile(r"\.dreambooth_pl-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}(?:(-aside)|\.[^.]*)?")
_ASIDE = "-aside"
_LONGEST_SUFFIX = 32  # bytes; a longer suffix is not a file type
_ABANDONED = 24 * 60 * 60  # seconds after which another machine's temporary counts as abandoned


def temporary_path(target: Path) -> Path:
    """Return a new hidden path in the target's folder. Its name identifies the process.

    It does not contain the target's name, which may already have the maximal length.
    """
    suffix = target.suffix if len(os.fsencode(target.suffix)) <= _LONGEST_SUFFIX else ""
    return target.parent / f"{_own_name()}{suffix}"


def aside_path(target: Path) -> Path:
    """Return a new hidden folder in the target's folder, in which the target keeps its name.

    What a killed process leaves there gets its place back: see `remove_leftovers`.
    """
    return target.parent / f"{_own_name()}{_ASIDE}"


def remove_leftovers(folder: Path) -> None:
    """Remove temporary paths that killed processes have left in `folder`.

    A folder that was moved aside, and whose place has stayed empty, is put back. Temporary paths of
    running processes stay. Processes of other machines cannot be looked up, so their temporary
    paths are removed when they are a day old. Paths that cannot be removed are ignored.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            match = _NAME.fullmatch(path.name)
            if match and _is_abandoned(path, host=match[1], pid=int(match[2])):
                remove_temporary(path)


def remove_temporary(path: Path) -> None:
    """Remove a temporary path, if it exists. What was moved aside is put back if need be.

    What can be neither put back nor removed stays.
    """
    with suppress(OSError):
        if path.name.endswith(_ASIDE):
            put_back(path)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def put_back(aside: Path) -> None:
    """Give what was moved aside its place back, unless something else has taken that.

    Raises:
        OSError: it cannot be moved.
    """
    for old in list(aside.iterdir()) if aside.is_dir() else []:
        target = aside.parent / old.name
        if not os.path.lexists(target):
            os.rename(old, target)


def _own_name() -> str:
    return f".dreambooth_pl-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"


def _host() -> str:
    return sha256(platform.node().encode()).hexdigest()[:8]


def _is_abandoned(path: Path, host: str, pid: int) -> bool:
    if host == _host() and not _runs(pid):
        return True
    return time.time() - path.lstat().st_mtime > _ABANDONED


def _runs(pid: int) -> bool:
    """Return whether a process with this number exists. On Windows it always counts as existing."""
    if os.name == "nt":  # os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it belongs to another user
    return True
