"""LoRA adapters (arXiv 2106.09685) by PEFT: where they go, what trains, state in and out.

An adapted layer computes W' x with W' = W + scale * (alpha / rank) * B A.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import Parameter

from dreambooth_pl.errors import UserError
from dreambooth_pl.models import Base
from dreambooth_pl.randomness import generator

ADAPTER = "default"  # PEFT's name for the one adapter we use
WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
METADATA_KEY = "lora_adapter_metadata"  # where diffusers keeps rank and alpha in the file's header


@dataclass(frozen=True)
class LoraSettings:
    """Size and place of the low-rank adapters."""

    rank: int = 8
    """Rank of each update: the width between A and B."""
    alpha: float = 8.0
    """Strength of the update; it is scaled by alpha / rank."""
    dropout: float = 0.0
    """Probability in [0, 1) of dropping an adapter's input while training."""
    target_modules: list[str] = field(default_factory=lambda: ["to_q", "to_k", "to_v", "to_out.0"])
    """UNet layers to adapt, by the end of their names; by default all attention projections."""
    text_encoder_target_modules: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "out_proj"]
    )
    """Text encoder layers to adapt when it is trained, by the end of their names."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"model.lora.rank must be at least 1, not {self.rank}")
        if self.alpha <= 0:
            raise UserError(f"model.lora.alpha must be positive, not {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.lora.dropout must lie in [0, 1), not {self.dropout}")

    def targets(self, component: str) -> list[str]:
        """Return the target modules of a component of `Base.adaptable`."""
        return self.target_modules if component == "unet" else self.text_encoder_target_modules


def add_lora(base: Base, settings: LoraSettings, train_text_encoder: bool, seed: int) -> None:
    """Put fresh trainable float32 adapters into the UNet and, if asked, the text encoders.

    B is zero and A is Kaiming-uniform as in PEFT, but keyed by `seed` and the layer's name: the
    order of layers does not matter and the global random state is left as it was.

    Raises:
        UserError: a target module that matches no layer, or a layer that cannot be adapted.
    """
    for component, module in _adapted_components(base, train_text_encoder).items():
        _inject(component, module, settings)
        for name, parameter in adapter_parameters(module).items():
            parameter.requires_grad_(True)
            if ".lora_A." in name:
                rng = generator(seed, "lora", component, name)
                start = torch.empty(parameter.shape)
                nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=rng)
                parameter.data.copy_(start)


def remove_lora(base: Base) -> None:
    """Take all adapters out; the base is again as it was loaded."""
    if any(isinstance(m, LoraLayer) for c in base.adaptable.values() for m in c.modules()):
        base.pipeline(DDPMScheduler()).unload_lora_weights()


def adapter_parameters(module: nn.Module) -> dict[str, Parameter]:
    """Return the adapters' parameters in `module`, trainable or not, by their full names."""
    parts = LoraLayer.adapter_layer_names
    named = module.named_parameters()
    return {name: p for name, p in named if any(f".{part}." in name for part in parts)}


def trainable_parameters(base: Base) -> dict[str, dict[str, Parameter]]:
    """Return what the optimiser trains: by component (`unet`, `text_encoder`), then by name.

    Components without trainable parameters are left out.
    """
    found = {
        component: {name: p for name, p in module.named_parameters() if p.requires_grad}
        for component, module in base.modules.items()
    }
    return {component: parameters for component, parameters in found.items() if parameters}


def assert_trainable_set(base: Base, settings: LoraSettings, train_text_encoder: bool) -> int:
    """Assert that exactly the adapters which the settings name train, in float32.

    Returns the number of trainable values. The expected names are worked out from the layers'
    names alone, not from what PEFT did.
    """
    expected = {
        f"{component}.{name}"
        for component, module in _adapted_components(base, train_text_encoder).items()
        for name in _expected_names(module, settings.targets(component))
    }
    trainable = {
        f"{component}.{name}": parameter
        for component, parameters in trainable_parameters(base).items()
        for name, parameter in parameters.items()
    }
    missing, unexpected = sorted(expected - set(trainable)), sorted(set(trainable) - expected)
    assert not missing, f"adapters that the settings name do not train: {missing[:3]}"
    assert not unexpected, f"parameters train that the settings do not name: {unexpected[:3]}"
    wrong = [name for name, p in trainable.items() if p.dtype != torch.float32]
    assert not wrong, f"adapters must be float32: {wrong[:3]}"
    return sum(parameter.numel() for parameter in trainable.values())


def adapter_state_dict(base: Base) -> dict[str, Tensor]:
    """Return all adapter weights by component and name (`unet.….lora_A.default.weight`).

    The tensors are the live ones, detached.
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
    _copy_exactly(adapter_state_dict(base), state, source)


def save_lora(base: Base, settings: LoraSettings, folder: str | Path) -> Path:
    """Write the adapters to `folder`/pytorch_lora_weights.safetensors in diffusers' format.

    Rank and alpha of each half are in the file's metadata, so that diffusers' `load_lora_weights`
    applies the strength that was trained. Returns the file's path.
    """
    options: dict[str, Any] = {}
    for component, module in base.adaptable.items():
        parameters = adapter_parameters(module)
        if parameters:
            options[f"{component}_lora_layers"] = {
                _file_key(component, name): parameter.detach().cpu().contiguous()
                for name, parameter in parameters.items()
            }
            metadata = _lora_config(settings, component)
            options[f"{component}_lora_adapter_metadata"] = metadata
    assert options, "no adapters to save"
    path = Path(folder) / WEIGHTS_NAME
    partial = path.with_suffix(".partial")  # so that an interrupted save leaves no broken file
    pipeline_class = getattr(diffusers, base.pipeline_class)
    pipeline_class.save_lora_weights(folder, weight_name=partial.name, **options)
    os.replace(partial, path)
    return path


def load_lora(base: Base, path: str | Path) -> LoraSettings:
    """Replace the base's adapters by those in a file (or folder) that `save_lora` wrote.

    They come back frozen, for drawing, at the strength they were trained with. Returns the
    settings that the file records.

    Raises:
        UserError: no such file, no rank and alpha in it, or weights that do not fit this base.
    """
    path = Path(path)
    path = path / WEIGHTS_NAME if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"there is no LoRA file {str(path)!r}; give a file or a run's lora folder")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{str(path)!r} is not a readable safetensors file: {error}") from error

    remove_lora(base)
    settings = LoraSettings()
    state: dict[str, Tensor] = {}
    try:
        for component, module in base.adaptable.items():
            if f"{component}.r" in header:
                settings = _settings_of(header, component, settings)
                _inject(component, module, settings)
                state |= {
                    f"{component}.{_file_key(component, name)}": parameter.detach()
                    for name, parameter in adapter_parameters(module.requires_grad_(False)).items()
                }
        if not state:
            raise UserError(
                f"{str(path)!r} does not record rank and alpha as diffusers' save_lora_weights "
                "does with adapter metadata; files of other tools cannot be read."
            )
        _copy_exactly(state, weights, str(path))
    except UserError:
        remove_lora(base)
        raise
    return settings


@contextmanager
def lora_scale(base: Base, unet: float, text_encoder: float) -> Iterator[None]:
    """Scale the adapters for the duration; afterwards every scale is exactly what it was.

    The scales are relative to the trained strength alpha / rank: 1 is as trained, 0 is the base.
    A nested context replaces the outer one's scales, it does not multiply them.
    """
    with ExitStack() as stack:
        for component, module in base.adaptable.items():
            for layer in module.modules():
                if isinstance(layer, LoraLayer):
                    stack.callback(layer.scaling.update, dict(layer.scaling))
                    layer.set_scale(ADAPTER, unet if component == "unet" else text_encoder)
        yield


def _adapted_components(base: Base, train_text_encoder: bool) -> dict[str, nn.Module]:
    return {c: m for c, m in base.adaptable.items() if c == "unet" or train_text_encoder}


def _lora_config(settings: LoraSettings, component: str) -> dict[str, Any]:
    """Return PEFT's configuration: only what we set, so that other PEFT versions read it, too."""
    return {
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": list(settings.targets(component)),
    }


def _settings_of(header: dict[str, Any], component: str, settings: LoraSettings) -> LoraSettings:
    """Return `settings` with what a file's metadata says of one component."""
    unet = component == "unet"
    return replace(
        settings,
        rank=header[f"{component}.r"],
        alpha=header[f"{component}.lora_alpha"],
        dropout=header.get(f"{component}.lora_dropout", 0.0),
        **{
            "target_modules" if unet else "text_encoder_target_modules": list(
                header[f"{component}.target_modules"]
            )
        },
    )


def _matches(name: str, target: str) -> bool:
    """PEFT's rule for a list of targets: the whole name, or its last parts."""
    return name == target or name.endswith(f".{target}")


def _expected_names(module: nn.Module, targets: list[str]) -> set[str]:
    """Return the names that adapter parameters have (or will have) on the targeted layers."""
    layers = {name for name, _ in module.named_modules() if any(_matches(name, t) for t in targets)}
    return {f"{layer}.{part}.{ADAPTER}.weight" for layer in layers for part in ("lora_A", "lora_B")}


def _inject(component: str, module: nn.Module, settings: LoraSettings) -> None:
    """Let PEFT wrap the targeted layers, without touching the global random state."""
    key = f"model.lora.{'' if component == 'unet' else 'text_encoder_'}target_modules"
    names = [name for name, _ in module.named_modules()]
    for target in settings.targets(component):
        if not any(_matches(name, target) for name in names):
            raise UserError(f"{key}: {target!r} matches no layer of the {component}")
    with torch.random.fork_rng(devices=[]):
        try:
            module.add_adapter(LoraConfig(**_lora_config(settings, component)), ADAPTER)
        except ValueError as error:
            raise UserError(f"{key}: {error}") from error
    module.eval()
    for parameter in adapter_parameters(module).values():
        parameter.data = parameter.data.float()


def _file_key(component: str, name: str) -> str:
    """Return diffusers' file key (without the component) of an adapter parameter.

    Text encoders use the older `lora_linear_layer` names and the `text_model.` prefix, which
    diffusers takes off again for the transformers versions whose CLIPTextModel has none.
    """
    name = name.replace(f".{ADAPTER}.", ".")
    if component == "unet":
        return name
    name = name.replace(".lora_A.", ".lora_linear_layer.down.")
    name = name.replace(".lora_B.", ".lora_linear_layer.up.")
    return name if name.startswith("text_model.") else f"text_model.{name}"


def _copy_exactly(target: dict[str, Tensor], state: dict[str, Tensor], source: str) -> None:
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
