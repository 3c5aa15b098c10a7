"""Adapter files: saving in diffusers' layout, loading, and mixing several files with weights.

Files of kind `lora` can be read by diffusers' `load_lora_weights`. Files of the other adapters have
the same structure: each key is the component's name followed by PEFT's name of the parameter, and
the header holds PEFT's settings. Files of kind `full` hold the weights of the tuned networks, and
their header names these networks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dreambooth_pl.adapters import foreign, full
from dreambooth_pl.adapters.finite import check_finite
from dreambooth_pl.adapters.header import (
    FULL_KEY,
    METADATA_KEY,
    check_complete,
    check_ranks,
    read_settings,
    tuned_networks,
)
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
    KINDS,
    alphas,
    arguments_of,
    known_arguments,
    recognise,
    settings_of,
)
from dreambooth_pl.adapters.layouts import file_key, fitting_name
from dreambooth_pl.adapters.peft_folder import as_diffusers, peft_files
from dreambooth_pl.adapters.settings import AdapterKind, AdapterSettings, targets_field
from dreambooth_pl.adapters.targets import target_names
from dreambooth_pl.bases.base import Base
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import atomic_path

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
TUNED_NAME = "tuned_weights.safetensors"  # file of kind full


@dataclass(frozen=True)
class AdapterFile:
    """The contents of an adapter file."""

    path: Path
    weights: dict[str, Tensor]
    """Tensors by key."""
    metadata: dict[str, Any]
    """diffusers' adapter metadata, by `component.argument`."""
    header: Mapping[str, str]
    """The file's header."""


def save_adapters(base: Base, settings: AdapterSettings, folder: str | Path) -> Path:
    """Write the base's adapters to `folder/pytorch_lora_weights.safetensors`.

    With kind `full`, the weights of the networks are written to `folder/tuned_weights.safetensors`
    instead. The file's metadata holds rank and alpha of each component, so that diffusers'
    `load_lora_weights` applies the trained strength. The file is written whole or not at all.

    Args:
        base: with adapters of any kind.
        settings: the settings that the adapters were added with.
        folder: created if needed.

    Returns:
        Path of the file.

    Raises:
        UserError: a weight is not finite, or the file cannot be written.
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
            if set(targets) != set(config.target_modules):  # from another tool, or changed by PEFT
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
    """Replace the base's adapters by those of a file.

    The loaded adapters are frozen and have the strength they were trained with.

    Args:
        base: of the family that the file is for.
        path: a file that `save_adapters` wrote, a folder that contains one, a folder in PEFT's
            layout, or an adapter file of another tool (see `adapters.foreign`).

    Returns:
        The settings that the file records. For files of other tools, the most frequent rank and
        alpha.

    Raises:
        UserError: the file does not exist, is not readable, or does not fit this base.
    """
    return load_weighted_adapters(base, [(path, 1.0)])[0]


@torch.no_grad()
def load_weighted_adapters(
    base: Base, files: Sequence[tuple[str | Path, float]]
) -> list[AdapterSettings]:
    """Replace the base's adapters by those of several files, each multiplied by a weight.

    Layers with LoRA then compute with W + scale * sum of weight_i * (alpha_i / rank_i) * B_i A_i,
    where scale is set by `adapter_scale`. With DoRA, the weight acts within the norm, as described
    in `adapter_scale`. All files must be of one kind. Kind `oft` supports only one file, with
    weight 1.

    Args:
        base: of the family that the files are for.
        files: paths as for `load_adapters`, with their weights.

    Returns:
        The settings of each file, as for `load_adapters`.

    Raises:
        UserError: as for `load_adapters`, or the kinds cannot be mixed.
    """
    read = [(_read(base, Path(path)), weight) for path, weight in files]
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
                if name in alphas(layer):  # set_scale computes the scaling from alpha
                    alphas(layer)[name] *= weight
                    layer.set_scale(name, 1.0)
        for module in base.adaptable.values():
            module.requires_grad_(False)
    except UserError:
        remove_adapters(base)
        raise
    return settings


def weights_in(folder: Path) -> Path:
    """Return the adapter file of a folder.

    It is `tuned_weights.safetensors` if that exists, else `pytorch_lora_weights.safetensors`,
    whether or not the latter exists.
    """
    tuned = folder / TUNED_NAME
    return tuned if tuned.is_file() else folder / WEIGHTS_NAME


def _read(base: Base, path: Path) -> AdapterFile:
    weights: dict[str, Tensor] = {}
    metadata: dict[str, Any] = {}
    peft = peft_files(path)
    for part in peft:
        own, arguments = as_diffusers(part, _read_tensors(part)[0], base)
        weights, metadata = weights | own, metadata | arguments
    header: Mapping[str, str] = {}
    if not peft:
        path = weights_in(path) if path.is_dir() else path
        weights, header = _read_tensors(path)
        metadata = read_settings(str(path), header)
    check_ranks(str(path), metadata, weights)
    return AdapterFile(path, weights, metadata, header)


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Return a file's tensors and its header."""
    if not path.is_file():
        raise UserError(f"there is no LoRA file {str(path)!r}; give a file or a run's lora folder")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{str(path)!r} is not a readable safetensors file: {error}") from error


def _kind(file: AdapterFile) -> AdapterKind:
    if file.header.get(FULL_KEY, "").strip():
        return "full"
    return recognise(list(file.weights)) or foreign.kind(file.weights)


def _attach(base: Base, file: AdapterFile, weight: float, name: str) -> AdapterSettings:
    """Add the adapters of one file to the base under PEFT's adapter name `name`."""
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
        needed = {*KINDS[kind].fields.values(), "target_modules"}
        check_complete(str(file.path), arguments, needed, component)
        targets = {targets_field(component): arguments["target_modules"]}
        try:
            settings = replace(settings, **settings_of(kind, arguments), **targets)
            inject(base, component, settings, kind, name)
        except UserError as error:
            raise UserError(f"{file.path}: {error}") from error
        state |= {
            f"{component}.{file_key(component, parameter_name, name)}": parameter.detach()
            for parameter_name, parameter in adapter_parameters(module).items()
            if name in parameter_name.split(".")
        }
    copy_exactly(state, file.weights, str(file.path))
    return settings


def _tune(base: Base, file: AdapterFile, weight: float) -> None:
    """Add the weights of a file of kind `full` to the base's networks."""
    tuned = tuned_networks(str(file.path), file.header, base.adaptable)
    known = {f"{c}.{n}": p for c in tuned for n, p in base.modules[c].named_parameters()}
    theirs = {fitting_name(key, known): tensor for key, tensor in file.weights.items()}
    copy_exactly({key: torch.empty_like(p) for key, p in known.items()}, theirs, str(file.path))
    for component in tuned:
        module = base.adaptable[component]
        if not full.is_tuned(module):
            full.begin(module)
        weights = {name: theirs[f"{component}.{name}"] for name, _ in module.named_parameters()}
        full.add(module, weights, weight)


def _component(metadata: dict[str, Any], component: str) -> dict[str, Any]:
    start = f"{component}."
    return {k.removeprefix(start): v for k, v in metadata.items() if k.startswith(start)}
