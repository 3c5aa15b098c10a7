"""A check that a folder can be written to, for use before long work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dreambooth_pl.errors import UserError


def check_writable(folder: Path, option: str = "--trainer.default_root_dir") -> None:
    """Check that `folder` exists or can be created, and can be written to.

    The check creates and removes a temporary folder, because permission bits do not show whether
    the file system is read-only or full.

    Args:
        folder: the folder; it is not created.
        option: command-line option that chooses the folder, for the message.

    Raises:
        UserError: the folder cannot be written to.
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
