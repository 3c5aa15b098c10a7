"""Folders in PEFT's layout, as our own export and `PeftModel.save_pretrained` write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from dreambooth_pl.adapters.header import METADATA_KEY, read_settings
from dreambooth_pl.adapters.kinds import known_arguments, recognise
from dreambooth_pl.adapters.layouts import file_key
from dreambooth_pl.bases.base import Base
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.typed import Name, TypedReader

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # of a network inside a PeftModel
_PATTERNS = ("rank_pattern", "alpha_pattern")
_MAGNITUDE = ".lora_magnitude_vector"


def peft_files(path: Path) -> list[Path]:
    """Return PEFT's files of weights at a path, each with its config beside it.

    Args:
        path: such a file, its folder, or a folder with a folder for each network.
    """
    places = [path] if path.is_file() else [path / WEIGHTS_NAME, *path.glob(f"*/{WEIGHTS_NAME}")]
    return [
        place
        for place in sorted(places)
        if place.name == WEIGHTS_NAME and place.is_file() and (place.parent / CONFIG_NAME).is_file()
    ]


def peft_base(path: Path) -> str | None:
    """Return the name of the base that a file's config tells; None if it tells none.

    Raises:
        UserError: the config cannot be read, or the name is none.
    """
    config = _config(path)
    read = TypedReader(path.parent / CONFIG_NAME, config, "Name the base with --base.")
    return read.get("base_model_name_or_path", Name | None, None)


def as_diffusers(
    path: Path, weights: dict[str, Tensor], base: Base
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a file's tensors and settings as files in diffusers' layout have them.

    Args:
        path: the file.
        weights: its tensors.
        base: that the file is for.

    Raises:
        UserError: the config cannot be read, or the network is not known.
    """
    component = path.parent.name
    if component not in base.adaptable:
        if any("encoder.layers." in key for key in weights):
            raise UserError(
                f"{path}: to which text encoder does it belong? Name its folder after the "
                f"network, which is one of {', '.join(base.adaptable)}."
            )
        component = base.rules.denoiser
    theirs = {f"{component}.{key}": value for key, value in _config(path).items()}
    settings = read_settings(str(path.parent / CONFIG_NAME), {METADATA_KEY: json.dumps(theirs)})
    kind = recognise(list(weights)) or "lora"
    known = known_arguments(kind)
    metadata = {
        key: value
        for key, value in settings.items()
        if (name := key.partition(".")[2]) in known or (name in _PATTERNS and value)
    }
    named = {key.removeprefix(_PREFIX): tensor for key, tensor in weights.items()}
    own = {
        f"{component}.{file_key(component, f'{n}.weight' if n.endswith(_MAGNITUDE) else n)}": t
        for n, t in named.items()
    }
    return own, metadata


def _config(path: Path) -> dict[str, Any]:
    place = path.parent / CONFIG_NAME
    try:
        config = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{place} cannot be read: {error}") from error
    return TypedReader(place, config).checked("the file", config, dict)
