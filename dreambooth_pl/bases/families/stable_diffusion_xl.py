"""Stable Diffusion XL (arXiv 2307.01952): two text encoders and micro-conditioning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dreambooth_pl.bases.conditioning import Conditioning, MicroConditioning
from dreambooth_pl.bases.families.family import is_text_encoder
from dreambooth_pl.bases.families.stable_diffusion import StableDiffusion
from dreambooth_pl.bases.ldm_names import UNetNames
from dreambooth_pl.bases.objectives import Objective


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL (arXiv 2307.01952).

    The UNet is conditioned on the penultimate states of both text encoders, concatenated along the
    channels, on the projected pooled state of the second, and on micro-conditioning (section 2.2):
    original size, crop and target size. Images are generated with crop (0, 0) and their own size.
    """

    name = "stable-diffusion-xl"
    title = "Stable Diffusion XL"
    pipeline_class = "StableDiffusionXLPipeline"
    text_encoders: ClassVar[dict[str, str]] = {
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "CLIPTextModelWithProjection",
    }
    tokenizers: ClassVar[dict[str, str]] = {
        "tokenizer": "CLIPTokenizer",
        "tokenizer_2": "CLIPTokenizer",
    }
    adapted_text_encoders = ("text_encoder", "text_encoder_2")
    reads_attention_mask = False
    can_zero_empty_prompt = True

    def encode(
        self, text_encoders: Sequence[nn.Module], inputs: Sequence[dict[str, Tensor]]
    ) -> Conditioning:
        """Return penultimate states [B, L, D1 + D2] and `text_embeds` [B, D2]."""
        outputs = [
            text_encoder(**tokens, output_hidden_states=True)
            for text_encoder, tokens in zip(text_encoders, inputs, strict=True)
        ]
        states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return Conditioning(states, {"text_embeds": outputs[-1].text_embeds})

    def micro_conditioning(self, pictures: Sequence[MicroConditioning]) -> dict[str, Tensor]:
        """Return `time_ids` [N, 6].

        A row is (height, width) of the original, (y, x) of the crop and the target's
        (height, width), in pixels.
        """
        ids = [(*p.original_size, *p.crop_top_left, *p.target_size) for p in pictures]
        return {"time_ids": torch.tensor(ids, dtype=torch.float32)}

    def pipeline_options(self, zeros_for_empty_prompt: bool) -> dict[str, Any]:
        """Return the pipeline's constructor arguments except networks, tokenizers and scheduler."""
        return {
            "force_zeros_for_empty_prompt": zeros_for_empty_prompt,
            "add_watermarker": False,  # the default depends on other installed packages
        }

    def pipeline_inputs(self, prompts: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
        """Return the pipeline's call arguments for encoded prompts, one row per image."""
        return {
            **super().pipeline_inputs(prompts, negative),
            "pooled_prompt_embeds": prompts.added["text_embeds"],
            "negative_pooled_prompt_embeds": negative.added["text_embeds"],
        }

    def kohya_prefix(self, component: str) -> str:
        """Return the prefix of kohya's names of a component."""
        prefixes = {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
        return prefixes.get(component) or super().kohya_prefix(component)

    def kohya_layer(self, component: str, layer: str, denoiser_config: Mapping[str, Any]) -> str:
        """Return the path of a layer on which kohya's usual name is based."""
        if is_text_encoder(component):
            return super().kohya_layer(component, layer, denoiser_config)
        return UNetNames(denoiser_config)(layer)

    def architecture(self, text_encoders: Sequence[nn.Module], objective: Objective) -> str:
        """Return the architecture's name in the modelspec metadata standard."""
        return "stable-diffusion-xl-v1-base"
