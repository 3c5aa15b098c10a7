"""Keys of adapter tensors in files in diffusers' layout."""

from __future__ import annotations

from collections.abc import Collection

from dreambooth_pl.bases.clip_names import TEXT_MODEL, with_text_model
from dreambooth_pl.bases.families import is_text_encoder


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
