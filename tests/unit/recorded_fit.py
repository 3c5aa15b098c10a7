"""A few training steps on real photos, with what reaches the UNet and the loss written down.

And the same tensors made another way: with diffusers' and transformers' own classes, read from the
base's folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from dreambooth_pl.adapters import AdapterSettings
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.randomness import generator
from dreambooth_pl.training.module import DreamBooth

SEED = 42


@dataclass
class Call:
    """Inputs and output of the UNet for samples of one size."""

    noisy: Tensor
    timesteps: Tensor
    hidden_states: Tensor
    prediction: Tensor


@dataclass
class Step:
    """A training step: its batch of indices, what the UNet was given, and the loss."""

    batch: dict[str, list[int]]
    calls: list[Call] = field(default_factory=list)
    loss: float = 0.0


class Recorder(Callback):
    """Writes the steps down."""

    def __init__(self, module: DreamBooth) -> None:
        self.steps: list[Step] = []
        module.unet.register_forward_hook(self._called, with_kwargs=True)

    def _called(self, unet: Any, args: tuple[Tensor, ...], kwargs: dict[str, Any], out: Any):
        noisy, timesteps = (tensor.detach().clone() for tensor in args)
        hidden_states = kwargs["encoder_hidden_states"].detach().clone()
        call = Call(noisy, timesteps, hidden_states, out.sample.detach().clone())
        self.steps[-1].calls.append(call)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.steps.append(Step({key: value.tolist() for key, value in batch.items()}))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.steps[-1].loss = outputs["loss"].item()


def recorded_fit(
    base: Path, data: DreamBoothDataModule, folder: Path, steps: int, **options: Any
) -> list[Step]:
    """Train on the tiny base for a few steps and return them."""
    lora = AdapterSettings(rank=2, alpha=2.0)
    module = DreamBooth(base=str(base), lora=lora, seed=SEED, **options)
    recorder = Recorder(module)
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[recorder],
    )
    trainer.fit(module, data)
    assert len(recorder.steps) == steps
    return recorder.steps


def pixels_of(image: Image.Image) -> Tensor:
    """Return an RGB image as float32 [3, H, W] in [-1, 1]."""
    values = np.asarray(image, dtype=np.float64) / 255 * 2 - 1
    return torch.from_numpy(values.transpose(2, 0, 1)).float()


@torch.no_grad()
def noised_by_hand(
    base: Path, pixels: Tensor, kind: str, index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return timestep [1], noise and noisy latent [C, h, w] of a sample that shows `pixels`."""
    vae = _loaded(AutoencoderKL, base / "vae")
    scheduler = DDPMScheduler.from_pretrained(base / "scheduler")
    moments = vae.encode(pixels[None]).latent_dist
    rng = generator(SEED, "sample", kind, index)
    timestep = torch.randint(1000, (1,), generator=rng)
    noise, posterior = torch.randn((2, *moments.mean.shape), generator=rng)
    latent = (moments.mean + moments.std * posterior) * vae.config.scaling_factor
    return timestep, noise[0], scheduler.add_noise(latent, noise, timestep)[0]


@torch.no_grad()
def encoded_by_hand(base: Path, prompt: str) -> Tensor:
    """Return a prompt's hidden states, [length, width]."""
    tokenizer = _loaded(CLIPTokenizer, base / "tokenizer")
    text_encoder = _loaded(CLIPTextModel, base / "text_encoder")
    length = text_encoder.config.max_position_embeddings
    ids = tokenizer(prompt, padding="max_length", max_length=length, return_tensors="pt").input_ids
    return text_encoder(ids)[0][0]


@lru_cache
def _loaded(kind: type, folder: Path) -> Any:
    return kind.from_pretrained(folder)
