"""Assemble the trained parts into a diffusers folder with the metric encoders."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn

from dreambooth_pl.bases.clip_tokenizer import write_clip_tokenizer
from dreambooth_pl.miniature.pretrain import clip, dino, text_to_image


def assemble(
    folder: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    clip_model: nn.Module,
    dino_backbone: nn.Module,
    latent_std: float,
) -> None:
    """Write the base (fp16 safetensors), `clip/` and `dino/` into `folder`.

    Args:
        folder: the base's folder.
        vae: the autoencoder. Its scaling factor is set.
        unet: the UNet.
        clip_model: the CLIP. Its text tower becomes the text encoder.
        dino_backbone: the DINO backbone.
        latent_std: standard deviation of the VAE's latents. Its inverse becomes the scaling factor.
    """
    vae.register_to_config(scaling_factor=round(1 / latent_std, 5))
    tokenizer = write_clip_tokenizer(folder / "tokenizer", clip.CONTEXT)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=clip.text_encoder(clip_model),
        tokenizer=tokenizer,
        scheduler=text_to_image.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for part in ("vae", "unet"):
        _forget_origin(folder / part / "config.json")
    # The files are fp16 but computation is float32. This is diffusers' default; transformers needs
    # it in the config.
    config = folder / "text_encoder" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"dtype": "float32"}, indent=2) + "\n")
    # vocab.json and merges.txt are a third of tokenizer.json's size, and every version of
    # transformers reads them.
    (folder / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    clip.save(clip_model, folder / "clip")
    dino.save(dino_backbone, folder / "dino")


def replace_autoencoder(folder: Path, vae: AutoencoderKL) -> None:
    """Replace the base's autoencoder. Its latents and their scale must be the same as before."""
    vae.to(torch.float16).save_pretrained(folder / "vae", safe_serialization=True)
    _forget_origin(folder / "vae" / "config.json")


def _forget_origin(config: Path) -> None:
    """Remove the path that a part was loaded from. It is of no use to others."""
    values = json.loads(config.read_text())
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2) + "\n")
