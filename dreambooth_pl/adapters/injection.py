"""Adapters in a base: put in, taken out, checked, and their state.

Adapters are PEFT's, see kinds.py; with `full` the networks themselves train, see full.py. An
adapted layer of kind `lora` computes W' x with W' = W + scale * (alpha / rank) * B A.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import Parameter

from dreambooth_pl.adapters import full
from dreambooth_pl.adapters.kinds import KINDS, check_settings, layer_kind, peft_arguments
from dreambooth_pl.adapters.ranks import check_rank
from dreambooth_pl.adapters.settings import AdapterKind, AdapterSettings, targets_key
from dreambooth_pl.adapters.targets import target_names, targeted_layers
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.families import is_text_encoder
from dreambooth_pl.errors import UserError
from dreambooth_pl.randomness import generator

ADAPTER_NAME = "default"  # PEFT's name for the one adapter that trains


def add_adapters(
    base: Base,
    settings: AdapterSettings,
    train_text_encoder: bool,
    seed: int,
    kind: AdapterKind = "lora",
) -> None:
    """Put fresh trainable float32 adapters into the denoiser and, if asked, the text encoders.

    They start as PEFT's do, so that they change nothing: some factors are zero, the others
    Kaiming-uniform. The latter are keyed by `seed` and the layer's name: the order of layers does
    not matter and the global random state is left as it was. With kind `full` nothing is put in and
    the networks themselves become trainable.

    Raises:
        UserError: a target module that matches no layer, a layer that cannot be adapted, or a rank
            above the widths of all layers.
    """
    check_settings(kind, settings)
    for component, module in _adapted_components(base, train_text_encoder).items():
        if kind == "full":
            full.begin(module)
            module.requires_grad_(True)
            continue
        check_rank(base, component, settings, kind)
        inject(base, component, settings, kind)
        for name, parameter in adapter_parameters(module).items():
            parameter.requires_grad_(True)
            starts_at_zero = not parameter.any()
            if not starts_at_zero and ".lora_magnitude_vector." not in name:
                rng = generator(seed, "lora", component, name)
                start = torch.empty(parameter.shape)
                nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=rng)
                parameter.data.copy_(start)


def remove_adapters(base: Base) -> None:
    """Take all adapters out; the base is again as it was loaded."""
    if any(True for _ in adapted_layers(base)):
        base.pipeline().unload_lora_weights()
    for module in base.adaptable.values():
        full.undo(module)


def adapted_layers(base: Base) -> Iterator[tuple[str, str, BaseTunerLayer]]:
    """Yield component, name and layer of all layers with adapters."""
    for component, module in base.adaptable.items():
        for name, layer in module.named_modules():
            if isinstance(layer, BaseTunerLayer):
                yield component, name, layer


def adapter_kind(base: Base) -> AdapterKind | None:
    """Return the kind of adapters in the base; None without any."""
    if any(full.is_tuned(module) for module in base.adaptable.values()):
        return "full"
    return next((layer_kind(layer) for _, _, layer in adapted_layers(base)), None)


def adapter_parameters(module: nn.Module) -> dict[str, Parameter]:
    """Return the adapters' parameters in `module`, trainable or not, by their full names.

    Of a network that is tuned as a whole these are all its parameters.
    """
    named = module.named_parameters()
    if full.is_tuned(module):
        return dict(named)
    marks = {f".{mark}." for own in KINDS.values() for mark in own.marks}
    return {name: p for name, p in named if any(mark in name for mark in marks)}


def trainable_parameters(base: Base) -> dict[str, dict[str, Parameter]]:
    """Return what the optimiser trains: by component (`unet`, `text_encoder`), then by name.

    Components without trainable parameters are left out.
    """
    found = {
        component: {name: p for name, p in module.named_parameters() if p.requires_grad}
        for component, module in base.modules.items()
    }
    return {component: parameters for component, parameters in found.items() if parameters}


def check_trainable_set(
    base: Base, settings: AdapterSettings, train_text_encoder: bool, kind: AdapterKind = "lora"
) -> int:
    """Check that exactly the adapters which the settings name train, in float32.

    Returns the number of trainable values. The expected names are worked out from the layers'
    names alone, not from what PEFT did; with kind `full` they are all of the networks'.
    """
    trainable = {
        f"{component}.{name}": parameter
        for component, parameters in trainable_parameters(base).items()
        for name, parameter in parameters.items()
    }
    expected = set()
    for component, module in _adapted_components(base, train_text_encoder).items():
        if kind == "full":
            expected |= {f"{component}.{name}" for name, _ in module.named_parameters()}
            continue
        for layer in targeted_layers(base, component, settings.targets(component)):
            expected |= _expected_names(f"{component}.{layer}", kind, settings, set(trainable))
    missing, unexpected = sorted(expected - set(trainable)), sorted(set(trainable) - expected)
    wrong = sorted(name for name, p in trainable.items() if p.dtype != torch.float32)
    for names, what in (
        (missing, "adapters that the settings name do not train"),
        (unexpected, "parameters train that the settings do not name"),
        (wrong, "adapters must be float32"),
    ):
        if names:
            raise RuntimeError(f"{what}: {names[:3]}")
    return sum(parameter.numel() for parameter in trainable.values())


def adapter_state_dict(base: Base) -> dict[str, Tensor]:
    """Return all adapter weights by component and name (`unet.….lora_A.default.weight`).

    The tensors are the live ones, detached. With kind `full`, the weights of the tuned networks.
    """
    return {
        f"{component}.{name}": parameter.detach()
        for component, module in base.adaptable.items()
        for name, parameter in adapter_parameters(module).items()
    }


def load_adapter_state_dict(
    base: Base, state: dict[str, Tensor], source: str = "the state"
) -> None:
    """Copy `state` into the base's adapters in place; names and shapes must match exactly.

    Raises:
        UserError: naming `source` and what is missing, unexpected or of another shape.
    """
    copy_exactly(adapter_state_dict(base), state, source)


def inject(
    base: Base,
    component: str,
    settings: AdapterSettings,
    kind: AdapterKind = "lora",
    name: str = ADAPTER_NAME,
) -> None:
    """Let PEFT wrap the targeted layers, without touching the global random state.

    Raises:
        UserError: a target that matches no layer or cannot be adapted by this kind.
    """
    key, module = targets_key(component), base.adaptable[component]
    targets = target_names(base, component, settings.targets(component))
    if kind == "oft":
        _check_oft(base, component, settings, key)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # mixing is meant
        try:
            config = KINDS[kind].config(**peft_arguments(kind, settings, targets))
            module.add_adapter(config, name)
        except ValueError as error:
            raise UserError(f"{key}: {error}") from error
    module.eval()
    for parameter in adapter_parameters(module).values():
        parameter.data = parameter.data.float()


def copy_exactly(target: dict[str, Tensor], state: dict[str, Tensor], source: str) -> None:
    """Copy `state` into the tensors of `target`; nothing may be missing, left over or misshapen."""
    missing, unexpected = sorted(target.keys() - state.keys()), sorted(state.keys() - target.keys())
    if missing or unexpected:
        raise UserError(
            f"the adapters in {source} do not fit: {len(missing)} weights are missing "
            f"{missing[:2]}, {len(unexpected)} are unexpected {unexpected[:2]}. Were they trained "
            "on another base, or with other model.lora or model.train_text_encoder settings?"
        )
    for name, tensor in target.items():
        if tensor.shape != state[name].shape:
            raise UserError(
                f"the adapters in {source} do not fit: {name} is {tuple(state[name].shape)} there "
                f"and {tuple(tensor.shape)} here. Is model.lora.rank, or the base, another one?"
            )
    for name, tensor in target.items():
        tensor.copy_(state[name])


def _adapted_components(base: Base, train_text_encoder: bool) -> dict[str, nn.Module]:
    return {
        component: module
        for component, module in base.adaptable.items()
        if train_text_encoder or not is_text_encoder(component)
    }


def _expected_names(
    layer: str, kind: AdapterKind, settings: AdapterSettings, trainable: set[str]
) -> set[str]:
    """Return the names that adapter parameters must have on a layer.

    Which factors of lokr there are depends on the layer's size: w1 and w2, each whole or in parts.
    """
    if kind == "lokr":
        parts = []
        for half in ("lokr_w1", "lokr_w2"):
            whole = f"{layer}.{half}.{ADAPTER_NAME}" in trainable
            parts += [half] if whole else [f"{half}_a", f"{half}_b"]
    elif kind == "loha":
        parts = ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"]
    elif kind == "oft":
        parts = ["oft_R"]
    else:
        parts = ["lora_A", "lora_B", *(["lora_magnitude_vector"] if settings.use_dora else [])]
    end = "" if kind in ("lokr", "loha") else ".weight"  # a module's weight, or a parameter itself
    return {f"{layer}.{part}.{ADAPTER_NAME}{end}" for part in parts}


def _check_oft(base: Base, component: str, settings: AdapterSettings, key: str) -> None:
    """Refuse what PEFT would change without a word or compute wrongly.

    It takes another block size where ours does not divide a layer's width. On convolutions wider
    than 1 x 1 it sums overlapping patches, so that even the identity changes the layer.
    """
    for name in sorted(targeted_layers(base, component, settings.targets(component))):
        layer = base.adaptable[component].get_submodule(name)
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
            raise UserError(
                f"{key}: {name} is a convolution of {layer.kernel_size} pixels, which oft cannot "
                "adapt; leave the convolutions out, or take another model.adapter"
            )
        width = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
        if width % settings.rank:
            raise UserError(
                f"model.lora.rank: with model.adapter oft it is the side of the rotated blocks and "
                f"must divide the width of every adapted layer; {name} has {width}, which "
                f"{settings.rank} does not divide"
            )
