"""What a family of base models owns: its parts, and everything that differs from other families."""

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
    title: ClassVar[str]
    """As people call it."""
    pipeline_class: ClassVar[str]
    """diffusers' class: `_class_name` in model_index.json, and what generates images."""
    denoiser: ClassVar[str]
    """diffusers' component name of the network that predicts: `unet` or `transformer`."""
    denoiser_class: ClassVar[str]
    """diffusers' class of it."""
    text_encoders: ClassVar[dict[str, str]]
    """Component to transformers class."""
    tokenizers: ClassVar[dict[str, str]]
    """Component to transformers class, one for each text encoder."""
    adapted_text_encoders: ClassVar[tuple[str, ...]]
    """Text encoders that can carry adapters."""
    objectives: ClassVar[tuple[type[Objective], ...]]
    """What its bases may have been trained to do."""
    target_presets: ClassVar[dict[str, list[str]]]
    """Lists of the denoiser's layers to adapt, as ends of their names, by the list's name."""
    export_formats: ClassVar[tuple[str, ...]] = ("diffusers", "peft", "merged")
    """In which a run on such a base can be exported."""
    has_original_layout: ClassVar[bool] = False
    """Whether a merged base can be written as one checkpoint file in the original code's layout."""
    reads_attention_mask: ClassVar[bool] = False
    """Whether text encoders get the mask of padding where their config asks for it."""
    can_zero_empty_prompt: ClassVar[bool] = False
    """Whether its bases may have zeros stand for an empty prompt: what they were trained with."""

    # ---------------------------------------------------------------- prompts

    def token_lengths(self, tokenizers: Sequence[Any]) -> list[int]:
        """Return how many tokens each text encoder reads."""
        return [tokenizer.model_max_length for tokenizer in tokenizers]

    @abstractmethod
    def encode(
        self, text_encoders: Sequence[nn.Module], inputs: Sequence[dict[str, Tensor]]
    ) -> Conditioning:
        """Encode each text encoder's token ids as the diffusers pipeline does."""

    def micro_conditioning(self, pictures: Sequence[MicroConditioning]) -> dict[str, Tensor]:
        """Return what the denoiser is told of how pictures are framed, each [N, ...], float32."""
        return {}

    # ---------------------------------------------------------------- denoiser

    @abstractmethod
    def predict(
        self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Return the denoiser's prediction [N, C, h, w] at timesteps [N]."""

    def latent_multiple(self, denoiser: nn.Module) -> int:
        """Return what the sides of latents must be multiples of."""
        return 1

    def latents_from_vae(self, mean: Tensor, std: Tensor, vae: nn.Module) -> tuple[Tensor, Tensor]:
        """Return moments of the denoiser's latents of those of the VAE's, each [B, C, h, w]."""
        scale = vae.config.scaling_factor
        return (mean - _shift(vae)) * scale, std * scale

    def latents_to_vae(self, latents: Tensor, vae: nn.Module) -> Tensor:
        """Return the VAE's latents of the denoiser's, [B, C, h, w]."""
        return latents / vae.config.scaling_factor + _shift(vae)

    # ---------------------------------------------------------------- pipeline

    def pipeline_options(self, zeros_for_empty_prompt: bool) -> dict[str, Any]:
        """Return what the pipeline's constructor takes beside networks, tokenizers, scheduler."""
        return {}

    @abstractmethod
    def pipeline_inputs(self, prompts: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
        """Return the arguments with which the pipeline is given encoded prompts, row by row."""

    # ------------------------------------------------------------ files of others

    def read_lora(
        self, pipeline: Any, weights: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return a LoRA file's tensors as diffusers names them, and its loaders' options."""
        return pipeline.lora_state_dict(weights), {}

    def kohya_names(
        self, component: str, layer: str, denoiser_config: Mapping[str, Any]
    ) -> list[str]:
        """Return all names by which files in kohya's layout call a layer, the usual one first.

        None where the layout does not know the family.
        """
        return []

    @abstractmethod
    def architecture(self, text_encoders: Sequence[nn.Module], objective: Objective) -> str:
        """Return the architecture's name in the modelspec metadata standard."""


def is_text_encoder(component: str) -> bool:
    """Whether a component of a pipeline is a text encoder, by diffusers' name of it."""
    return component.startswith("text_encoder")


def _shift(vae: nn.Module) -> float:
    return getattr(vae.config, "shift_factor", None) or 0.0
