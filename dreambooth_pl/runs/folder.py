"""Where a run writes: `<root>/lightning_logs/<config name>/version_N/`, and what lies there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

LOGS = "lightning_logs"
CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"
LORA = "lora"
TUNED = "tuned"  # in place of lora/, where the networks themselves were trained
PROBES = "probes"
VALIDATION = "validation"
_SHARED = "DREAMBOOTH_PL_RUN_FOLDER"  # environment variable: rank 0's choice


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
        folder = folder_of_config(path)
        names.append(folder.parent.name if folder else path.stem)
    return "-".join(names) or "default"


def folder_of_config(path: Path) -> Path | None:
    """Return the run's folder if `path` is called like a run's own saved config, else None.

    >>> folder_of_config(Path("lightning_logs/sks/version_3/config.yaml")).name
    'version_3'
    """
    saved_run = path.name == CONFIG and path.parent.name.startswith("version_")
    return path.parent if saved_run else None


def next_run_folder(root: Path, name: str) -> Path:
    """Return the first free `<root>/lightning_logs/<name>/version_N`. Creates nothing."""
    parent = root / LOGS / name
    taken = [-1]
    for folder in parent.glob("version_*"):
        number = folder.name.removeprefix("version_")
        if number.isdigit():
            taken.append(int(number))
    return parent / f"version_{max(taken) + 1}"


def shared_run_folder(root: Path, name: str, first: bool) -> Path:
    """Return `next_run_folder`, chosen by the run's first process for those that it starts.

    Processes that something else has started (torchrun, SLURM) do not have its choice; the
    checkpoints' callback tells them, and nothing else is written but by the first.

    Args:
        root, name: as for `next_run_folder`.
        first: whether this is the process of rank 0.
    """
    if not first and _SHARED in os.environ:
        return Path(os.environ[_SHARED])
    folder = next_run_folder(root, name)
    if first:
        os.environ[_SHARED] = str(folder)
    return folder


def discard(run_folder: Path) -> None:
    """Remove a run that never began, and the folders above it that it alone was in."""
    shutil.rmtree(run_folder, ignore_errors=True)
    with suppress(OSError):  # not empty: other runs lie there
        for parent in run_folder.parents[:2]:
            parent.rmdir()
