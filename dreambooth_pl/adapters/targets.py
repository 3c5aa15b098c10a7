"""The layers to adapt, selected by ends of their names, presets or regular expressions."""

from __future__ import annotations

import re

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from dreambooth_pl.adapters.settings import targets_key
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.families import is_text_encoder
from dreambooth_pl.errors import UserError

_TEXT_ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]
_TEXT_FF = ["fc1", "fc2"]
TEXT_ENCODER_PRESETS = {
    "attention": _TEXT_ATTENTION,
    "attention_ff": _TEXT_ATTENTION + _TEXT_FF,
    "attention_ff_conv": _TEXT_ATTENTION + _TEXT_FF,  # text encoders have no convolutions
}


def presets(base: Base, component: str) -> dict[str, list[str]]:
    """Return the target presets of a component of `Base.adaptable`, by name."""
    return TEXT_ENCODER_PRESETS if is_text_encoder(component) else base.rules.target_presets


def target_names(base: Base, component: str, targets: list[str] | str) -> list[str]:
    """Return the target names for PEFT.

    Args:
        base: the base.
        component: one of `Base.adaptable`.
        targets: a list of ends of layer names, a preset, or a regular expression.

    Returns:
        Ends of layer names. For a regular expression, whole names.

    Raises:
        UserError: a target matches no layer, or the regular expression is invalid.
    """
    key, module = targets_key(component), base.adaptable[component]
    known = presets(base, component)
    if isinstance(targets, str) and targets not in known:
        try:
            pattern = re.compile(targets)
        except re.error as error:
            raise UserError(f"{key}: {targets!r} is no regular expression: {error}") from error
        names = [name for name in layer_names(module) if pattern.fullmatch(name)]
        if not names:
            raise UserError(
                f"{key}: {targets!r} matches no layer of the {component}. Give one of "
                f"{', '.join(known)}, a list of the ends of layers' names, or a "
                "regular expression that matches whole names."
            )
        return names
    names = known[targets] if isinstance(targets, str) else list(targets)
    matched = {t: any(_ends_with(name, t) for name, _ in module.named_modules()) for t in names}
    if isinstance(targets, str):  # small networks may lack some layers of a preset
        return [target for target in names if matched[target]]
    for target in names:
        if not matched[target]:
            raise UserError(f"{key}: {target!r} matches no layer of the {component}")
    return names


def targeted_layers(base: Base, component: str, targets: list[str] | str) -> set[str]:
    """Return the full names of the targeted layers, derived from layer names alone."""
    ends = target_names(base, component, targets)
    names = layer_names(base.adaptable[component])
    return {name for name in names if any(_ends_with(name, end) for end in ends)}


def layer_names(module: nn.Module) -> list[str]:
    """Return the full names of all layers that can be adapted, adapted or not."""
    names = []
    for name, layer in module.named_modules():
        if name.endswith(".base_layer"):
            continue
        kind = layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer
        if isinstance(kind, (nn.Linear, nn.Conv2d)) and not _inside_adapter(name):
            names.append(name)
    return names


def _inside_adapter(name: str) -> bool:
    """Return whether a module belongs to an adapter, such as `to_q.lora_A.default`."""
    return any(part.startswith(("lora_", "oft_")) for part in name.split("."))


def _ends_with(name: str, target: str) -> bool:
    """Return whether PEFT matches a target with a name: it equals the name or its last parts."""
    return name == target or name.endswith(f".{target}")
