"""Adapters in files: written in diffusers' layout, read back, and several mixed with weights.

The file of kind `lora` is what diffusers' `load_lora_weights` reads. The other kinds' files are
built alike: PEFT's names of the parts below the component's name, PEFT's settings in the header.
Kind `full` has the tuned networks' own weights, and says so in the header.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dreambooth_pl.adapters import foreign, full
from dreambooth_pl.adapters.finite import check_finite
from dreambooth_pl.adapters.injection import (
    ADAPTER_NAME,
    adapted_layers,
    adapter_kind,
    adapter_parameters,
    copy_exactly,
    inject,
    remove_adapters,
)
from dreambooth_pl.adapters.kinds import (
    alphas,
    arguments_of,
    known_arguments,
    recognise,
    settings_of,
)
from dreambooth_pl.adapters.names import file_key, fitting_name
from dreambooth_pl.adapters.settings import AdapterKind, AdapterSettings, targets_field
from dreambooth_pl.adapters.targets import target_names
from dreambooth_pl.bases.base import Base
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import atomic_path

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
TUNED_NAME = "tuned_weights.safetensors"  # of a full fine-tuning
METADATA_KEY = "lora_adapter_metadata"  # where diffusers keeps rank and alpha in the file's header
FULL_KEY = "dreambooth_pl.tuned"  # header of a full fine-tuning: the names of the tuned networks


@dataclass(frozen=True)
class AdapterFile:
    """What a file holds: tensors by key, and diffusers' metadata by `component.argument`."""

    path: Path
    weights: dict[str, Tensor]
    metadata: dict[str, Any]
    tuned: list[str]
    """Components that the file has as a whole; none in an adapter's file."""


def save_adapters(base: Base, settings: AdapterSettings, folder: str | Path) -> Path:
    """Write the base's adapters to `folder`/pytorch_lora_weights.safetensors.

    With kind `full` the networks themselves go to `folder`/tuned_weights.safetensors.

    Rank and alpha of each half are in the file's metadata, so that diffusers' `load_lora_weights`
    applies the strength that was trained. Returns the file's path; it appears complete or not at
    all.

    Raises:
        UserError: a weight is not finite.
    """
    kind = adapter_kind(base)
    assert kind is not None, "no adapters to save"
    weights: dict[str, Tensor] = {}
    header: dict[str, str] = {"format": "pt"}
    metadata: dict[str, Any] = {}
    for component, module in base.adaptable.items():
        parameters = adapter_parameters(module)
        for name, parameter in parameters.items():
            key = name if kind == "full" else file_key(component, name)
            weights[f"{component}.{key}"] = parameter.detach().cpu().contiguous()
        if parameters and kind != "full":
            config = module.peft_config[ADAPTER_NAME]
            targets = target_names(base, component, settings.targets(component))
            if set(targets) != set(config.target_modules):  # another tool's file, or PEFT's summary
                targets = sorted(config.target_modules)
            arguments = arguments_of(kind, config) | {"target_modules": targets}
            metadata |= {f"{component}.{name}": value for name, value in arguments.items()}
    if kind == "full":
        header[FULL_KEY] = " ".join(n for n, m in base.adaptable.items() if full.is_tuned(m))
    else:
        header[METADATA_KEY] = json.dumps(metadata, indent=2, sort_keys=True)
    path = Path(folder) / (TUNED_NAME if kind == "full" else WEIGHTS_NAME)
    check_finite(weights, str(path))
    with atomic_path(path) as temporary:
        save_file(weights, temporary, header)
    return path


def load_adapters(base: Base, path: str | Path) -> AdapterSettings:
    """Replace the base's adapters by those in a file, or a folder with a file of ours.

    They come back frozen, for drawing, at the strength they were trained with. The file is one that
    `save_adapters` wrote, or another tool's LoRA in diffusers' or kohya's layout, see foreign.py.
    Returns the settings that the file records; of another tool's file the most frequent rank and
    alpha.

    Raises:
        UserError: no such file, or weights that do not fit this base.
    """
    return load_weighted_adapters(base, [(path, 1.0)])[0]


@torch.no_grad()
def load_weighted_adapters(
    base: Base, files: Sequence[tuple[str | Path, float]]
) -> list[AdapterSettings]:
    """Replace the base's adapters by those of several files at once, each times its weight.

    A layer then computes with W + scale * sum of weight_i * (alpha_i / rank_i) * B_i A_i, where
    scale is `adapter_scale`'s. (With DoRA the weight is within the norm, see there.) All files are
    of one kind; a weight other than 1, and more than one file, are not for oft.

    Raises:
        UserError: as `load_adapters`; or kinds that do not mix.
    """
    read = [(_read(Path(path)), weight) for path, weight in files]
    remove_adapters(base)
    try:
        kinds = {_kind(file) for file, _ in read}
        if len(kinds) > 1:
            raise UserError(
                f"Adapters of different kinds ({', '.join(sorted(kinds))}) cannot be mixed."
            )
        if kinds == {"oft"} and any(weight != 1 for _, weight in read[:1]) | (len(read) > 1):
            raise UserError("Adapters of kind oft are rotations; they cannot be mixed or weighted.")
        names = [ADAPTER_NAME, *(f"{ADAPTER_NAME}_{number}" for number in range(1, len(read)))]
        settings = [
            _attach(base, file, weight, name)
            for (file, weight), name in zip(read, names, strict=True)
        ]
        for _, _, layer in adapted_layers(base):
            layer.set_adapter(names)
            for (_, weight), name in zip(read, names, strict=True):
                if name in alphas(layer):  # where PEFT's set_scale starts from
                    alphas(layer)[name] *= weight
                    layer.set_scale(name, 1.0)
        for module in base.adaptable.values():
            module.requires_grad_(False)
    except UserError:
        remove_adapters(base)
        raise
    return settings


def weights_in(folder: Path) -> Path:
    """Return the file that `save_adapters` wrote into a folder, or would write for adapters."""
    tuned = folder / TUNED_NAME
    return tuned if tuned.is_file() else folder / WEIGHTS_NAME


def _read(path: Path) -> AdapterFile:
    path = weights_in(path) if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"there is no LoRA file {str(path)!r}; give a file or a run's lora folder")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = json.loads(header.get(METADATA_KEY) or "{}")
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{str(path)!r} is not a readable safetensors file: {error}") from error
    return AdapterFile(path, weights, metadata, header.get(FULL_KEY, "").split())


def _kind(file: AdapterFile) -> AdapterKind:
    if file.tuned:
        return "full"
    return recognise(list(file.weights)) or foreign.kind(file.weights)


def _attach(base: Base, file: AdapterFile, weight: float, name: str) -> AdapterSettings:
    """Put one file's adapters into the base under PEFT's name `name`."""
    kind = _kind(file)
    if kind == "full":
        _tune(base, file, weight)
        return AdapterSettings()
    own = {c: _component(file.metadata, c) for c in base.adaptable}
    if not any(own.values()) or any(set(a) - known_arguments(kind) for a in own.values()):
        return foreign.attach(base, str(file.path), file.weights, file.metadata, name)
    settings = AdapterSettings()
    state: dict[str, Tensor] = {}
    for component, arguments in own.items():
        if not arguments:
            continue
        module = base.adaptable[component]
        targets = {targets_field(component): list(arguments["target_modules"])}
        settings = replace(settings, **settings_of(kind, arguments), **targets)
        inject(base, component, settings, kind, name)
        state |= {
            f"{component}.{file_key(component, parameter_name, name)}": parameter.detach()
            for parameter_name, parameter in adapter_parameters(module).items()
            if name in parameter_name.split(".")
        }
    copy_exactly(state, file.weights, str(file.path))
    return settings


def _tune(base: Base, file: AdapterFile, weight: float) -> None:
    """Add a full fine-tuning to the base's networks."""
    known = {f"{c}.{n}": p for c in file.tuned for n, p in base.modules[c].named_parameters()}
    theirs = {fitting_name(key, known): tensor for key, tensor in file.weights.items()}
    copy_exactly({key: torch.empty_like(p) for key, p in known.items()}, theirs, str(file.path))
    for component in file.tuned:
        module = base.adaptable[component]
        if not full.is_tuned(module):
            full.begin(module)
        weights = {name: theirs[f"{component}.{name}"] for name, _ in module.named_parameters()}
        full.add(module, weights, weight)


def _component(metadata: dict[str, Any], component: str) -> dict[str, Any]:
    start = f"{component}."
    return {k.removeprefix(start): v for k, v in metadata.items() if k.startswith(start)}
