"""Stable Diffusion 1.x and 2.x: a UNet and one CLIP text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from torch import Tensor, nn

from dreambooth_pl.bases.clip_names import with_text_model
from dreambooth_pl.bases.conditioning import Conditioning
from dreambooth_pl.bases.families.family import Family, is_text_encoder
from dreambooth_pl.bases.ldm_names import UNetNames
from dreambooth_pl.bases.objectives import DiscreteSchedule, Objective, VPrediction

_ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
_FF = ["ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
_CONV = ["conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv"]
_CONV += ["upsamplers.0.conv"]
KOHYA_UNET = "lora_unet_"


class StableDiffusion(Family):
    """Stable Diffusion 1.x and 2.x. They differ in configs only: width, depth and prediction."""

    name = "stable-diffusion"
    title = "Stable Diffusion 1.x or 2.x"
    pipeline_class = "StableDiffusionPipeline"
    denoiser = "unet"
    denoiser_class = "UNet2DConditionModel"
    text_encoders: ClassVar[dict[str, str]] = {"text_encoder": "CLIPTextModel"}
    tokenizers: ClassVar[dict[str, str]] = {"tokenizer": "CLIPTokenizer"}
    adapted_text_encoders = ("text_encoder",)
    objectives = (DiscreteSchedule,)
    target_presets: ClassVar[dict[str, list[str]]] = {
        "attention": _ATTENTION,
        "attention_ff": _ATTENTION + _FF,
        "attention_ff_conv": _ATTENTION + _FF + _CONV,
    }
    export_formats = ("diffusers", "kohya", "peft", "merged")
    has_original_layout = True
    reads_attention_mask = True

    def encode(
        self, text_encoders: Sequence[nn.Module], inputs: Sequence[dict[str, Tensor]]
    ) -> Conditioning:
        """Return the states of the last layer, [B, L, D]."""
        (text_encoder,), (tokens,) = text_encoders, inputs
        return Conditioning(text_encoder(**tokens)[0])

    def predict(
        self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Return the UNet's prediction [N, C, h, w]."""
        return denoiser(
            noisy,
            timesteps,
            encoder_hidden_states=conditioning.hidden_states,
            added_cond_kwargs=conditioning.added or None,
        ).sample

    def pipeline_options(self, zeros_for_empty_prompt: bool) -> dict[str, Any]:
        """Return options for no safety checker, which needs its own weights and blackens images."""
        return {
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }

    def pipeline_inputs(self, prompts: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
        """Return the pipeline's call arguments for encoded prompts, one row per image."""
        return {
            "prompt_embeds": prompts.hidden_states,
            "negative_prompt_embeds": negative.hidden_states,
        }

    def read_lora(
        self, pipeline: Any, weights: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return a LoRA file's tensors by diffusers' names, and the alphas that diffusers found."""
        state, strengths = pipeline.lora_state_dict(weights)[:2]
        return state, {"network_alphas": strengths}

    def kohya_prefix(self, component: str) -> str:
        """Return the prefix of kohya's names of a component."""
        return "lora_te_" if is_text_encoder(component) else KOHYA_UNET

    def kohya_layer(self, component: str, layer: str, denoiser_config: Mapping[str, Any]) -> str:
        """Return the path of a layer on which kohya's usual name is based."""
        return with_text_model(layer) if is_text_encoder(component) else layer

    def kohya_names(
        self, component: str, layer: str, denoiser_config: Mapping[str, Any]
    ) -> list[str]:
        """Return all names of a layer in files in kohya's layout, the usual one first.

        kohya's trainer names layers as diffusers does for versions 1.x and 2.x, and as the original
        layout does for XL. Other trainers mix the two.
        """
        usual = self.kohya_layer(component, layer, denoiser_config)
        names = [self.kohya_prefix(component) + usual]
        if not is_text_encoder(component):
            names.append(KOHYA_UNET + layer)
            with suppress(KeyError):
                names.append(KOHYA_UNET + UNetNames(denoiser_config)(layer))
        elif component == "text_encoder":
            names += [f"lora_te_{usual}", f"lora_te1_{usual}"]
        return [name.replace(".", "_") for name in names]

    def architecture(self, text_encoders: Sequence[nn.Module], objective: Objective) -> str:
        """Return the architecture's name in the modelspec metadata standard.

        Version 2 is recognised by the plain GELU of OpenCLIP's text encoder.
        """
        if text_encoders[0].config.hidden_act == "quick_gelu":
            return "stable-diffusion-v1"
        size = "768-v" if isinstance(objective, VPrediction) else "512"
        return f"stable-diffusion-v2-{size}"
