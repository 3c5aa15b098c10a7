"""Where a run writes: `<root>/lightning_logs/<config name>/version_N/`, and what lies there."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dreambooth_pl.errors import UserError

LOGS = "lightning_logs"
CONFIG = "config.yaml"
RESUME = "resume"  # the key of `--resume`
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"  # in the folder of checkpoints
METRICS = "metrics.csv"
FAILURE = "failure.txt"  # where one of several processes has failed
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


def free_run_folder(root: Path, name: str) -> Path:
    """Return the folder that `make_run_folder` would make now. Creates nothing.

    Raises:
        UserError: a file is in its place.
    """
    folder = next_run_folder(root, name)
    _check_no_file(folder.parent)
    return folder


def _check_no_file(parent: Path) -> None:
    if parent.exists() and not parent.is_dir():
        raise UserError(f"{parent} is a file; a run's folder goes there.")


def make_run_folder(root: Path, name: str) -> Path:
    """Make the first free `<root>/lightning_logs/<name>/version_N` and return it.

    No two processes get the same folder: making it is what takes it.

    Raises:
        UserError: it cannot be made.
    """
    while True:
        folder = next_run_folder(root, name)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except (FileExistsError, FileNotFoundError):
            # Another run has taken the number, or taken an empty parent away. A file in the way of
            # the parent stays there.
            _check_no_file(folder.parent)
            continue
        except OSError as error:
            raise UserError(f"{folder} cannot be made: {error.strerror or error}.") from error
        return folder


def shared_run_folder(root: Path, name: str, first: bool) -> Path:
    """Return a new run's folder, made by the run's first process for those that it starts.

    Processes that something else has started (torchrun, SLURM) do not have its choice; the
    checkpoints' callback tells them, and nothing else is written but by the first.

    Args:
        root, name: as for `make_run_folder`.
        first: whether this is the process of rank 0.
    """
    if not first:
        shared = started_run_folder()
        return shared or next_run_folder(root, name)
    folder = make_run_folder(root, name)
    share_run_folder(folder)
    return folder


def share_run_folder(folder: Path) -> None:
    """Tell the processes that this one starts which folder is the run's."""
    os.environ[_SHARED] = str(folder)


def started_run_folder() -> Path | None:
    """Return the folder that the process which started this one has told it."""
    return Path(os.environ[_SHARED]) if _SHARED in os.environ else None


def newest_run_folder(root: Path) -> Path | None:
    """Return the run below `<root>/lightning_logs` that was at work last; None without any.

    A folder without a configuration is no run: it never began.
    """
    configs = list((root / LOGS).glob(f"*/version_*/{CONFIG}"))
    return max((path.parent for path in configs), key=_last_work, default=None)


def _last_work(folder: Path) -> tuple[int, int]:
    """Return when a run last wrote, and its number."""
    paths = [folder / CONFIG, folder / METRICS, folder / CHECKPOINTS / LAST]
    number = folder.name.removeprefix("version_")
    times = [path.stat().st_mtime_ns for path in paths if path.is_file()]
    return max(times), int(number) if number.isdigit() else -1


def resume_command(folder: Path) -> str:
    """Return the command that a run in `folder` goes on with, quoted for a shell.

    >>> resume_command(Path("lightning_logs/my dog/version_0"))
    "python train.py fit --resume 'lightning_logs/my dog/version_0'"
    """
    return shlex.join(["python", "train.py", "fit", "--resume", str(folder)])


def discard(run_folder: Path, root: Path | None = None) -> None:
    """Remove a run that never began, and the folders above it that it alone was in.

    Args:
        run_folder: the run's folder.
        root: the topmost folder that was made for the run; None for `lightning_logs`.
    """
    shutil.rmtree(run_folder, ignore_errors=True)
    with suppress(OSError):  # not empty: other runs lie there
        for parent in run_folder.parents:
            if parent not in (run_folder.parents[0], run_folder.parents[1]) and (
                root is None or not parent.is_relative_to(root)
            ):
                return
            parent.rmdir()
