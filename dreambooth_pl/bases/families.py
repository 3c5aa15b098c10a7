"""The families of base models: their parts, how prompts are encoded, what their pipelines take.

A new family is a subclass here, an entry in `FAMILIES`, and a test against the diffusers pipeline's
own `encode_prompt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dreambooth_pl.bases.conditioning import Conditioning, MicroConditioning


class StableDiffusion:
    """Stable Diffusion 1.x and 2.x: width, depth and prediction type are in the configs."""

    name: ClassVar[str] = "stable-diffusion"
    pipeline_class: ClassVar[str] = "StableDiffusionPipeline"
    """diffusers' class: `_class_name` in model_index.json, and what draws."""
    text_encoders: ClassVar[dict[str, str]] = {"text_encoder": "CLIPTextModel"}
    """Subfolder to transformers class."""
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer",)
    """Subfolders, one for each text encoder."""
    reads_attention_mask: ClassVar[bool] = True
    """Whether text encoders get the mask of padding where their config asks for it."""
    can_zero_empty_prompt: ClassVar[bool] = False
    """Whether its bases may have zeros stand for an empty prompt: what they were trained with."""

    def encode(
        self, text_encoders: Sequence[nn.Module], inputs: Sequence[dict[str, Tensor]]
    ) -> Conditioning:
        """Encode each text encoder's token ids as the diffusers pipeline does."""
        (text_encoder,), (tokens,) = text_encoders, inputs
        return Conditioning(text_encoder(**tokens)[0])

    def micro_conditioning(self, pictures: Sequence[MicroConditioning]) -> dict[str, Tensor]:
        """Return what the UNet is told of how pictures are framed, each [N, ...], float32."""
        return {}

    def pipeline_options(self, zeros_for_empty_prompt: bool) -> dict[str, Any]:
        """Return what the pipeline's constructor takes beside networks, tokenizers, scheduler."""
        return {
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }

    def pipeline_inputs(self, prompts: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
        """Return the arguments with which the pipeline is given encoded prompts, row by row."""
        return {
            "prompt_embeds": prompts.hidden_states,
            "negative_prompt_embeds": negative.hidden_states,
        }


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL (arXiv 2307.01952).

    Two text encoders, of both the penultimate layer's states side by side; of the second also the
    projected state of the whole prompt; and micro-conditioning (section 2.2): original size, crop
    and target size, drawn with crop (0, 0) and the image's own size.
    """

    name = "stable-diffusion-xl"
    pipeline_class = "StableDiffusionXLPipeline"
    text_encoders: ClassVar[dict[str, str]] = {
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "CLIPTextModelWithProjection",
    }
    tokenizers = ("tokenizer", "tokenizer_2")
    reads_attention_mask = False
    can_zero_empty_prompt = True

    def encode(
        self, text_encoders: Sequence[nn.Module], inputs: Sequence[dict[str, Tensor]]
    ) -> Conditioning:
        """Encode each text encoder's token ids as the diffusers pipeline does."""
        outputs = [
            text_encoder(**tokens, output_hidden_states=True)
            for text_encoder, tokens in zip(text_encoders, inputs, strict=True)
        ]
        states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return Conditioning(states, {"text_embeds": outputs[-1].text_embeds})

    def micro_conditioning(self, pictures: Sequence[MicroConditioning]) -> dict[str, Tensor]:
        """Return `time_ids` [N, 6]: (height, width) of the original, (y, x), (height, width)."""
        ids = [(*f.original_size, *f.crop_top_left, *f.target_size) for f in pictures]
        return {"time_ids": torch.tensor(ids, dtype=torch.float32)}

    def pipeline_options(self, zeros_for_empty_prompt: bool) -> dict[str, Any]:
        """Return what the pipeline's constructor takes beside networks, tokenizers, scheduler."""
        return {
            "force_zeros_for_empty_prompt": zeros_for_empty_prompt,
            "add_watermarker": False,  # else it depends on what else is installed
        }

    def pipeline_inputs(self, prompts: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
        """Return the arguments with which the pipeline is given encoded prompts, row by row."""
        return {
            **super().pipeline_inputs(prompts, negative),
            "pooled_prompt_embeds": prompts.added["text_embeds"],
            "negative_pooled_prompt_embeds": negative.added["text_embeds"],
        }


FAMILIES: dict[str, StableDiffusion] = {
    family.pipeline_class: family for family in (StableDiffusion(), StableDiffusionXL())
}
"""By the pipeline's class."""
