"""The kinds of adapters: PEFT configurations, parameter names and export formats.

Support by other software, tested with diffusers 0.42 and PEFT 0.21:

- `PeftModel.from_pretrained` reads all four kinds of adapters.
- diffusers' `load_lora_weights` reads LoRA and DoRA. It refuses LoKr, which only
  `unet.load_lora_adapter` reads. Neither reads LoHa or OFT.
- kohya's layout supports LoRA and DoRA, and LoKr and LoHa under LyCORIS's names. diffusers drops
  the magnitudes of a DoRA in kohya's layout with a warning; ComfyUI reads them. PEFT's
  parametrisation of OFT differs from kohya's.
- Every kind can be merged into the base.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peft import LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.loha.layer import LoHaLayer
from peft.tuners.lokr.layer import LoKrLayer
from peft.tuners.lora import LoraLayer
from peft.tuners.oft.layer import OFTLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from dreambooth_pl.adapters.settings import AdapterKind, AdapterSettings
from dreambooth_pl.bases.families import Family
from dreambooth_pl.errors import UserError

ADAPTER_NAME = "default"  # PEFT's name for the one adapter that trains
EXPORT_FORMATS = ("diffusers", "kohya", "peft", "merged")


Parts = Callable[[AdapterSettings, Callable[[str], bool]], list[str]]
"""Takes the settings, and whether the layer has a part of a name; returns names such as
`lora_A.default.weight`, where `default` is the adapter's."""


def _lora_parts(settings: AdapterSettings, has: Callable[[str], bool]) -> list[str]:
    names = ["lora_A", "lora_B", *(["lora_magnitude_vector"] if settings.use_dora else [])]
    return [f"{name}.{ADAPTER_NAME}.weight" for name in names]


def _lokr_parts(settings: AdapterSettings, has: Callable[[str], bool]) -> list[str]:
    """Return the factors; the layer's size decides whether each is whole or decomposed."""
    names = []
    for half in ("lokr_w1", "lokr_w2"):
        whole = f"{half}.{ADAPTER_NAME}"
        names += [whole] if has(whole) else [f"{half}_{end}.{ADAPTER_NAME}" for end in "ab"]
    return names


def _loha_parts(settings: AdapterSettings, has: Callable[[str], bool]) -> list[str]:
    return [f"hada_{half}_{end}.{ADAPTER_NAME}" for half in ("w1", "w2") for end in "ab"]


def _oft_parts(settings: AdapterSettings, has: Callable[[str], bool]) -> list[str]:
    return [f"oft_R.{ADAPTER_NAME}.weight"]


def _check_oft_layer(key: str, name: str, layer: nn.Module, settings: AdapterSettings) -> None:
    """Refuse layers for which PEFT's OFT would silently deviate from the settings or be wrong.

    PEFT chooses another block size if the given one does not divide a layer's width. For
    convolutions larger than 1 x 1 it sums overlapping patches, so that even the identity changes
    the layer.
    """
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


@dataclass(frozen=True)
class Kind:
    """A kind of adapter."""

    config: type[PeftConfig]
    """PEFT's configuration class."""
    layer: type[BaseTunerLayer]
    """PEFT's class of adapted layers."""
    marks: tuple[str, ...]
    """Parts of parameter names by which this kind is recognised."""
    formats: tuple[str, ...]
    """Export formats that support this kind."""
    fields: dict[str, str]
    """Fields of `AdapterSettings` to PEFT's arguments, where the arguments differ between kinds."""
    defaults: dict[str, Any]
    """PEFT's arguments that do not depend on the settings."""
    parts: Parts
    """Names of an adapted layer's parts that train."""
    check_layer: Callable[[str, str, nn.Module, AdapterSettings], None] | None = None
    """Raises UserError for a layer that PEFT would adapt wrongly. Takes the key of the targets, the
    layer's name, the layer and the settings."""


KINDS: dict[AdapterKind, Kind] = {
    "lora": Kind(
        LoraConfig,
        LoraLayer,
        ("lora_A", "lora_B", "lora_magnitude_vector"),
        EXPORT_FORMATS,
        {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"},
        {},
        _lora_parts,
    ),
    "lokr": Kind(
        LoKrConfig,
        LoKrLayer,
        LoKrLayer.adapter_layer_names,
        ("kohya", "peft", "merged"),
        {"rank": "r", "alpha": "alpha", "dropout": "rank_dropout"},
        {"rank_dropout_scale": True},
        _lokr_parts,
    ),
    "loha": Kind(
        LoHaConfig,
        LoHaLayer,
        LoHaLayer.adapter_layer_names,
        ("kohya", "peft", "merged"),
        {"rank": "r", "alpha": "alpha", "dropout": "rank_dropout"},
        {},
        _loha_parts,
    ),
    "oft": Kind(
        OFTConfig,
        OFTLayer,
        ("oft_R",),
        ("peft", "merged"),
        {"rank": "oft_block_size", "dropout": "module_dropout"},
        # PEFT's default, a Neumann series, is no longer orthogonal when the weights grow.
        {"r": 0, "use_cayley_neumann": False},
        _oft_parts,
        _check_oft_layer,
    ),
}


def export_formats(kind: AdapterKind, family: Family) -> tuple[str, ...]:
    """Return the export formats for this kind of adapter on a base of this family."""
    own = KINDS[kind].formats if kind != "full" else ("merged",)
    return tuple(form for form in own if form in family.export_formats)


def check_settings(kind: AdapterKind, settings: AdapterSettings) -> None:
    """Check that the kind supports the settings.

    Raises:
        UserError: `use_rslora` or `use_dora` is set for a kind other than `lora`.
    """
    for name in ("use_rslora", "use_dora"):
        if getattr(settings, name) and kind != "lora":
            raise UserError(f"model.lora.{name} belongs to model.adapter lora, not {kind}")


def peft_arguments(
    kind: AdapterKind, settings: AdapterSettings, targets: list[str]
) -> dict[str, Any]:
    """Return the arguments of PEFT's configuration.

    Arguments that we do not set are left out, so that other versions of PEFT can read them.
    """
    own = KINDS[kind]
    arguments = {theirs: getattr(settings, ours) for ours, theirs in own.fields.items()}
    arguments |= own.defaults
    arguments["target_modules"] = list(targets)
    if kind == "lora":
        arguments |= {name: True for name in ("use_rslora", "use_dora") if getattr(settings, name)}
    return arguments


def arguments_of(kind: AdapterKind, config: PeftConfig) -> dict[str, Any]:
    """Return the arguments of an existing configuration, as `peft_arguments` does.

    Rank and alpha patterns are included if present. They give layers their own rank or alpha, and
    come only from files of other tools.
    """
    own = KINDS[kind]
    arguments = {name: getattr(config, name) for name in (*own.fields.values(), *own.defaults)}
    optional = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
    return arguments | {name: v for name in optional if (v := getattr(config, name, None))}


def wrap_layers(module: nn.Module, config: PeftConfig, name: str) -> None:
    """Let PEFT itself wrap layers, and make the adapter of this name the active one.

    The networks' own `add_adapter` does the same, but refuses versions of PEFT that do it well.

    Raises:
        ValueError: PEFT finds no layer, or none that it can wrap.
    """
    inject_adapter_in_model(config, module, name)
    module._hf_peft_config_loaded = True  # by this, diffusers and transformers know of adapters
    for layer in module.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.set_adapter(name)


def settings_of(kind: AdapterKind, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `AdapterSettings` for PEFT's arguments, except the target modules."""
    fields = KINDS[kind].fields
    settings = {ours: arguments[theirs] for ours, theirs in fields.items() if theirs in arguments}
    return settings | {n: arguments[n] for n in ("use_rslora", "use_dora") if n in arguments}


def known_arguments(kind: AdapterKind) -> set[str]:
    """Return the names of all arguments that `peft_arguments` may return."""
    own = KINDS[kind]
    return {*own.fields.values(), *own.defaults, "target_modules", "use_rslora", "use_dora"}


def recognise(names: list[str]) -> AdapterKind | None:
    """Return the kind of the parameters with these names, or None if it is unknown.

    >>> recognise(["unet.conv_in.lokr_w1"])
    'lokr'
    """
    for kind, own in KINDS.items():
        if any(mark in name.split(".") for name in names for mark in own.marks):
            return kind
    return None


def layer_kind(layer: BaseTunerLayer) -> AdapterKind:
    """Return the kind of an adapted layer."""
    return next(kind for kind, own in KINDS.items() if isinstance(layer, own.layer))


def alphas(layer: BaseTunerLayer) -> dict[str, float]:
    """Return the layer's own dictionary of alphas by adapter name, or an empty dictionary."""
    return getattr(layer, "lora_alpha", None) or getattr(layer, "alpha", {})
