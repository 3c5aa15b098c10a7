"""A base as one checkpoint file in the layout of Stable Diffusion's original code.

Model sites offer such files, and ComfyUI and AUTOMATIC1111 load them. `bases.ldm_names` has the
names of the UNet; this module has those of the VAE and of the text encoders. Version 1 and the
first text encoder of XL use CLIP's own names. Version 2 and the second text encoder of XL use
OpenCLIP's.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.clip_names import TEXT_MODEL, with_text_model
from dreambooth_pl.bases.ldm_names import UNetNames

_UNET = "model.diffusion_model."
_VAE = "first_stage_model."
_TEXT = {  # start of the architecture: prefix and naming of each text encoder
    "stable-diffusion-v1": {"text_encoder": ("cond_stage_model.transformer.", "clip")},
    "stable-diffusion-v2": {"text_encoder": ("cond_stage_model.model.", "open_clip")},
    "stable-diffusion-xl": {
        "text_encoder": ("conditioner.embedders.0.transformer.", "clip"),
        "text_encoder_2": ("conditioner.embedders.1.model.", "open_clip"),
    },
}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_OPEN_CLIP_OUTSIDE = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def original_weights(base: Base) -> dict[str, Tensor]:
    """Return all weights of a base under the original names, on the CPU.

    Args:
        base: a Stable Diffusion base without adapters.
    """
    unet_name = UNetNames(base.denoiser.config)
    weights = {_UNET + unet_name(key): value for key, value in _state(base.denoiser).items()}
    levels = len(base.vae.config.block_out_channels)
    for key, value in _state(base.vae).items():
        name = vae_name(key, levels)
        if ".attn_1." in name and name.endswith(".weight") and value.ndim == 2:
            value = value[:, :, None, None]  # the original attention uses 1 x 1 convolutions
        weights[_VAE + name] = value
    (text_encoders,) = (own for start, own in _TEXT.items() if base.architecture.startswith(start))
    for component, (prefix, style) in text_encoders.items():
        state = _state(base.modules[component])
        own = _WRITERS[style](state)
        weights |= {prefix + key: value for key, value in own.items()}
    return {key: value.contiguous().clone() for key, value in weights.items()}


def vae_name(name: str, levels: int) -> str:
    """Return the original name of a VAE's parameter.

    Args:
        name: the parameter's name in diffusers.
        levels: number of resolutions. The original decoder counts them from the finest one.

    >>> vae_name("decoder.up_blocks.0.resnets.1.conv_shortcut.bias", 4)
    'decoder.up.3.block.1.nin_shortcut.bias'
    """

    def mirrored(end: str) -> Callable[[re.Match], str]:
        return lambda match: f".up.{levels - 1 - int(match[1])}.{end}."

    for pattern, replacement in (
        (r"\.down_blocks\.(\d+)\.resnets\.", r".down.\1.block."),
        (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
        (r"\.up_blocks\.(\d+)\.resnets\.", mirrored("block")),
        (r"\.up_blocks\.(\d+)\.upsamplers\.0\.", mirrored("upsample")),
        (r"\.mid_block\.resnets\.(\d+)\.", lambda m: f".mid.block_{int(m[1]) + 1}."),
        (r"\.mid_block\.attentions\.0\.(group_norm|to_[qkv]|to_out\.0)\.", _vae_attention),
        (r"\.conv_norm_out\.", ".norm_out."),
        (r"\.conv_shortcut\.", ".nin_shortcut."),
    ):
        name = re.sub(pattern, replacement, name)
    return name


def _vae_attention(match: re.Match) -> str:
    return f".mid.attn_1.{_VAE_ATTENTION[match[1]]}."


def _clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {with_text_model(key): value for key, value in state.items()}


def _open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state under OpenCLIP's names.

    OpenCLIP keeps q, k and v in one matrix, and computes x @ projection, so the projection is
    transposed.
    """
    weights: dict[str, Tensor] = {}
    state = {key.removeprefix(TEXT_MODEL): value for key, value in state.items()}
    for key, value in state.items():
        layer = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", key)
        if key == "text_projection.weight":
            weights["text_projection"] = value.T
        elif layer is None:
            weights[_OPEN_CLIP_OUTSIDE[key]] = value
        else:
            number, inner, kind = layer.groups()
            start = f"transformer.resblocks.{number}"
            if inner == "self_attn.q_proj":
                parts = [state[key.replace("q_proj", f"{x}_proj")] for x in "qkv"]
                weights[f"{start}.attn.in_proj_{kind}"] = torch.cat(parts)
            elif inner not in ("self_attn.k_proj", "self_attn.v_proj"):
                weights[f"{start}.{_OPEN_CLIP_LAYER[inner]}.{kind}"] = value
    return weights


_WRITERS: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "clip": _clip,
    "open_clip": _open_clip,
}


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().cpu() for name, parameter in module.named_parameters()}
