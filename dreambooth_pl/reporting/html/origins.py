"""Where a report comes from: settings of the runs, versions, the machine."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import dreambooth_pl
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.dotted_keys import flatten
from dreambooth_pl.files.plain_yaml import read_yaml
from dreambooth_pl.runs.folder import CONFIG

_LIBRARIES = (
    "torch",
    "torchvision",
    "lightning",
    "diffusers",
    "transformers",
    "peft",
    "open_clip_torch",
    "timm",
    "torchmetrics",
    "numpy",
    "pillow",
)
_ABSENT = "not set"


@dataclass(frozen=True)
class Settings:
    """Settings of one or several runs."""

    shared: Mapping[str, Any]
    """By dotted key, equal for all runs."""
    own: Mapping[str, Mapping[str, Any]]
    """The others, by the run's name."""


def versions() -> dict[str, str]:
    """Return what the report was made with: versions, and the machine."""
    found = {"dreambooth_pl": dreambooth_pl.__version__, "Python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["machine"] = f"{platform.system()} {platform.machine()}"
    if torch.cuda.is_available():
        found["GPU"] = torch.cuda.get_device_name()
    return found


def settings_of(folders: Mapping[str, Path]) -> Settings:
    """Return the settings in the runs' own config files; runs without one are left out.

    Args:
        folders: of the runs, by their names.
    """
    configs = {}
    for name, folder in folders.items():
        try:
            configs[name] = flatten(read_yaml(folder / CONFIG))
        except (UserError, OSError, AttributeError):  # none, or no run's: no reason to fail
            continue
    if not configs:
        return Settings({}, {})
    keys = sorted({key for config in configs.values() for key in config})
    values = {key: [config.get(key, _ABSENT) for config in configs.values()] for key in keys}
    shared = {key: own[0] for key, own in values.items() if all(value == own[0] for value in own)}
    own = {
        name: {key: config.get(key, _ABSENT) for key in keys if key not in shared}
        for name, config in configs.items()
    }
    return Settings(shared, {name: other for name, other in own.items() if other})
