"""Where a run writes: `<root>/lightning_logs/<config name>/version_N/`, and what lies there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dreambooth_pl.errors import UserError

LOGS = "lightning_logs"
CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"
LORA = "lora"
PROBES = "probes"


def run_name(configs: Sequence[Path]) -> str:
    """Name a run by the config files it was made from, in their order.

    A run's own saved config (`lightning_logs/NAME/version_N/config.yaml`) stands for `NAME`.

    >>> run_name([Path("configs/sks.yaml"), Path("configs/options/text_encoder.yaml")])
    'sks-text_encoder'
    >>> run_name([Path("lightning_logs/sks/version_3/config.yaml")])
    'sks'
    >>> run_name([])
    'default'
    """
    names = []
    for path in configs:
        saved_run = path.name == CONFIG and path.parent.name.startswith("version_")
        names.append(path.parent.parent.name if saved_run else path.stem)
    return "-".join(names) or "default"


def check_writable(folder: Path) -> None:
    """Raise UserError unless `folder` exists or can be made, and can be written to.

    Tries it with a temporary folder that is gone afterwards: permission bits alone do not tell
    about read-only or full file systems.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".dreambooth_pl-"):
            pass
    except OSError as error:
        raise UserError(
            f"Cannot write the run to {folder}: {existing}: {error.strerror or error}. Make the "
            "folder writable or choose another one with --trainer.default_root_dir."
        ) from error


def next_run_folder(root: Path, name: str) -> Path:
    """Return the first free `<root>/lightning_logs/<name>/version_N`. Creates nothing."""
    parent = root / LOGS / name
    taken = [-1]
    for folder in parent.glob("version_*"):
        number = folder.name.removeprefix("version_")
        if number.isdigit():
            taken.append(int(number))
    return parent / f"version_{max(taken) + 1}"


def discard(run_folder: Path) -> None:
    """Remove a run that never began, and the folders above it that it alone was in."""
    shutil.rmtree(run_folder, ignore_errors=True)
    with suppress(OSError):  # not empty: other runs lie there
        for parent in run_folder.parents[:2]:
            parent.rmdir()
