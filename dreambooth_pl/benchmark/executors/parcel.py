"""Files that travel between machines without a common folder: packed, unpacked, told apart.

Nodes of a cluster get this module by value, so it imports nothing but the standard library.
"""

from __future__ import annotations

import io
import os
import secrets
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_OWN = (".dreambooth_pl-", ".lease", ".lock", ".token")  # what working processes hold, by its name
_RESULTS = ("lora", "tuned")  # folders whose files say that a run is complete
_CHECKPOINTS = "checkpoints"


def files_in(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files at and below paths, without those that processes at work hold."""
    for path in paths:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in found:
            if file.is_file() and not file.name.startswith(_OWN):
                yield file


def pack(folder: Path, files: Iterable[Path]) -> bytes:
    """Return files as an archive. Checkpoints are read first: logs may be ahead of them.

    Args:
        folder: what names in the archive are relative to.
        files: below it. One that vanishes meanwhile is left out.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in sorted(files, key=lambda path: _CHECKPOINTS not in path.parts):
            with suppress(FileNotFoundError):
                content = file.read_bytes()
                entry = tarfile.TarInfo(file.relative_to(folder).as_posix())
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def unpack(archive: bytes, folder: Path) -> list[Path]:
    """Write the files of an archive, each whole or not at all, and return them.

    Checkpoints come after logs, and what says that a run is complete comes last.
    """
    written = []
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for entry in sorted(opened.getmembers(), key=_rank):
            path = folder / entry.name
            if not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"the archive has a file outside its folder, {entry.name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".dreambooth_pl-{secrets.token_hex(8)}")
            with open(temporary, "wb") as file:
                file.write(opened.extractfile(entry).read())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            written.append(path)
    return written


def _rank(entry: tarfile.TarInfo) -> int:
    parts = Path(entry.name).parts
    return 2 * any(name in parts for name in _RESULTS) + (_CHECKPOINTS in parts)


class Changes:
    """Tells which files below some paths are new or changed since it was asked last.

    Args:
        paths: where to look. What is there now is not new.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = list(paths)
        self._known: dict[Path, tuple[int, int]] = {}
        self.since_last()

    def since_last(self) -> list[Path]:
        """Return the files that have changed, and know them from now on."""
        changed = []
        for file in files_in(self._paths):
            with suppress(FileNotFoundError):
                found = file.stat()
                mark = (found.st_mtime_ns, found.st_size)
                if self._known.get(file) != mark:
                    self._known[file] = mark
                    changed.append(file)
        return changed
