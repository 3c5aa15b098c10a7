"""Keys of adapters' tensors in files.

transformers 4 calls the layers of a CLIP text encoder `text_model.encoder…`, transformers 5
`encoder…` (where the class is CLIPTextModel). Files always say `text_model.`: diffusers takes it
off where it must, kohya's names have it.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.ldm_names import UNetNames

TEXT_MODEL = "text_model."
KOHYA_UNET = "lora_unet_"
KOHYA_STARTS = (KOHYA_UNET, "lora_te_", "lora_te1_", "lora_te2_")


def file_key(component: str, name: str, adapter: str = "default") -> str:
    """Return diffusers' file key (without the component) of an adapter parameter.

    The text encoders' LoRA uses the older `lora_linear_layer` names. DoRA's magnitudes end in
    `.weight` there and not in the UNet: PEFT, which reads the latter, leaves it out, and
    transformers 5 looks for it.
    """
    name = name.replace(f".{adapter}.", ".").removesuffix(f".{adapter}")
    if component == "unet":
        magnitude = ".lora_magnitude_vector"
        return name.removesuffix(".weight") if name.endswith(f"{magnitude}.weight") else name
    name = name.replace(".lora_A.", ".lora_linear_layer.down.")
    name = name.replace(".lora_B.", ".lora_linear_layer.up.")
    return with_text_model(name)


def with_text_model(name: str) -> str:
    """Return a text encoder's name as transformers 4 has it."""
    outside = name.startswith((TEXT_MODEL, "text_projection"))
    return name if outside else f"{TEXT_MODEL}{name}"


def fitting_name(name: str, known: Collection[str]) -> str:
    """Return the name among `known` that is the same but for `text_model.`; else the name itself.

    >>> fitting_name("text_encoder.text_model.a.weight", ["text_encoder.a.weight"])
    'text_encoder.a.weight'
    """
    if name in known:
        return name
    component, _, rest = name.partition(".")
    others = (f"{component}.{rest.removeprefix(TEXT_MODEL)}", f"{component}.{TEXT_MODEL}{rest}")
    return next((other for other in others if other in known), name)


def kohya_component(base: Base, component: str) -> str:
    """Return what kohya's names of a component start with."""
    if component == "unet":
        return KOHYA_UNET
    if len(base.text_encoders) == 1:
        return "lora_te_"
    return "lora_te1_" if component == "text_encoder" else "lora_te2_"


def kohya_name(base: Base, component: str, layer: str) -> str:
    """Return kohya's name of a layer, such as `lora_te_text_model_encoder_layers_0_mlp_fc1`.

    kohya's trainer has diffusers' UNet for Stable Diffusion 1.x and 2.x and the original layout's
    for SDXL, and names layers accordingly.
    """
    if component != "unet":
        layer = with_text_model(layer)
    elif len(base.text_encoders) > 1:
        layer = UNetNames(base.unet.config)(layer)
    return kohya_component(base, component) + layer.replace(".", "_")


def kohya_names(base: Base, component: str, layer: str) -> list[str]:
    """Return all names by which files in kohya's layout call a layer, the usual one first."""
    names = [kohya_name(base, component, layer)]
    if component == "unet":
        names.append(KOHYA_UNET + layer.replace(".", "_"))
        with suppress(KeyError):
            names.append(KOHYA_UNET + UNetNames(base.unet.config)(layer).replace(".", "_"))
    elif component == "text_encoder":
        path = with_text_model(layer).replace(".", "_")
        names += [f"lora_te_{path}", f"lora_te1_{path}"]
    return names
