"""`train.py fit --resume RUN`: a run goes on in its own folder, with its own configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.plain_yaml import read_yaml
from dreambooth_pl.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    LAST,
    LOGS,
    newest_run_folder,
    started_run_folder,
)
from dreambooth_pl.runs.logs import LogPoint

OPTION = "--resume"
NEWEST = "last"
_ROOT = "--trainer.default_root_dir"
_ROUNDS = {"Probes": ("probes", "fidelity"), "Validation": ("validation",)}
"""Callbacks and the groups of curves and pictures that their rounds log."""


def resumed_run(words: Sequence[str], first: bool) -> tuple[list[str], Path | None]:
    """Return the command line with the run's own configuration in place of `--resume RUN`.

    Args:
        words: the command line, `fit` first. What else stands there comes on top.
        first: whether this is the process of rank 0. Those that it starts take its choice.

    Returns:
        The command line, and the run's folder; None if no run is to be resumed.

    Raises:
        UserError: there is no such run, or it never began.
    """
    name, rest = _without_option(words, OPTION)
    if name is None:
        return list(words), None
    if any(word.split("=")[0] == "--ckpt_path" for word in rest):
        raise UserError(f"Give {OPTION} or --ckpt_path, not both.")
    folder = (None if first else started_run_folder()) or _folder(name, rest)
    config = folder / CONFIG
    if not config.is_file():
        raise UserError(
            f"{OPTION}: {folder} has no {CONFIG}, so no run has begun there. Give a folder such as "
            f"{LOGS}/sks/version_0."
        )
    return [*rest[:1], "--config", str(config), *rest[1:]], folder


def own_checkpoint(folder: Path) -> Path | None:
    """Return what a run goes on from; None if it was interrupted before its first checkpoint."""
    path = folder / CHECKPOINTS / LAST
    return path if path.is_file() else None


def log_point(checkpoint: dict[str, Any]) -> LogPoint:
    """Return what the logs of a run have when it goes on from its own checkpoint."""
    step = checkpoint["global_step"]
    states = checkpoint.get("callbacks", {})
    pending = states.get("Checkpoints", {}).get("pending")
    groups = [
        group
        for name, own in _ROUNDS.items()
        for group in own
        if states.get(name, {}).get("round", step) == step
    ]
    return LogPoint(step, step - 1 if pending else step, frozenset(groups))


def _folder(name: str, words: Sequence[str]) -> Path:
    if name != NEWEST:
        if not Path(name).is_dir():
            raise UserError(
                f"{OPTION}: there is no run {name!r}. Give the folder of one, such as "
                f"{LOGS}/sks/version_0, or {NEWEST}."
            )
        return Path(name)
    root = _root(words)
    folder = newest_run_folder(root)
    if folder is None:
        raise UserError(f"{OPTION} {NEWEST}: there is no run under {root / LOGS}.")
    return folder


def _root(words: Sequence[str]) -> Path:
    """Return the folder that has the runs, by the command line and the config files on it."""
    root = _without_option(words, _ROOT)[0]
    left = list(words)
    while root is None:
        config, left = _without_option(left, "--config")
        if config is None:
            break
        trainer = read_yaml(Path(config)).get("trainer")  # the file is checked to be a mapping
        root = trainer.get("default_root_dir") if isinstance(trainer, dict) else None
    return Path(root if isinstance(root, str) else ".")  # the parser tells of anything else


def _without_option(words: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    """Return the value of an option's last use, and the words without that."""
    for index in reversed(range(len(words))):
        word, equals, value = words[index].partition("=")
        if word != option:
            continue
        if equals:
            return value, [*words[:index], *words[index + 1 :]]
        if index + 1 == len(words):
            raise UserError(f"{option}: which? Give a value.")
        return words[index + 1], [*words[:index], *words[index + 2 :]]
    return None, list(words)
