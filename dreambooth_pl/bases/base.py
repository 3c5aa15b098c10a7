"""A base model: its networks and the operations that all families share.

A base is a diffusers pipeline folder, a hub id or a single checkpoint file of a known family, such
as `data/miniature`. The rest of the code uses `Base` without asking for its family. The differences
between families are in `bases.families`, with one file per family.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from dreambooth_pl.bases.compilation import compile_blocks
from dreambooth_pl.bases.conditioning import Conditioning, MicroConditioning
from dreambooth_pl.bases.families import Family
from dreambooth_pl.bases.objectives import Objective
from dreambooth_pl.bases.transfer import upload
from dreambooth_pl.errors import UserError


@dataclass(eq=False)
class Base:
    """The frozen components of a base model in eval mode, possibly with adapters.

    This is a plain class and no `nn.Module`. A module can therefore have it as an attribute without
    registering its networks.
    """

    name: str
    """Folder, file or hub id it was loaded from."""
    rules: Family
    """The rules of its family."""
    objective: Objective
    """Its training objective: noise schedule and prediction of the denoiser."""
    vae: AutoencoderKL
    denoiser: nn.Module
    """UNet or transformer that predicts from noisy latents."""
    text_encoders: list[nn.Module]
    tokenizers: list[Any]
    fingerprint: str
    """Short hash of schedule, shapes and sampled weight values as loaded. It does not depend on
    adapters, nor on whether the files are float32 or float16."""
    compiled: bool = False
    """Whether training compiles the denoiser's blocks; images are generated without."""
    zeros_for_empty_prompt: bool = False
    """Whether zeros replace the encoding of an empty negative prompt or a dropped prompt."""

    @property
    def family(self) -> str:
        """The family's name."""
        return self.rules.name

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The config in the base's scheduler folder."""
        return self.objective.config

    @property
    def architecture(self) -> str:
        """The architecture's name in the modelspec metadata standard."""
        return self.rules.architecture(self.text_encoders, self.objective)

    @property
    def dtype(self) -> torch.dtype:
        """Data type in which the denoiser computes without autocast.

        Adapters and the VAE are always float32.
        """
        return next(self.denoiser.parameters()).dtype  # the first is never an adapter's

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent cell along each side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def pixel_multiple(self) -> int:
        """The number of pixels that the sides of images must be multiples of."""
        return self.vae_scale_factor * self.rules.latent_multiple(self.denoiser)

    @property
    def resolution(self) -> int:
        """The image side in pixels that the denoiser is configured for."""
        size = self.denoiser.config.sample_size
        return (size if isinstance(size, int) else max(size)) * self.vae_scale_factor

    @property
    def adaptable(self) -> dict[str, nn.Module]:
        """The modules that can have adapters, by diffusers' component name, denoiser first."""
        named = zip(self.rules.text_encoders, self.text_encoders, strict=True)
        adapted = self.rules.adapted_text_encoders
        return {self.rules.denoiser: self.denoiser, **{n: m for n, m in named if n in adapted}}

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All neural networks, by diffusers' component name."""
        text_encoders = zip(self.rules.text_encoders, self.text_encoders, strict=True)
        return {"vae": self.vae, self.rules.denoiser: self.denoiser, **dict(text_encoders)}

    @property
    def device(self) -> torch.device:
        """The denoiser's device."""
        return _device_of(self.denoiser)

    def to(self, device: torch.device | str) -> Base:
        """Move all networks to `device` in place and return the base."""
        for module in self.modules.values():
            module.to(device)
        return self

    def enable_gradient_checkpointing(self) -> None:
        """Let training recompute activations in the backward pass instead of keeping them."""
        self.denoiser.enable_gradient_checkpointing()
        for text_encoder in self.text_encoders:
            # reentrant checkpointing needs inputs with gradients, which token embeddings lack
            text_encoder.gradient_checkpointing_enable({"use_reentrant": False})

    def compile_blocks(self) -> None:
        """Let training compile the denoiser's repeated blocks, adapters included."""
        compile_blocks(self.denoiser)
        self.compiled = True

    def tokenize(self, prompts: list[str]) -> list[dict[str, Tensor]]:
        """Tokenize prompts for each text encoder.

        Tokens beyond the text encoder's length L are dropped with a warning that names the words.

        Returns:
            Inputs of each text encoder, padded to its length: `input_ids` [B, L], and
            `attention_mask` [B, L] for text encoders that use it.
        """
        tokens = []
        lengths = self.rules.token_lengths(self.tokenizers)
        for tokenizer, text_encoder, length in zip(
            self.tokenizers, self.text_encoders, lengths, strict=True
        ):
            for prompt in prompts:
                ids = tokenizer(prompt, verbose=False).input_ids
                if len(ids) > length:
                    dropped = tokenizer.decode(ids[length - 1 : -1]).strip()
                    warnings.warn(
                        f"the prompt {prompt!r} is longer than the {length} tokens that the text "
                        f"encoder reads; dropped: {dropped!r}",
                        stacklevel=2,
                    )
            padded = tokenizer(
                prompts,
                padding="max_length",
                max_length=length,
                truncation=True,
                return_tensors="pt",
            )
            names = ["input_ids"]
            masked = getattr(text_encoder.config, "use_attention_mask", False)
            if masked and self.rules.reads_attention_mask:
                names.append("attention_mask")
            tokens.append({name: padded[name] for name in names})
        return tokens

    def encode_tokens(
        self, tokens: list[dict[str, Tensor]], device: torch.device | str | None = None
    ) -> Conditioning:
        """Encode the result of `tokenize` as the family's diffusers pipeline does."""
        inputs = [
            {name: value.to(text_encoder.device) for name, value in part.items()}
            for text_encoder, part in zip(self.text_encoders, tokens, strict=True)
        ]
        encoded = self.rules.encode(self.text_encoders, inputs)
        return encoded if device is None else encoded.to(device)

    def encode_prompts(
        self, prompts: list[str], device: torch.device | str | None = None
    ) -> Conditioning:
        """Encode prompts exactly as the family's diffusers pipeline does.

        Gradients flow into the text encoders' adapters unless the caller disables them.

        Args:
            prompts: B prompts.
            device: device of the result; by default that of the text encoders.

        Returns:
            B rows.
        """
        return self.encode_tokens(self.tokenize(prompts), device)

    def encode_negative(
        self, prompt: str, device: torch.device | str | None = None
    ) -> Conditioning:
        """Encode a negative prompt, [1, ...], as the family's diffusers pipeline does.

        An empty prompt gives zeros if `zeros_for_empty_prompt` is set.
        """
        encoded = self.encode_prompts([prompt], device)
        if prompt or not self.zeros_for_empty_prompt:
            return encoded
        return encoded.zeroed(torch.ones(1))

    def micro_conditioning(
        self,
        pictures: Sequence[MicroConditioning],
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Return the denoiser's inputs for micro-conditioning by name, each [N, ...].

        They belong in `Conditioning.added`, next to the inputs from prompts. The result is empty
        for families without micro-conditioning.
        """
        inputs = self.rules.micro_conditioning(pictures)
        return {name: value.to(device or self.device) for name, value in inputs.items()}

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images to the moments of their scaled latents.

        A training latent is sampled as mean + std * standard normal noise.

        Args:
            pixels: images [B, 3, H, W] in [-1, 1].

        Returns:
            Mean and standard deviation, each [B, C, H/f, W/f].

        Raises:
            ValueError: `pixels` has another shape or range.
            UserError: the moments are not finite.
        """
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(f"images to encode are [B, 3, H, W], not {tuple(pixels.shape)}")
        if pixels.abs().max() > 1.0001:
            raise ValueError("images to encode must lie in [-1, 1]")
        device = _device_of(self.vae)
        with torch.autocast(device.type, enabled=False):
            distribution = self.vae.encode(pixels.to(device)).latent_dist
        mean, std = distribution.mean, distribution.std
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise UserError(
                f"model.base: the VAE of {self.name!r} encodes a picture to values that are not "
                "finite; its weights are damaged. Download it again, or take another base."
            )
        return self.rules.latents_from_vae(mean, std, self.vae)

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode scaled latents [B, C, h, w] to images [B, 3, H, W], about [-1, 1], in float32.

        The images are not finite where the latents are not, or if the VAE's weights are damaged.
        """
        device = _device_of(self.vae)
        latents = latents.to(device, self.vae.dtype)
        with torch.autocast(device.type, enabled=False):
            return self.vae.decode(self.rules.latents_to_vae(latents, self.vae)).sample

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the denoiser's prediction [N, C, h, w].

        Args:
            noisy: noisy latents [N, C, h, w].
            timesteps: timesteps [N], as the objective samples them.
            conditioning: N rows.
        """
        states = conditioning.hidden_states.to(self.dtype)
        conditioning = Conditioning(states, conditioning.added)
        timesteps = upload(timesteps, self.device)
        return self.rules.predict(self.denoiser, noisy.to(self.dtype), timesteps, conditioning)

    def pipeline(self, scheduler: Any | None = None) -> diffusers.DiffusionPipeline:
        """Return the family's diffusers pipeline with the live networks, without a safety checker.

        The networks are not copied, cast or moved, so the pipeline uses their current state.

        Args:
            scheduler: a diffusers scheduler. Default: the objective's first sampler.
        """
        if scheduler is None:
            scheduler = self.objective.sampler(next(iter(self.objective.samplers)))
        tokenizers = dict(zip(self.rules.tokenizers, self.tokenizers, strict=True))
        pipeline = getattr(diffusers, self.rules.pipeline_class)(
            scheduler=scheduler,
            **self.modules,
            **tokenizers,
            **self.rules.pipeline_options(self.zeros_for_empty_prompt),
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def _device_of(network: nn.Module) -> torch.device:
    """Return a network's device. diffusers' `device` takes milliseconds: it walks all modules."""
    return next(network.parameters()).device
