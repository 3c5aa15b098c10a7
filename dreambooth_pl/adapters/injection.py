"""Adapters of a base: adding, removing and checking them, and their state.

Adapters are those of PEFT (see `adapters.kinds`). With kind `full`, the networks themselves train
(see `adapters.full`). An adapted layer of kind `lora` computes W' x with
W' = W + scale * (alpha / rank) * B A.
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
from dreambooth_pl.adapters.kinds import (
    ADAPTER_NAME,
    KINDS,
    check_settings,
    layer_kind,
    peft_arguments,
    wrap_layers,
)
from dreambooth_pl.adapters.ranks import check_rank
from dreambooth_pl.adapters.settings import AdapterKind, AdapterSettings, targets_key
from dreambooth_pl.adapters.targets import target_names, targeted_layers
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.families import is_text_encoder
from dreambooth_pl.errors import UserError
from dreambooth_pl.randomness import generator


def add_adapters(
    base: Base,
    settings: AdapterSettings,
    train_text_encoder: bool,
    seed: int,
    kind: AdapterKind = "lora",
) -> None:
    """Add new trainable float32 adapters to the denoiser and optionally the text encoders.

    They are initialised as in PEFT, so that they do not change the output: some factors are zero,
    the others Kaiming-uniform. The random values depend on `seed` and the parameter's name. They do
    not depend on the order of layers, and the global random state is unchanged. With kind `full`,
    no adapters are added and the networks themselves become trainable.

    Args:
        base: without adapters.
        settings: size and target modules.
        train_text_encoder: whether to adapt the text encoders, too.
        seed: of the initial values.
        kind: of the adapters.

    Raises:
        UserError: a target matches no layer, a layer cannot be adapted, a setting does not belong
            to the kind, or the rank is above the widths of all layers.
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
    """Remove all adapters and restore the base as it was loaded."""
    for module in base.adaptable.values():
        if not hasattr(module, "peft_config"):  # PEFT refused a configuration
            module._hf_peft_config_loaded = False
    if any(True for _ in adapted_layers(base)):
        base.pipeline().unload_lora_weights()
    for module in base.adaptable.values():
        full.undo(module)


def adapted_layers(base: Base) -> Iterator[tuple[str, str, BaseTunerLayer]]:
    """Yield component, name and layer of every layer with an adapter."""
    for component, module in base.adaptable.items():
        for name, layer in module.named_modules():
            if isinstance(layer, BaseTunerLayer):
                yield component, name, layer


def adapter_kind(base: Base) -> AdapterKind | None:
    """Return the kind of the base's adapters, or None if it has none."""
    if any(full.is_tuned(module) for module in base.adaptable.values()):
        return "full"
    return next((layer_kind(layer) for _, _, layer in adapted_layers(base)), None)


def adapter_parameters(module: nn.Module) -> dict[str, Parameter]:
    """Return the adapter parameters of `module`, trainable or not, by their full names.

    For a fully tuned network, these are all of its parameters.
    """
    named = module.named_parameters()
    if full.is_tuned(module):
        return dict(named)
    marks = {f".{mark}." for own in KINDS.values() for mark in own.marks}
    return {name: p for name, p in named if any(mark in name for mark in marks)}


def trainable_parameters(base: Base) -> dict[str, dict[str, Parameter]]:
    """Return the trainable parameters by component (such as `unet`), then by name.

    Components without trainable parameters are omitted.
    """
    found = {
        component: {name: p for name, p in module.named_parameters() if p.requires_grad}
        for component, module in base.modules.items()
    }
    return {component: parameters for component, parameters in found.items() if parameters}


def parameters_without_gradient(base: Base) -> list[str]:
    """Return the names of trainable parameters that no prompt's encoding depends on.

    They are those of text encoders' layers behind the states that the denoiser reads, as of the
    last layer of Stable Diffusion XL's first text encoder. An optimiser leaves them as they are.

    Returns:
        Names that begin with the component, such as `text_encoder.`
    """
    named = {
        f"{component}.{name}": parameter
        for component, parameters in trainable_parameters(base).items()
        if is_text_encoder(component)
        for name, parameter in parameters.items()
    }
    if not named:
        return []
    encoded = base.encode_prompts([""])
    outputs = [t.sum() for t in (encoded.hidden_states, *encoded.added.values()) if t.requires_grad]
    gradients = torch.autograd.grad(outputs, list(named.values()), allow_unused=True)
    return [name for name, gradient in zip(named, gradients, strict=True) if gradient is None]


def check_trainable_set(
    base: Base, settings: AdapterSettings, train_text_encoder: bool, kind: AdapterKind = "lora"
) -> int:
    """Check that exactly the adapters named by the settings are trainable, in float32.

    The expected names are derived from the layers' names, independently of PEFT. With kind `full`,
    they are the names of all parameters of the networks.

    Args:
        base: with adapters.
        settings: the settings that the adapters were added with.
        train_text_encoder: whether the text encoders should train.
        kind: of the adapters.

    Returns:
        Number of trainable values.

    Raises:
        RuntimeError: a parameter is missing, unexpected or not float32.
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
            start = f"{component}.{layer}."
            parts = KINDS[kind].parts(settings, lambda part, start=start: start + part in trainable)
            expected |= {start + part for part in parts}
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

    The tensors are detached but share memory with the live ones. With kind `full`, they are the
    weights of the tuned networks.
    """
    return {
        f"{component}.{name}": parameter.detach()
        for component, module in base.adaptable.items()
        for name, parameter in adapter_parameters(module).items()
    }


def load_adapter_state_dict(
    base: Base, state: dict[str, Tensor], source: str = "the state"
) -> None:
    """Copy `state` into the base's adapters in place. Errors name `source` as its origin.

    Raises:
        UserError: names or shapes do not match exactly.
    """
    copy_exactly(adapter_state_dict(base), state, source)


def inject(
    base: Base,
    component: str,
    settings: AdapterSettings,
    kind: AdapterKind = "lora",
    name: str = ADAPTER_NAME,
) -> None:
    """Let PEFT wrap the targeted layers of a component. The global random state is unchanged.

    Args:
        base: the base.
        component: one of `Base.adaptable`.
        settings: size and target modules.
        kind: any but `full`.
        name: PEFT's name for the adapter.

    Raises:
        UserError: a target matches no layer or cannot be adapted by this kind.
    """
    key, module = targets_key(component), base.adaptable[component]
    targets = target_names(base, component, settings.targets(component))
    if check := KINDS[kind].check_layer:
        for layer in sorted(targeted_layers(base, component, settings.targets(component))):
            check(key, layer, module.get_submodule(layer), settings)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # mixed on purpose
        try:
            wrap_layers(module, KINDS[kind].config(**peft_arguments(kind, settings, targets)), name)
        except ValueError as error:
            raise UserError(f"{key}: {error}") from error
    module.eval()
    for parameter in adapter_parameters(module).values():
        parameter.data = parameter.data.float()


def copy_exactly(target: dict[str, Tensor], state: dict[str, Tensor], source: str) -> None:
    """Copy `state` into the tensors of `target`. Errors name `source` as its origin.

    Raises:
        UserError: names or shapes do not match exactly.
    """
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
