"""The interface of a family of base models: its components and everything specific to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from dreambooth_pl.bases.conditioning import Conditioning, MicroConditioning
from dreambooth_pl.bases.objectives import Objective


class Family(ABC):
    """The rules of one family. A new family is a file with a subclass and a line in `FAMILIES`."""

    name: ClassVar[str]
    """Short name, such as `stable-diffusion`."""
    title: ClassVar[str]
    """Name for people."""
    pipeline_class: ClassVar[str]
    """Class of the diffusers pipeline, which is `_class_name` in model_index.json."""
    denoiser: ClassVar[str]
    """diffusers' component name of the denoiser: `unet` or `transformer`."""
    denoiser_class: ClassVar[str]
    """diffusers' class of the denoiser."""
    text_encoders: ClassVar[dict[str, str]]
    """Component to transformers class."""
    tokenizers: ClassVar[dict[str, str]]
    """Component to transformers class, one for each text encoder."""
    adapted_text_encoders: ClassVar[tuple[str, ...]]
    """Text encoders that can have adapters."""
    objectives: ClassVar[tuple[type[Objective], ...]]
    """Objectives that its bases may have."""
    target_presets: ClassVar[dict[str, list[str]]]
    """Named lists of the denoiser's layers to adapt, as ends of their names."""
    export_formats: ClassVar[tuple[str, ...]] = ("diffusers", "peft", "merged")
    """Formats in which a run on such a base can be exported."""
    has_original_layout: ClassVar[bool] = False
    """Whether a merged base can be written as one checkpoint file in the original code's layout."""
    reads_attention_mask: ClassVar[bool] = False
    """Whether text encoders get the padding mask if their config asks for it."""
    can_zero_empty_prompt: ClassVar[bool] = False
    """Whether bases may be trained with zeros in place of an empty prompt's encoding."""

    # ---------------------------------------------------------------- prompts

    def token_lengths(self, tokenizers: Sequence[Any]) -> list[int]:
        """Return how many tokens each text encoder reads."""
        return [tokenizer.model_max_length for tokenizer in tokenizers]

    @abstractmethod
    def encode(
        self, text_encoders: Sequence[nn.Module], inputs: Sequence[dict[str, Tensor]]
    ) -> Conditioning:
        """Encode prompts as the diffusers pipeline does.

        Args:
            text_encoders: in the order of `self.text_encoders`.
            inputs: inputs of each text encoder by name, each [B, L], on its device.
        """

    def micro_conditioning(self, pictures: Sequence[MicroConditioning]) -> dict[str, Tensor]:
        """Return the denoiser's inputs for micro-conditioning by name, each [N, ...], float32."""
        return {}

    # ---------------------------------------------------------------- denoiser

    @abstractmethod
    def predict(
        self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Return the denoiser's prediction [N, C, h, w] at timesteps [N]."""

    def latent_multiple(self, denoiser: nn.Module) -> int:
        """Return the number of cells that the sides of latents must be multiples of."""
        return 1

    def latents_from_vae(self, mean: Tensor, std: Tensor, vae: nn.Module) -> tuple[Tensor, Tensor]:
        """Convert mean and deviation of the VAE's latents to the denoiser's, each [B, C, h, w]."""
        scale = vae.config.scaling_factor
        return (mean - _shift(vae)) * scale, std * scale

    def latents_to_vae(self, latents: Tensor, vae: nn.Module) -> Tensor:
        """Convert the denoiser's latents to the VAE's, [B, C, h, w]."""
        return latents / vae.config.scaling_factor + _shift(vae)

    # ---------------------------------------------------------------- pipeline

    def pipeline_options(self, zeros_for_empty_prompt: bool) -> dict[str, Any]:
        """Return the pipeline's constructor arguments except networks, tokenizers and scheduler."""
        return {}

    @abstractmethod
    def pipeline_inputs(self, prompts: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
        """Return the pipeline's call arguments for encoded prompts, one row per image."""

    # ------------------------------------------------------------ files of others

    def read_lora(
        self, pipeline: Any, weights: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return a LoRA file's tensors by diffusers' names, and options for diffusers' loaders."""
        return pipeline.lora_state_dict(weights), {}

    def kohya_names(
        self, component: str, layer: str, denoiser_config: Mapping[str, Any]
    ) -> list[str]:
        """Return all names of a layer in files in kohya's layout, the usual one first.

        The list is empty if the layout does not support the family.

        Args:
            component: diffusers' name of the component.
            layer: diffusers' name of the layer in the component.
            denoiser_config: config of the denoiser.
        """
        return []

    @abstractmethod
    def architecture(self, text_encoders: Sequence[nn.Module], objective: Objective) -> str:
        """Return the architecture's name in the modelspec metadata standard."""


def is_text_encoder(component: str) -> bool:
    """Return whether the diffusers component of this name is a text encoder."""
    return component.startswith("text_encoder")


def _shift(vae: nn.Module) -> float:
    return getattr(vae.config, "shift_factor", None) or 0.0
