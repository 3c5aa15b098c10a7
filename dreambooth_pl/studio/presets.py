"""Bases and presets, read from `configs/`, and the config file of a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import dreambooth_pl
from dreambooth_pl.data.sidecars import CAPTION_SUFFIXES
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import write_text
from dreambooth_pl.files.dotted_keys import flatten
from dreambooth_pl.files.plain_yaml import YAMLError, load_yaml, read_yaml
from dreambooth_pl.runs.folder import run_name
from dreambooth_pl.studio.subjects import Subject
from dreambooth_pl.studio.workspace import Workspace

ROOT = Path(dreambooth_pl.__file__).parents[1]
"""Folder of the scripts and of `configs/`."""
CONFIGS = ROOT / "configs"
PRESETS = ("quick", "usual", "careful")
DEFAULT_BASE = "miniature"

_LOCAL = ("model.base", "fidelity.clip", "fidelity.dino")
"""Keys of a base that may name a folder of this project."""
_LOCAL_DIR = "local-dir:"


def bases() -> list[str]:
    """Return the names of the bases that have presets, the embedded one first."""
    names = sorted(path.name for path in (CONFIGS / "presets").iterdir() if path.is_dir())
    return sorted(names, key=lambda name: name != DEFAULT_BASE)


def config_files(base: str, preset: str) -> list[Path]:
    """Return the config files of a base and a preset, in their order."""
    if base not in bases() or preset not in PRESETS:
        raise UserError("Choose a base and a preset.")
    return [CONFIGS / "base" / f"{base}.yaml", CONFIGS / "presets" / base / f"{preset}.yaml"]


def preset_values(base: str, preset: str) -> dict[str, Any]:
    """Return what a base and a preset set, by dotted keys."""
    values: dict[str, Any] = {}
    for path in config_files(base, preset):
        values |= flatten(read_yaml(path))
    return values


def training_config(
    workspace: Workspace,
    subject: Subject,
    base: str,
    preset: str,
    other_base: str,
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a training sets beside base and preset, as nested keys.

    Args:
        workspace: in whose root the training runs.
        subject: the photos and the words.
        base, preset: names, as for `config_files`.
        other_base: folder or hub id in place of the base's own; empty for none.
        changes: further keys, dotted.
    """
    photos = subject.photos
    if photos.is_relative_to(workspace.root):
        photos = photos.relative_to(workspace.root)
    values: dict[str, Any] = {
        "data.instance_dir": photos.as_posix(),
        "data.identifier": subject.identifier,
        "data.class_noun": subject.class_noun,
    }
    if any(path.suffix in CAPTION_SUFFIXES for path in subject.photos.iterdir()):
        values["data.captions"] = "auto"
    own = preset_values(base, preset)
    for key in _LOCAL:
        if (moved := _elsewhere(own.get(key), workspace.root)) is not None:
            values[key] = moved
    if other_base.strip():
        values["model.base"] = other_base.strip()
    return _nested(values | dict(changes))


def write_training_config(folder: Path, name: str, config: Mapping[str, Any]) -> Path:
    """Write a training's own config file, called like its subject, and return its path."""
    path = folder / f"{name}.yaml"
    write_text(path, yaml.safe_dump(dict(config), allow_unicode=True, sort_keys=False))
    return path


def name_of_run(base: str, preset: str, subject: Subject) -> str:
    """Return the name that `train.py` gives the run."""
    return run_name([*config_files(base, preset), Path(f"{subject.name}.yaml")])


def read_value(text: str) -> Any:
    """Return what a value means that was typed into the form, as in a config file.

    Raises:
        UserError: it is no YAML.
    """
    try:
        value = load_yaml(text)
    except YAMLError as error:
        raise UserError(f"{text!r} is not a value: {error}") from error
    try:
        return float(value) if isinstance(value, str) and "e" in value.lower() else value
    except ValueError:
        return value


def _elsewhere(name: Any, root: Path) -> str | None:
    """Return where a folder of this project is, if not below the working folder."""
    if not isinstance(name, str):
        return None
    prefix = _LOCAL_DIR if name.startswith(_LOCAL_DIR) else ""
    folder = name.removeprefix(prefix)
    if (root / folder).exists() or not (ROOT / folder).exists():
        return None
    return f"{prefix}{ROOT / folder}"


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested keys for dotted ones.

    >>> _nested({"model.lora.rank": 8, "seed_everything": 1})
    {'model': {'lora': {'rank': 8}}, 'seed_everything': 1}
    """
    config: dict[str, Any] = {}
    for key, value in values.items():
        *groups, name = key.split(".")
        place = config
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    return config
