"""Layouts of LoRA files: keys in diffusers' layout, and what others write in place of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress

from torch import Tensor

from dreambooth_pl.adapters.targets import layer_names
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.clip_names import TEXT_MODEL, with_text_model
from dreambooth_pl.bases.families import is_text_encoder
from dreambooth_pl.bases.ldm_names import UNetNames


def file_key(component: str, name: str, adapter: str = "default") -> str:
    """Return diffusers' file key of an adapter parameter, without the component.

    LoRA on text encoders uses the older `lora_linear_layer` names. DoRA's magnitudes end in
    `.weight` for text encoders, where transformers 5 expects it, but not for the denoiser, where
    PEFT omits it.

    Args:
        component: diffusers' name of the component.
        name: full name of the parameter in the component.
        adapter: PEFT's name of the adapter, which the key does not contain.
    """
    name = name.replace(f".{adapter}.", ".").removesuffix(f".{adapter}")
    if not is_text_encoder(component):
        magnitude = ".lora_magnitude_vector"
        return name.removesuffix(".weight") if name.endswith(f"{magnitude}.weight") else name
    name = name.replace(".lora_A.", ".lora_linear_layer.down.")
    name = name.replace(".lora_B.", ".lora_linear_layer.up.")
    return with_text_model(name)


def fitting_name(name: str, known: Collection[str]) -> str:
    """Return the name in `known` that equals `name` up to `text_model.`, or else `name` itself.

    >>> fitting_name("text_encoder.text_model.a.weight", ["text_encoder.a.weight"])
    'text_encoder.a.weight'
    """
    if name in known:
        return name
    component, _, rest = name.partition(".")
    others = (f"{component}.{rest.removeprefix(TEXT_MODEL)}", f"{component}.{TEXT_MODEL}{rest}")
    return next((other for other in others if other in known), name)


KOHYA_STARTS = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")
_ORIGINAL = "diffusion_model."  # before names of the original layout
_UNET = "unet"
_PARTS = {  # of a layer in names with dots: kohya's part
    "lora_down.weight": "lora_down.weight",
    "lora_up.weight": "lora_up.weight",
    "lora_A.weight": "lora_down.weight",
    "lora_B.weight": "lora_up.weight",
    "alpha": "alpha",
    "dora_scale": "dora_scale",
}
_WRITERS = {  # start of a key: who writes such keys
    "lora_transformer_": "kohya's trainers write for transformers, such as FLUX",
    "lora_unet_double_blocks": "kohya's trainers write for FLUX",
    "lora_unet_single_blocks": "kohya's trainers write for FLUX",
    "lora_unet_joint_blocks": "kohya's trainers write for Stable Diffusion 3",
    "lora_unet_": "kohya's trainers write for a UNet",
    "lora_te": "kohya's trainers write for text encoders",
    "lora_prior_": "kohya's trainers and OneTrainer write for other models",
    "diffusion_model.": "ComfyUI and ai-toolkit write",
    "text_encoders.": "ComfyUI writes",
    "base_model.model.": "PEFT writes, with an adapter_config.json beside the file",
    "bundle_emb": "OneTrainer and kohya's tools write for trained words (pivotal tuning)",
    "transformer.": "diffusers and ai-toolkit write for SD3 and FLUX",
    "unet.": "diffusers writes for a UNet",
    "text_encoder": "diffusers writes for text encoders",
}


def is_named_by_layers(base: Base, weights: Mapping[str, Tensor]) -> bool:
    """Return whether a file's keys are read as layers and their parts, instead of by diffusers.

    Args:
        base: that the file is for.
        weights: tensors of the file.
    """
    if not weights:
        return False
    if all(key.startswith(KOHYA_STARTS) for key in weights):
        return True
    if all(key.startswith(_ORIGINAL) for key in weights):
        return base.rules.denoiser == _UNET
    downs = any(key.endswith(".lora_down.weight") for key in weights)
    return downs and all(key.partition(".")[0] in base.adaptable for key in weights)


def split(key: str) -> tuple[str, str]:
    """Return the name of a layer and kohya's name of its part.

    >>> split("lora_unet_conv_in.hada_w1_a"), split("unet.conv_in.lora_A.weight")
    (('lora_unet_conv_in', 'hada_w1_a'), ('unet.conv_in', 'lora_down.weight'))
    """
    if not key.startswith(KOHYA_STARTS):
        for part, own in _PARTS.items():
            if key.endswith(f".{part}"):
                return key.removesuffix(f".{part}"), own
    layer, _, part = key.partition(".")
    return layer, part


def layer_table(base: Base) -> dict[str, tuple[str, str]]:
    """Return component and layer of the base by every name that files have for the layer."""
    original = UNetNames(base.denoiser.config) if base.rules.denoiser == _UNET else None
    table: dict[str, tuple[str, str]] = {}
    for component, module in base.adaptable.items():
        for layer in layer_names(module):
            for theirs in base.rules.kohya_names(component, layer, base.denoiser.config):
                table[theirs] = component, layer
            for theirs in _dotted(component, layer):
                table[theirs] = component, layer
            if original is not None and component == _UNET:
                with suppress(KeyError):
                    table[_ORIGINAL + original(layer)] = component, layer
    return table


def without_place(base: Base, weights: Mapping[str, Tensor]) -> str:
    """Return a sentence with the first key that has no place in the base, and who writes such keys.

    It is empty if every key's layer is known.
    """
    table = layer_table(base)
    for key in sorted(weights):
        if not any(name in table for name in _starts(key)):
            writer = next((w for start, w in _WRITERS.items() if key.startswith(start)), None)
            said = f"Such keys are what {writer}." if writer else "No known tool writes such keys."
            return f"The first key without a place there is {key[:120]!r}. {said}"
    return ""


def _starts(key: str) -> Iterator[str]:
    """Yield the parts of a key that may be a layer's name."""
    words = key.split(".")
    yield from (".".join(words[:end]) for end in range(1, len(words)))


def _dotted(component: str, layer: str) -> list[str]:
    """Return the names of a layer with dots in files in diffusers' style."""
    if not is_text_encoder(component):
        return [f"{component}.{layer}"]
    whole = with_text_model(layer)
    return [f"{component}.{whole}", f"{component}.{whole.removeprefix(TEXT_MODEL)}"]
