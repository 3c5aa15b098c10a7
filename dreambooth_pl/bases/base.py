"""A base model: its networks, and what is done with them whatever their family.

A base is any diffusers pipeline folder, hub id or single checkpoint file of a known family;
`data/miniature` is one. Everything else works with `Base` and does not ask which family it has:
that is in `base_families`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from dreambooth_pl.bases.conditioning import Conditioning, MicroConditioning
from dreambooth_pl.bases.families import FAMILIES, StableDiffusion
from dreambooth_pl.bases.fingerprint import fingerprint
from dreambooth_pl.bases.folder import Parts, read_folder
from dreambooth_pl.bases.single_file import read_checkpoint
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.errors import UserError

PREDICTION_TYPES = ("epsilon", "v_prediction")


@dataclass(eq=False)
class Base:
    """The frozen components of a base model in eval mode; adapters may sit in them.

    A plain class, so that it can hang on a module without its parts being registered there.
    """

    name: str
    """Folder, file or hub id it was loaded from."""
    family: str
    pipeline_class: str
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    text_encoders: list[nn.Module]
    tokenizers: list[Any]
    scheduler_config: dict[str, Any]
    """As in the base's scheduler folder; any diffusers scheduler takes it by `from_config`."""
    prediction_type: str
    """`epsilon` or `v_prediction`."""
    alphas_cumprod: Tensor
    """Cumulative product of 1 - beta_t, [T]: the share of signal variance at each timestep."""
    fingerprint: str
    """Short hash of schedule, shapes and weight samples as loaded. Adapters do not change it, nor
    does it matter whether the files are float32 or float16."""
    zeros_for_empty_prompt: bool = False
    """Whether zeros stand for an empty negative or dropped prompt, instead of its encoding."""

    @property
    def rules(self) -> StableDiffusion:
        """What is particular to its family."""
        return FAMILIES[self.pipeline_class]

    @property
    def dtype(self) -> torch.dtype:
        """What the UNet computes with, autocast aside. Adapters and VAE are always float32."""
        return self.unet.conv_in.weight.dtype

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent cell, along each side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def resolution(self) -> int:
        """The side in pixels that the UNet was made for."""
        size = self.unet.config.sample_size
        return (size if isinstance(size, int) else max(size)) * self.vae_scale_factor

    @property
    def adaptable(self) -> dict[str, nn.Module]:
        """The modules that can carry adapters, by diffusers' component name."""
        numbered = enumerate(self.text_encoders, start=1)
        names = {f"text_encoder{'' if n == 1 else f'_{n}'}": m for n, m in numbered}
        return {"unet": self.unet, **names}

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All neural networks, by diffusers' component name."""
        return {"vae": self.vae, **self.adaptable}

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return self.unet.device

    def to(self, device: torch.device | str) -> Base:
        """Move every network to `device`, in place."""
        for module in self.modules.values():
            module.to(device)
        return self

    def enable_gradient_checkpointing(self) -> None:
        """Let training compute activations again in the backward pass instead of keeping them."""
        self.unet.enable_gradient_checkpointing()
        for text_encoder in self.text_encoders:
            # prompts' embeddings carry no gradient, which the reentrant way would need
            text_encoder.gradient_checkpointing_enable({"use_reentrant": False})

    def tokenize(self, prompts: list[str]) -> list[dict[str, Tensor]]:
        """Return each text encoder's inputs, `input_ids` [B, L] above all, padded to its length L.

        What does not fit is dropped with a warning that names the words.
        """
        tokens = []
        for tokenizer, text_encoder in zip(self.tokenizers, self.text_encoders, strict=True):
            length = tokenizer.model_max_length
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
        """Encode `tokenize`'s result, as the diffusers pipeline of the family does."""
        inputs = [
            {name: value.to(text_encoder.device) for name, value in part.items()}
            for text_encoder, part in zip(self.text_encoders, tokens, strict=True)
        ]
        encoded = self.rules.encode(self.text_encoders, inputs)
        return encoded if device is None else encoded.to(device)

    def encode_prompts(
        self, prompts: list[str], device: torch.device | str | None = None
    ) -> Conditioning:
        """Encode prompts exactly as the diffusers pipeline of the family does.

        `device` is where the result goes (default: where the text encoder is). Gradients flow into
        the text encoder's adapters unless the caller turns them off.
        """
        return self.encode_tokens(self.tokenize(prompts), device)

    def encode_negative(
        self, prompt: str, device: torch.device | str | None = None
    ) -> Conditioning:
        """Encode a negative prompt, [1, ...], as the family's pipeline does: empty may be zeros."""
        encoded = self.encode_prompts([prompt], device)
        if prompt or not self.zeros_for_empty_prompt:
            return encoded
        return encoded.zeroed(torch.ones(1))

    def micro_conditioning(
        self,
        pictures: Sequence[MicroConditioning],
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Return what the UNet is told of how pictures are framed, each [N, ...]; often nothing.

        It goes into `Conditioning.added` beside what the prompts bring there.
        """
        inputs = self.rules.micro_conditioning(pictures)
        return {name: value.to(device or self.device) for name, value in inputs.items()}

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images [B, 3, H, W] in [-1, 1] to the moments of their scaled latents.

        Returns mean and standard deviation, each [B, C, H/f, W/f]. A training latent is drawn as
        mean + std * standard normal noise.
        """
        assert pixels.ndim == 4 and pixels.shape[1] == 3, f"images are [B,3,H,W]: {pixels.shape}"
        assert pixels.abs().max() <= 1.0001, "images to encode must lie in [-1, 1]"
        with torch.autocast(self.vae.device.type, enabled=False):
            distribution = self.vae.encode(pixels.to(self.vae.device)).latent_dist
        mean, std = distribution.mean, distribution.std
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise UserError(
                f"model.base: the VAE of {self.name!r} encodes a picture to values that are not "
                "finite; its weights are damaged. Download it again, or take another base."
            )
        scale = self.vae.config.scaling_factor
        shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        return (mean - shift) * scale, std * scale

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode scaled latents [B, C, h, w] to images [B, 3, H, W], about [-1, 1], in float32.

        Not finite where latents are not, or the VAE's weights are damaged.
        """
        latents = latents.to(self.vae.device, self.vae.dtype)
        shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        with torch.autocast(self.vae.device.type, enabled=False):
            return self.vae.decode(latents / self.vae.config.scaling_factor + shift).sample

    def pipeline(self, scheduler: Any) -> diffusers.DiffusionPipeline:
        """Return the family's diffusers pipeline over the live networks, without a safety checker.

        Nothing is copied, cast or moved: what the pipeline draws is what the networks are now.
        """
        parts = dict(zip(self.rules.text_encoders, self.text_encoders, strict=True))
        parts |= zip(self.rules.tokenizers, self.tokenizers, strict=True)
        pipeline = getattr(diffusers, self.pipeline_class)(
            vae=self.vae,
            unet=self.unet,
            scheduler=scheduler,
            **parts,
            **self.rules.pipeline_options(self.zeros_for_empty_prompt),
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def load_base(spec: BaseSpec | str) -> Base:
    """Load a base from a diffusers folder, a checkpoint file or, if there is neither, the hub.

    Args:
        spec: the base. A string stands for `BaseSpec(string)`. A name that looks like a path is
            never looked up on the hub.

    Raises:
        UserError: there is no such folder, file or hub id, its family is unknown, or weights are
            missing.
    """
    spec = BaseSpec(spec) if isinstance(spec, str) else spec
    name = spec.base
    dtype = getattr(torch, spec.frozen_dtype)
    as_stored = dtype != torch.float32  # cast below: half the memory while loading, if so stored
    path = Path(name)
    if path.is_file():
        parts = read_checkpoint(path, as_stored)
    else:
        parts = read_folder(name, spec.revision, spec.variant, as_stored)
    scheduler = DDPMScheduler.from_config(parts.scheduler_config)
    if scheduler.config.prediction_type not in PREDICTION_TYPES:
        raise UserError(
            f"model.base: {name!r} predicts {scheduler.config.prediction_type!r}; only "
            f"{' and '.join(PREDICTION_TYPES)} can be trained."
        )
    channels = parts.unet.config.in_channels
    if channels != parts.vae.config.latent_channels:
        raise UserError(
            f"model.base: {name!r} is for inpainting or editing: its UNet reads {channels} "
            "channels. Take the text-to-image version."
        )
    for module in (parts.vae, parts.unet, *parts.text_encoders):
        module.requires_grad_(False).eval()
    base = _assemble(name, parts, scheduler)
    for module in base.adaptable.values():
        nn.Module.to(module, dtype)  # diffusers' own warns of an empty list of exceptions
    return base


def _assemble(name: str, parts: Parts, scheduler: DDPMScheduler) -> Base:
    base = Base(
        name=name,
        family=parts.family.name,
        pipeline_class=parts.family.pipeline_class,
        vae=parts.vae,
        unet=parts.unet,
        text_encoders=parts.text_encoders,
        tokenizers=parts.tokenizers,
        scheduler_config=parts.scheduler_config,
        prediction_type=scheduler.config.prediction_type,
        alphas_cumprod=scheduler.alphas_cumprod,
        fingerprint="",
        zeros_for_empty_prompt=parts.zeros_for_empty_prompt,
    )
    base.fingerprint = fingerprint(
        base.family, base.modules, base.tokenizers, base.vae.config.scaling_factor, scheduler.config
    )
    return base
