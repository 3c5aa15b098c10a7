"""Whether a folder can be written to, found out before long work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dreambooth_pl.errors import UserError


def check_writable(folder: Path, option: str = "--trainer.default_root_dir") -> None:
    """Raise UserError unless `folder` exists or can be made, and can be written to.

    Tries it with a temporary folder that is gone afterwards: permission bits alone do not tell
    about read-only or full file systems. `option` is the one that chooses the folder.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".dreambooth_pl-"):
            pass
    except OSError as error:
        raise UserError(
            f"Cannot write to {folder}: {existing}: {error.strerror or error}. Make the folder "
            f"writable or choose another one with {option}."
        ) from error
