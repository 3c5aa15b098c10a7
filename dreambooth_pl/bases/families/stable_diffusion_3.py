"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206): a transformer, flow matching, CLIP and T5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dreambooth_pl.bases.conditioning import Conditioning
from dreambooth_pl.bases.families.family import Family
from dreambooth_pl.bases.objectives import FlowMatching, Objective

_ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
_ATTENTION += ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
_FF = ["ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"]
_T5_LENGTH = 256  # the pipeline's default max_sequence_length, independent of the tokenizer


class StableDiffusion3(Family):
    """Stable Diffusion 3 and 3.5 (arXiv 2403.03206, section 4).

    The penultimate states of two CLIP text encoders are concatenated along the channels, padded to
    T5's width and followed by T5's states. Their pooled states are concatenated, too. The CLIP text
    encoders can have adapters. T5 cannot, as in diffusers' and other trainers.
    """

    name = "stable-diffusion-3"
    title = "Stable Diffusion 3"
    pipeline_class = "StableDiffusion3Pipeline"
    denoiser = "transformer"
    denoiser_class = "SD3Transformer2DModel"
    text_encoders: ClassVar[dict[str, str]] = {
        "text_encoder": "CLIPTextModelWithProjection",
        "text_encoder_2": "CLIPTextModelWithProjection",
        "text_encoder_3": "T5EncoderModel",
    }
    tokenizers: ClassVar[dict[str, str]] = {
        "tokenizer": "CLIPTokenizer",
        "tokenizer_2": "CLIPTokenizer",
        "tokenizer_3": "T5TokenizerFast",
    }
    adapted_text_encoders = ("text_encoder", "text_encoder_2")
    objectives = (FlowMatching,)
    target_presets: ClassVar[dict[str, list[str]]] = {
        "attention": _ATTENTION,
        "attention_ff": _ATTENTION + _FF,
        "attention_ff_conv": _ATTENTION + _FF,  # the blocks have no convolutions
    }

    def token_lengths(self, tokenizers: Sequence[Any]) -> list[int]:
        """Return how many tokens each text encoder reads. Both CLIPs use the first one's length."""
        clip = tokenizers[0].model_max_length
        return [clip, clip, _T5_LENGTH]

    def encode(
        self, text_encoders: Sequence[nn.Module], inputs: Sequence[dict[str, Tensor]]
    ) -> Conditioning:
        """Return states [B, L_clip + L_t5, D_t5] and `pooled_projections` [B, D1 + D2]."""
        *clips, t5 = text_encoders
        *clip_inputs, t5_inputs = inputs
        outputs = [
            text_encoder(**tokens, output_hidden_states=True)
            for text_encoder, tokens in zip(clips, clip_inputs, strict=True)
        ]
        clip_states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        t5_states = t5(**t5_inputs)[0]
        padding = t5_states.shape[-1] - clip_states.shape[-1]
        clip_states = nn.functional.pad(clip_states, (0, padding))
        pooled = torch.cat([output.text_embeds for output in outputs], dim=-1)
        states = torch.cat([clip_states, t5_states], dim=-2)
        return Conditioning(states, {"pooled_projections": pooled})

    def predict(
        self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Return the velocity that the transformer predicts, [N, C, h, w]."""
        return denoiser(
            hidden_states=noisy,
            timestep=timesteps,
            encoder_hidden_states=conditioning.hidden_states,
            pooled_projections=conditioning.added["pooled_projections"].to(noisy.dtype),
        ).sample

    def latent_multiple(self, denoiser: nn.Module) -> int:
        """Return the side of the transformer's patches in latent cells."""
        return denoiser.config.patch_size

    def pipeline_inputs(self, prompts: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
        """Return the pipeline's call arguments for encoded prompts, one row per image."""
        return {
            "prompt_embeds": prompts.hidden_states,
            "negative_prompt_embeds": negative.hidden_states,
            "pooled_prompt_embeds": prompts.added["pooled_projections"],
            "negative_pooled_prompt_embeds": negative.added["pooled_projections"],
        }

    def architecture(self, text_encoders: Sequence[nn.Module], objective: Objective) -> str:
        """Return the architecture's name in the modelspec metadata standard."""
        return "stable-diffusion-v3"
