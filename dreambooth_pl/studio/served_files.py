"""The files that the studio hands out: what lies in runs and in its own results, and no others."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from dreambooth_pl.studio.workspace import Workspace

ROUTE = "/files"
TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".zip": "application/zip",
    ".safetensors": "application/octet-stream",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}
"""What is handed out, by suffix."""
SANDBOX = (
    "sandbox allow-scripts allow-popups; default-src 'none'; img-src 'self' data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
"""Policy of a report: it shows itself, and can do nothing with the studio."""


class ServedFiles:
    """Finds files by the addresses that the page has for them.

    Args:
        workspace: what may be handed out lies in it.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._folders = {"runs": workspace.runs, "results": workspace.results}

    def address(self, path: Path) -> str:
        """Return the address of a file in one of the folders, which changes with its content."""
        for name, folder in self._folders.items():
            if path.is_relative_to(folder):
                stamp = path.stat().st_mtime_ns // 1000
                return f"{ROUTE}/{name}/{quote(path.relative_to(folder).as_posix())}?{stamp}"
        raise ValueError(f"{path} is not handed out")

    def find(self, name: str, path: str) -> Path | None:
        """Return the file of an address; None if there is none that may be handed out.

        Links that lead out of the folder do not count, nor do hidden files.
        """
        folder = self._folders.get(name)
        parts = path.split("/")
        if folder is None or "\0" in path or any(part.startswith(".") for part in parts):
            return None
        try:
            file = folder.joinpath(*parts).resolve(strict=True)
            inside = file.is_relative_to(folder.resolve(strict=True))
        except (OSError, RuntimeError, ValueError):
            return None
        known = file.suffix.lower() in TYPES
        return file if inside and known and file.is_file() and "" not in parts else None
