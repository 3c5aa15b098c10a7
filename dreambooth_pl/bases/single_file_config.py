"""The kind and configs of a single-file checkpoint, from the names and shapes of its tensors.

Such a file, as distributed by model sites, holds UNet, VAE and text encoders in the layout of the
original Stable Diffusion code, but no configs. Widths and depths follow from the shapes. The rest
is fixed by the version: attention heads of 64 channels (but 8 heads in the UNet of Stable
Diffusion 1), activations, scaling factor of the latents, noise schedule.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from dreambooth_pl.bases.clip_tokenizer import write_clip_tokenizer

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each tensor of a checkpoint, by its name."""

UNET = "model.diffusion_model."
VAE = "first_stage_model."
_CLIP_1 = "cond_stage_model.transformer.text_model."
_OPEN_CLIP_2 = "cond_stage_model.model."
_CLIP_XL = "conditioner.embedders.0.transformer.text_model."
_OPEN_CLIP_XL = "conditioner.embedders.1.model."

_HEAD_WIDTH = 64
_SCHEDULE = {  # of all three kinds; the class does not matter, but a config must name one
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}


@dataclass(frozen=True)
class CheckpointKind:
    """The common properties of all checkpoints of a version."""

    title: str
    pipeline_class: str
    text_encoders: dict[str, str]
    """Component to the prefix of its tensors."""
    scaling_factor: float
    """Scaling factor of the latents."""
    schedule: dict[str, Any]
    """Entries of the scheduler's config in addition to `_SCHEDULE`."""


SD1 = CheckpointKind(
    "Stable Diffusion 1.x", "StableDiffusionPipeline", {"text_encoder": _CLIP_1}, 0.18215, {}
)
SD2 = CheckpointKind(
    "Stable Diffusion 2.x", "StableDiffusionPipeline", {"text_encoder": _OPEN_CLIP_2}, 0.18215, {}
)
SDXL = CheckpointKind(
    "Stable Diffusion XL",
    "StableDiffusionXLPipeline",
    {"text_encoder": _CLIP_XL, "text_encoder_2": _OPEN_CLIP_XL},
    0.13025,
    {"timestep_spacing": "leading"},
)


def checkpoint_kind(shapes: Shapes) -> CheckpointKind | str:
    """Return the kind of a checkpoint, or the reason why it is not supported.

    Args:
        shapes: shapes of the checkpoint's tensors.

    Returns:
        The kind, or a message that completes the sentence "the file ...".
    """
    if any(".lora_" in name or name.startswith("lora_") for name in shapes):
        return "is a LoRA, which changes a base; give the base that it was trained on"
    if any(name.startswith("edm_") for name in shapes):
        return "was trained with EDM's noise (edm_...), which cannot be trained here"
    if f"{UNET}time_embed.cond_proj.weight" in shapes:
        return (
            "is distilled: its UNet is told the guidance (cond_proj); take the model that it was "
            "distilled from"
        )
    first = shapes.get(f"{UNET}input_blocks.0.0.weight")
    if first is None:
        return "holds no Stable Diffusion UNet in the original layout"
    if first[1] != 4:
        return f"is for inpainting or editing: its UNet reads {first[1]} channels, not 4"
    for kind in (SDXL, SD2, SD1):
        prefixes = kind.text_encoders.values()
        if all(any(name.startswith(prefix) for name in shapes) for prefix in prefixes):
            break
    else:
        if any(name.startswith("conditioner.embedders.0.model.") for name in shapes):
            return (
                "is the refiner of Stable Diffusion XL, which generates from images, not from "
                "prompts"
            )
        return "holds a UNet without the text encoders of Stable Diffusion 1.x, 2.x or XL"
    if f"{VAE}quant_conv.weight" not in shapes:
        return "holds no VAE; take the version of the model that has it"
    return kind


def scheduler_config(kind: CheckpointKind, schedule: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scheduler's config, as in the published folders of the version.

    Args:
        kind: kind of the checkpoint.
        schedule: entries of this checkpoint, above all `prediction_type`.
    """
    return {**_SCHEDULE, **kind.schedule, **schedule}


def write_configs(
    folder: Path,
    kind: CheckpointKind,
    shapes: Shapes,
    schedule: Mapping[str, Any],
    told: Mapping[str, dict[str, Any]] | None = None,
) -> None:
    """Write the configs and tokenizers of a diffusers pipeline with these shapes, without weights.

    Args:
        folder: an existing folder.
        kind: kind of the checkpoint.
        shapes: shapes of its tensors.
        schedule: as for `scheduler_config`.
        told: configs by component that the file brings itself, in place of those worked out.
    """
    told = told or {}
    resolution = 1024 if kind is SDXL else 512
    if kind is SD2 and schedule["prediction_type"] == "v_prediction":
        resolution = 768
    vae = told.get("vae") or _vae(kind, shapes, resolution)
    unet = told.get("unet") or _unet(kind, shapes)
    unet.setdefault("sample_size", resolution // 2 ** (len(vae["block_out_channels"]) - 1))
    index: dict[str, Any] = {
        "_class_name": kind.pipeline_class,
        "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    if kind is not SDXL:
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
        index["requires_safety_checker"] = False
    configs = {
        "vae/config.json": vae,
        "unet/config.json": unet,
        "scheduler/scheduler_config.json": scheduler_config(kind, schedule),
    }
    for name, prefix in kind.text_encoders.items():
        config = told.get(name) or _text_encoder(kind, shapes, prefix)
        architecture = (
            "CLIPTextModelWithProjection" if name == "text_encoder_2" else "CLIPTextModel"
        )
        index[name] = ["transformers", architecture]
        configs[f"{name}/config.json"] = config
        tokenizer = name.replace("text_encoder", "tokenizer")
        index[tokenizer] = ["transformers", "CLIPTokenizer"]
        pad = "<|endoftext|>" if prefix.endswith("text_model.") else "!"
        length = config["max_position_embeddings"]
        write_clip_tokenizer(folder / tokenizer, length, pad).save_pretrained(folder / tokenizer)
    configs["model_index.json"] = index
    for name, config in configs.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(config, indent=1), encoding="utf-8")


def _unet(kind: CheckpointKind, shapes: Shapes) -> dict[str, Any]:
    """Return the UNet's config without its sample size."""
    levels: list[list[tuple[int, int]]] = [[]]  # (channels, depth) of each block, by level
    for number in count(1):
        block = f"{UNET}input_blocks.{number}."
        if f"{block}0.op.weight" in shapes:
            levels.append([])
        elif f"{block}0.out_layers.3.weight" in shapes:
            depth = _number(shapes, f"{block}1.transformer_blocks.{{}}.norm1.weight")
            levels[-1].append((shapes[f"{block}0.out_layers.3.weight"][0], depth))
        else:
            break
    channels = [blocks[-1][0] for blocks in levels]
    depths = [blocks[-1][1] for blocks in levels]
    middle = f"{UNET}middle_block.1."
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "in_channels": 4,
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": len(levels[0]),
        "down_block_types": ["CrossAttnDownBlock2D" if d else "DownBlock2D" for d in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if d else "UpBlock2D" for d in reversed(depths)],
        "transformer_layers_per_block": [max(1, depth) for depth in depths],
        "cross_attention_dim": shapes[f"{middle}transformer_blocks.0.attn2.to_k.weight"][1],
        "use_linear_projection": len(shapes[f"{middle}proj_in.weight"]) == 2,
        # diffusers uses this name for the numbers of heads
        "attention_head_dim": 8 if kind is SD1 else [c // _HEAD_WIDTH for c in channels],
    }
    if kind is SD2:
        config["upcast_attention"] = True  # its attention overflows in float16
    if kind is SDXL:
        inputs = shapes[f"{UNET}label_emb.0.0.weight"][1]
        pooled = shapes[f"{_OPEN_CLIP_XL}text_projection"][1]
        config |= {
            "addition_embed_type": "text_time",
            "projection_class_embeddings_input_dim": inputs,
            "addition_time_embed_dim": (inputs - pooled) // 6,
        }
    return config


def _vae(kind: CheckpointKind, shapes: Shapes, resolution: int) -> dict[str, Any]:
    first = f"{VAE}encoder.down.{{}}.block.0.conv1.weight"
    levels = _number(shapes, first)
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": shapes[f"{VAE}quant_conv.weight"][0] // 2,
        "block_out_channels": [shapes[first.format(level)][0] for level in range(levels)],
        "layers_per_block": _number(shapes, f"{VAE}encoder.down.0.block.{{}}.conv1.weight"),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "sample_size": resolution,
        "scaling_factor": kind.scaling_factor,
    }


def _text_encoder(kind: CheckpointKind, shapes: Shapes, prefix: str) -> dict[str, Any]:
    openai = prefix.endswith("text_model.")
    config = _clip(shapes, prefix) if openai else _open_clip(shapes, prefix)
    if kind is SD2:
        config["num_hidden_layers"] -= 1  # prompts are the last layer but one's states
    return config


def _clip(shapes: Shapes, prefix: str) -> dict[str, Any]:
    """Return the config of OpenAI's CLIP text encoder, stored under transformers' names."""
    words, width = shapes[f"{prefix}embeddings.token_embedding.weight"]
    return _text_config(
        words=words,
        width=width,
        length=shapes[f"{prefix}embeddings.position_embedding.weight"][0],
        inner=shapes[f"{prefix}encoder.layers.0.mlp.fc1.weight"][0],
        layers=_number(shapes, f"{prefix}encoder.layers.{{}}.mlp.fc1.weight"),
        projection=width,
        activation="quick_gelu",
    )


def _open_clip(shapes: Shapes, prefix: str) -> dict[str, Any]:
    """Return the config of a text encoder that is stored under open_clip's names."""
    words, width = shapes[f"{prefix}token_embedding.weight"]
    layer = f"{prefix}transformer.resblocks.{{}}.mlp.c_fc.weight"
    return _text_config(
        words=words,
        width=width,
        length=shapes[f"{prefix}positional_embedding"][0],
        inner=shapes[layer.format(0)][0],
        layers=_number(shapes, layer),
        projection=shapes.get(f"{prefix}text_projection", (width, width))[1],
        activation="gelu",
    )


def _text_config(
    words: int, width: int, length: int, inner: int, layers: int, projection: int, activation: str
) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model",
        "vocab_size": words,
        "hidden_size": width,
        "max_position_embeddings": length,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": width // _HEAD_WIDTH,
        "projection_dim": projection,
        "hidden_act": activation,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407 if activation == "quick_gelu" else 0,
    }


def _number(shapes: Shapes, pattern: str) -> int:
    """Return how many consecutive names pattern.format(0), pattern.format(1), ... exist."""
    return sum(1 for _ in takewhile(lambda n: pattern.format(n) in shapes, count()))
