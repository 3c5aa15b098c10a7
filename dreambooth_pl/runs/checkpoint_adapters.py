"""The adapters in a checkpoint of training, rebuilt from the config that the checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dreambooth_pl.adapters import (
    AdapterKind,
    AdapterSettings,
    add_adapters,
    load_adapter_state_dict,
    remove_adapters,
    save_adapters,
)
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bounds import Seed
from dreambooth_pl.files.typed import TypedReader, Words
from dreambooth_pl.training.checkpoint import CONFIG_KEY, load_checkpoint

SUFFIX = ".ckpt"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds about its adapters."""

    path: Path
    """The checkpoint's file."""
    config: Any
    """The run's whole config, in plain types; not checked."""
    fingerprint: str
    """Fingerprint of the base."""
    step: int
    """Number of optimiser steps until then."""
    state: dict[str, Tensor]
    """Weights of the adapters, by component and name."""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this project's training.

    Raises:
        UserError: the file is no such checkpoint, or was changed.
    """
    content = load_checkpoint(str(path))
    read = TypedReader(path, content, remedy="The checkpoint was changed or damaged.")
    return Checkpoint(
        path,
        content[CONFIG_KEY],
        read.get("base.fingerprint", Words),
        read.get("global_step", int),
        read.get("state_dict", dict[str, Tensor]),
    )


def attach(base: Base, checkpoint: Checkpoint) -> AdapterSettings:
    """Replace the base's adapters by those of a checkpoint.

    Raises:
        UserError: the checkpoint's config is not a run's, or its weights do not fit the base.
    """
    settings = fresh_adapters(base, checkpoint.config, str(checkpoint.path))
    load_adapter_state_dict(base, checkpoint.state, str(checkpoint.path))
    return settings


def adapter_file(base: Base, path: Path, folder: Path) -> Path:
    """Write the adapters of a checkpoint as an adapter file. The base is left without adapters.

    Args:
        base: that the adapters are for.
        path: the checkpoint.
        folder: where the file is written.

    Raises:
        UserError: as for `read_checkpoint` and `attach`.
    """
    try:
        settings = attach(base, read_checkpoint(path))
        return save_adapters(base, settings, folder)
    finally:
        remove_adapters(base)


def fresh_adapters(base: Base, config: Any, source: str) -> AdapterSettings:
    """Replace the base's adapters by those that a run with this config starts with.

    Raises:
        UserError: a value is missing, of a wrong type or out of its bounds; names `source`.
    """
    remove_adapters(base)
    read = TypedReader(source, config, remedy="Set the key to what train.py wrote there.")
    settings = read.settings(AdapterSettings, "model.lora")
    kind = read.get("model.adapter", AdapterKind, "lora")
    train_text_encoder = read.get("model.train_text_encoder", bool)
    add_adapters(base, settings, train_text_encoder, read.get("seed_everything", Seed), kind)
    for module in base.adaptable.values():
        module.requires_grad_(False)
    return settings
