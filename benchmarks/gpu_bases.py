"""Bases with random weights in the shapes of real ones, and photos of noise, for benchmarks/gpu.py.

How long a step takes depends on shapes alone; so nothing needs to be downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dreambooth_pl.bases.clip_tokenizer import write_clip_tokenizer

_CROSS, _PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"


@dataclass(frozen=True)
class Shape:
    """The sizes of a base.

    Attributes:
        name: for the table.
        resolution: side of its pictures in pixels.
        unet: what differs from diffusers' defaults.
        vae_channels: of each level.
        text_encoders: width, layers and heads of each.
        context_length: tokens of a prompt.
        groups: of the group norms.
    """

    name: str
    resolution: int
    unet: dict[str, Any]
    vae_channels: tuple[int, ...]
    text_encoders: tuple[tuple[int, int, int], ...]
    context_length: int = 77
    groups: int = 32
    layers: int = field(default=2)

    @property
    def is_xl(self) -> bool:
        """Whether it is of Stable Diffusion XL's kind."""
        return len(self.text_encoders) == 2


def _unet(channels: tuple[int, ...], attention: tuple[bool, ...], **more: Any) -> dict[str, Any]:
    down = tuple(_CROSS if has else _PLAIN for has in attention)
    up = tuple(block.replace("Down", "Up") for block in reversed(down))
    return {
        "block_out_channels": channels,
        "down_block_types": down,
        "up_block_types": up,
        **more,
    }


def _xl(pooled: int, width: int) -> dict[str, Any]:
    """Return what tells the UNet of the pooled prompt and of six sizes, each `width` channels."""
    return {
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": width,
        "projection_class_embeddings_input_dim": pooled + 6 * width,
    }


SD15 = Shape(
    "SD 1.5, 512 px",
    512,
    _unet(
        (320, 640, 1280, 1280),
        (True, True, True, False),
        cross_attention_dim=768,
        attention_head_dim=8,
    ),
    (128, 256, 512, 512),
    ((768, 12, 12),),
)
SDXL = Shape(
    "SDXL, 1024 px",
    1024,
    _unet(
        (320, 640, 1280),
        (False, True, True),
        cross_attention_dim=2048,
        attention_head_dim=(5, 10, 20),
        transformer_layers_per_block=(1, 2, 10),
        **_xl(1280, 256),
    ),
    (128, 256, 512, 512),
    ((768, 12, 12), (1280, 32, 20)),
)
TINY_SD15 = Shape(
    "tiny SD 1.5, 32 px",
    32,
    _unet((16, 32), (False, True), cross_attention_dim=16, attention_head_dim=2),
    (8, 16, 16),
    ((16, 2, 2),),
    context_length=20,
    groups=4,
    layers=1,
)
TINY_SDXL = Shape(
    "tiny SDXL, 32 px",
    32,
    _unet(
        (16, 32),
        (False, True),
        cross_attention_dim=16 + 24,
        attention_head_dim=(1, 2),
        transformer_layers_per_block=(1, 2),
        **_xl(24, 8),
    ),
    (8, 16, 16),
    ((16, 2, 2), (24, 2, 2)),
    context_length=20,
    groups=4,
    layers=1,
)


def write_base(shape: Shape, folder: Path, device: torch.device) -> Path:
    """Write a diffusers pipeline with random weights, made on `device`; return its folder.

    UNet and text encoders are bfloat16, the VAE is float32.
    """
    torch.manual_seed(0)
    pads = ("<|endoftext|>", "!")
    tokenizers = [
        write_clip_tokenizer(folder / f"vocabulary_{pad[-1]}", shape.context_length, pad)
        for pad in pads
    ]
    with device:
        vae, unet = _vae(shape), _make_unet(shape)
        texts = [_text_encoder(shape, number) for number in range(len(shape.text_encoders))]
    unet, texts = unet.bfloat16(), [text.bfloat16() for text in texts]
    schedule = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )
    parts = {"vae": vae, "unet": unet, "scheduler": schedule}
    if shape.is_xl:
        pipeline = StableDiffusionXLPipeline(
            text_encoder=texts[0],
            text_encoder_2=texts[1],
            tokenizer=tokenizers[0],
            tokenizer_2=tokenizers[1],
            add_watermarker=False,
            **parts,
        )
    else:
        pipeline = StableDiffusionPipeline(
            text_encoder=texts[0],
            tokenizer=tokenizers[0],
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **parts,
        )
    pipeline.save_pretrained(folder)
    return folder


def write_photos(folder: Path, count: int, side: int) -> list[Path]:
    """Write square JPEGs of smooth noise; return their paths."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        path = folder / f"{number:02d}.jpg"
        Image.fromarray(coarse).resize((side, side), Image.BICUBIC).save(path, quality=95)
        paths.append(path)
    return paths


def _vae(shape: Shape) -> AutoencoderKL:
    levels = len(shape.vae_channels)
    return AutoencoderKL(
        block_out_channels=shape.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=4,
        layers_per_block=shape.layers,
        norm_num_groups=shape.groups,
        sample_size=shape.resolution,
    )


def _make_unet(shape: Shape) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=shape.resolution // 2 ** (len(shape.vae_channels) - 1),
        layers_per_block=shape.layers,
        norm_num_groups=shape.groups,
        **shape.unet,
    )


def _text_encoder(shape: Shape, number: int) -> CLIPTextModel | CLIPTextModelWithProjection:
    width, layers, heads = shape.text_encoders[number]
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=shape.context_length,
        projection_dim=width,
        hidden_act="gelu" if number else "quick_gelu",
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=0 if number else 49407,
    )
    return (CLIPTextModelWithProjection if number else CLIPTextModel)(config)
