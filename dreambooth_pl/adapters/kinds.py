"""The kinds of adapters: PEFT's configuration of each, the names of its parts, what reads it.

What reads which, tried with diffusers 0.42 and PEFT 0.21:

- `PeftModel.from_pretrained` reads all four.
- diffusers' `load_lora_weights` reads lora, DoRA included. It refuses LoKr, which only
  `unet.load_lora_adapter` reads; LoHa and OFT not even that.
- kohya's layout holds lora, DoRA and, named as LyCORIS does, LoKr and LoHa. diffusers leaves the
  magnitudes of a DoRA in kohya's layout out, with a warning; ComfyUI reads them. PEFT's OFT is
  parametrised otherwise than kohya's.
- Whatever the kind, it can be merged into the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peft import LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, PeftConfig
from peft.tuners.loha.layer import LoHaLayer
from peft.tuners.lokr.layer import LoKrLayer
from peft.tuners.lora import LoraLayer
from peft.tuners.oft.layer import OFTLayer
from peft.tuners.tuners_utils import BaseTunerLayer

from dreambooth_pl.adapters.settings import AdapterKind, AdapterSettings
from dreambooth_pl.bases.families import Family
from dreambooth_pl.errors import UserError

EXPORT_FORMATS = ("diffusers", "kohya", "peft", "merged")


@dataclass(frozen=True)
class Kind:
    """A kind of adapter.

    Attributes:
        config: PEFT's configuration class.
        layer: PEFT's class of adapted layers.
        marks: parts of an adapter's parameter names by which this kind is recognised.
        formats: what a run with it can be exported as.
        fields: of settings -> PEFT's arguments, of those that differ between kinds.
        defaults: PEFT's arguments that are the same for all settings.
    """

    config: type[PeftConfig]
    layer: type[BaseTunerLayer]
    marks: tuple[str, ...]
    formats: tuple[str, ...]
    fields: dict[str, str]
    defaults: dict[str, Any]


KINDS: dict[AdapterKind, Kind] = {
    "lora": Kind(
        LoraConfig,
        LoraLayer,
        ("lora_A", "lora_B", "lora_magnitude_vector"),
        EXPORT_FORMATS,
        {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"},
        {},
    ),
    "lokr": Kind(
        LoKrConfig,
        LoKrLayer,
        LoKrLayer.adapter_layer_names,
        ("kohya", "peft", "merged"),
        {"rank": "r", "alpha": "alpha", "dropout": "rank_dropout"},
        {"rank_dropout_scale": True},
    ),
    "loha": Kind(
        LoHaConfig,
        LoHaLayer,
        LoHaLayer.adapter_layer_names,
        ("kohya", "peft", "merged"),
        {"rank": "r", "alpha": "alpha", "dropout": "rank_dropout"},
        {},
    ),
    "oft": Kind(
        OFTConfig,
        OFTLayer,
        ("oft_R",),
        ("peft", "merged"),
        {"rank": "oft_block_size", "dropout": "module_dropout"},
        # The series that PEFT takes by default leaves the orthogonal matrices when weights grow.
        {"r": 0, "use_cayley_neumann": False},
    ),
}


def export_formats(kind: AdapterKind, family: Family) -> tuple[str, ...]:
    """Return what a run with this kind of adapter on a base of this family can be exported as."""
    own = KINDS[kind].formats if kind != "full" else ("merged",)
    return tuple(form for form in own if form in family.export_formats)


def check_settings(kind: AdapterKind, settings: AdapterSettings) -> None:
    """Raise UserError for settings that the kind does not have."""
    for name in ("use_rslora", "use_dora"):
        if getattr(settings, name) and kind != "lora":
            raise UserError(f"model.lora.{name} belongs to model.adapter lora, not {kind}")


def peft_arguments(
    kind: AdapterKind, settings: AdapterSettings, targets: list[str]
) -> dict[str, Any]:
    """Return PEFT's configuration: only what we set, so that other PEFT versions read it, too."""
    own = KINDS[kind]
    arguments = {theirs: getattr(settings, ours) for ours, theirs in own.fields.items()}
    arguments |= own.defaults
    arguments["target_modules"] = list(targets)
    if kind == "lora":
        arguments |= {name: True for name in ("use_rslora", "use_dora") if getattr(settings, name)}
    return arguments


def arguments_of(kind: AdapterKind, config: PeftConfig) -> dict[str, Any]:
    """Return the arguments of a configuration as `peft_arguments` does, and patterns if any.

    With patterns, layers have ranks or alphas of their own; only files of other tools bring them.
    """
    own = KINDS[kind]
    arguments = {name: getattr(config, name) for name in (*own.fields.values(), *own.defaults)}
    optional = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
    return arguments | {name: v for name in optional if (v := getattr(config, name, None))}


def settings_of(kind: AdapterKind, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `AdapterSettings` that these arguments come from, targets excepted."""
    fields = KINDS[kind].fields
    settings = {ours: arguments[theirs] for ours, theirs in fields.items() if theirs in arguments}
    return settings | {n: arguments[n] for n in ("use_rslora", "use_dora") if n in arguments}


def known_arguments(kind: AdapterKind) -> set[str]:
    """Return the names that `peft_arguments` may use."""
    own = KINDS[kind]
    return {*own.fields.values(), *own.defaults, "target_modules", "use_rslora", "use_dora"}


def recognise(names: list[str]) -> AdapterKind | None:
    """Return the kind that parameters of these names belong to.

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
    """Return the layer's own dictionary of alphas by adapter; an empty one where there are none."""
    return getattr(layer, "lora_alpha", None) or getattr(layer, "alpha", {})
