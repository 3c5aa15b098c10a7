"""The components of a base model. The one place that knows base families.

A base is any diffusers pipeline folder or hub id of a known family; `data/miniature` is one.
Everything else works with `Base` and does not ask which family it has.

A new family needs: an entry in `_FAMILIES`, its prompt encoding in `Base.encode_tokens` (what goes
beside the hidden states, such as SDXL's pooled embedding and time ids, travels in
`Conditioning.added` and reaches the UNet as `added_cond_kwargs`), and a test against the diffusers
pipeline's own `encode_prompt`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from dreambooth_pl.base_location import read_model_index
from dreambooth_pl.errors import UserError


@dataclass(frozen=True)
class _Family:
    """What `model_index.json` must say for a base to be of this family."""

    name: str
    text_encoders: dict[str, str]  # subfolder -> transformers class
    tokenizers: tuple[str, ...]  # subfolders


# model_index.json's `_class_name`, which is also the pipeline that draws. Stable Diffusion 1.x and
# 2.x share all code: width, depth and prediction type are in their configs.
_FAMILIES = {
    "StableDiffusionPipeline": _Family(
        "stable-diffusion", {"text_encoder": "CLIPTextModel"}, ("tokenizer",)
    ),
}
PREDICTION_TYPES = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class Conditioning:
    """What the UNet is conditioned on, one row per prompt."""

    hidden_states: Tensor
    """Text encoder states, [B, L, D]."""
    added: dict[str, Tensor] = field(default_factory=dict)
    """Further inputs by name, each [B, ...]; empty for Stable Diffusion 1.x and 2.x."""

    def select(self, rows: Tensor) -> Conditioning:
        """Return the rows at the indices `rows` [N], in their order."""
        return Conditioning(
            self.hidden_states[rows], {name: value[rows] for name, value in self.added.items()}
        )


@dataclass(eq=False)
class Base:
    """The frozen components of a base model, in float32 and eval mode; adapters may sit in them.

    A plain class, so that it can hang on a module without its parts being registered there.
    """

    name: str
    """Folder or hub id it was loaded from."""
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
            if getattr(text_encoder.config, "use_attention_mask", False):
                names.append("attention_mask")
            tokens.append({name: padded[name] for name in names})
        return tokens

    def encode_tokens(
        self, tokens: list[dict[str, Tensor]], device: torch.device | str | None = None
    ) -> Conditioning:
        """Encode `tokenize`'s result, as the diffusers pipeline of the family does."""
        (text_encoder,), (inputs,) = self.text_encoders, tokens
        inputs = {name: value.to(text_encoder.device) for name, value in inputs.items()}
        states = text_encoder(**inputs)[0]
        return Conditioning(states.to(device) if device is not None else states)

    def encode_prompts(
        self, prompts: list[str], device: torch.device | str | None = None
    ) -> Conditioning:
        """Encode prompts exactly as the diffusers pipeline of the family does.

        `device` is where the result goes (default: where the text encoder is). Gradients flow into
        the text encoder's adapters unless the caller turns them off.
        """
        return self.encode_tokens(self.tokenize(prompts), device)

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images [B, 3, H, W] in [-1, 1] to the moments of their scaled latents.

        Returns mean and standard deviation, each [B, C, H/f, W/f]. A training latent is drawn as
        mean + std * standard normal noise.
        """
        assert pixels.ndim == 4 and pixels.shape[1] == 3, f"images are [B,3,H,W]: {pixels.shape}"
        assert pixels.abs().max() <= 1.0001, "images to encode must lie in [-1, 1]"
        distribution = self.vae.encode(pixels.to(self.vae.device)).latent_dist
        scale = self.vae.config.scaling_factor
        shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        return (distribution.mean - shift) * scale, distribution.std * scale

    def pipeline(self, scheduler: Any) -> diffusers.DiffusionPipeline:
        """Return the family's diffusers pipeline over the live networks, without a safety checker.

        Nothing is copied, cast or moved: what the pipeline draws is what the networks are now.
        """
        pipeline = getattr(diffusers, self.pipeline_class)(
            vae=self.vae,
            text_encoder=self.text_encoders[0],
            tokenizer=self.tokenizers[0],
            unet=self.unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def load_base(name: str, revision: str | None = None, variant: str | None = None) -> Base:
    """Load a base from a diffusers folder or, if there is none, by its Hugging Face Hub id.

    Args:
        name: path of a folder with a `model_index.json`, or `owner/name` on the hub. What looks
            like a path is never looked for on the hub.
        revision: branch, tag or commit on the hub.
        variant: which weight files to take, such as `fp16`; they are computed with in float32.

    Raises:
        UserError: neither folder nor reachable hub id; no known family; missing weight files.
    """
    index = read_model_index(name, revision)
    class_name = index.get("_class_name")
    if class_name not in _FAMILIES:
        raise UserError(
            f"model.base: {name!r} is a {class_name}; only {', '.join(_FAMILIES)} can be trained. "
            "Choose a Stable Diffusion 1.x or 2.x base."
        )
    family = _FAMILIES[class_name]

    def load(component: type, subfolder: str, **options: Any) -> Any:
        try:
            return component.from_pretrained(
                name, subfolder=subfolder, revision=revision, **options
            )
        except Exception as error:  # the libraries raise many kinds for missing or broken files
            reason = str(error).strip().split("\n")[0]
            raise UserError(
                f"model.base: {subfolder!r} of {name!r} cannot be loaded ({reason}). It must hold "
                "config and safetensors weights as diffusers' save_pretrained writes them; weights "
                "with a suffix such as fp16 in their name need model.variant."
            ) from error

    weights = {"variant": variant, "use_safetensors": True}
    with _without_progress_bars():
        text_encoders = [
            load(getattr(transformers, class_), subfolder, **weights).float()
            for subfolder, class_ in family.text_encoders.items()
        ]
        weights["torch_dtype"] = torch.float32
        vae = load(AutoencoderKL, "vae", **weights)
        unet = load(UNet2DConditionModel, "unet", **weights)
    tokenizers = [load(transformers.CLIPTokenizer, folder) for folder in family.tokenizers]
    scheduler = load(DDPMScheduler, "scheduler")
    if scheduler.config.prediction_type not in PREDICTION_TYPES:
        raise UserError(
            f"model.base: {name!r} predicts {scheduler.config.prediction_type!r}; only "
            f"{' and '.join(PREDICTION_TYPES)} can be trained."
        )
    for module in (vae, unet, *text_encoders):
        module.requires_grad_(False).eval()
    base = Base(
        name=name,
        family=family.name,
        pipeline_class=class_name,
        vae=vae,
        unet=unet,
        text_encoders=text_encoders,
        tokenizers=tokenizers,
        scheduler_config=DDPMScheduler.load_config(name, subfolder="scheduler", revision=revision),
        prediction_type=scheduler.config.prediction_type,
        alphas_cumprod=scheduler.alphas_cumprod,
        fingerprint="",
    )
    base.fingerprint = _fingerprint(base, scheduler.config)
    return base


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Silence transformers' bar per model; bars of downloads stay."""
    logging = transformers.utils.logging
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _fingerprint(base: Base, schedule: Any) -> str:
    """Hash noise schedule, token lengths, and each parameter's name, shape and about 16 values.

    The values are rounded to float16, so that files of either precision agree; names are freed of
    the `text_model.` that only some transformers versions have.
    """
    keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
    facts = {key: schedule[key] for key in keys}
    facts["zero_snr"] = bool(schedule.get("rescale_betas_zero_snr"))
    facts["lengths"] = [tokenizer.model_max_length for tokenizer in base.tokenizers]
    facts["scaling_factor"] = base.vae.config.scaling_factor
    digest = sha256(json.dumps([base.family, facts], sort_keys=True).encode())
    for component, module in base.modules.items():
        named = ((n.replace("text_model.", ""), p) for n, p in module.named_parameters())
        for name, parameter in sorted(named, key=lambda item: item[0]):
            values = parameter.detach().flatten()
            values = values[:: max(1, values.numel() // 16)].to(torch.float16)
            digest.update(f"{component}.{name}{tuple(parameter.shape)}".encode())
            digest.update(values.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
