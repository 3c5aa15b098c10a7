"""DreamBooth with LoRA as plain scripts train it, for benchmarks/gpu.py to compare with.

One step does what the example scripts of diffusers do: PEFT's adapters in float32 on frozen
bfloat16 weights under autocast, AdamW, gradients clipped to norm 1, the loss read after each step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from peft import LoraConfig
from PIL import Image
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, Dataset

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.spec import BaseSpec

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
PROMPTS = ["a sks dog", "a dog"]


@dataclass(frozen=True)
class Measured:
    """What a run took."""

    begin_s: float
    """Seconds before the first counted step: encoding, warming up, compiling."""
    window_ms: list[float]
    """Milliseconds a step, of each window of steps."""
    peak_bytes: int
    """Memory that PyTorch held on the GPU at most while steps were counted; 0 without a GPU."""


class Stopwatch:
    """Times windows of steps; waits for the GPU at their ends alone.

    Args:
        device: whose work is waited for.
        warm_up, size, count: steps before the first window, steps of a window, windows.
    """

    def __init__(self, device: torch.device, warm_up: int, size: int, count: int) -> None:
        self.device, self.warm_up, self.size, self.count = device, warm_up, size, count
        self.began = time.perf_counter()
        self.marks: list[float] = []

    @property
    def steps(self) -> int:
        """All steps, the warm-up's included."""
        return self.warm_up + self.size * self.count

    def begin(self) -> None:
        """Count memory from here on."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def after(self, step: int) -> None:
        """Take note that `step` steps are done."""
        if step < self.warm_up or step > self.steps or (step - self.warm_up) % self.size:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.marks.append(time.perf_counter())

    def result(self) -> Measured:
        """Return what was measured."""
        pairs = zip(self.marks, self.marks[1:], strict=False)
        windows = [1e3 * (after - before) / self.size for before, after in pairs]
        peak = torch.cuda.max_memory_reserved() if self.device.type == "cuda" else 0
        return Measured(self.marks[0] - self.began, windows, peak)


class Pairs(Dataset):
    """A photo and a class image, each opened, scaled and tokenised whenever it is asked for."""

    def __init__(self, base: Base, photos: list[Path], others: list[Path], side: int) -> None:
        self.base, self.photos, self.others, self.side = base, photos, others, side

    def __len__(self) -> int:
        return len(self.others)

    def __getitem__(self, index: int) -> dict[str, Any]:
        paths = self.photos[index % len(self.photos)], self.others[index]
        return {
            "pixels": [self._pixels(path) for path in paths],
            "tokens": [self.base.tokenize([prompt])[0]["input_ids"] for prompt in PROMPTS],
        }

    def _pixels(self, path: Path) -> Tensor:
        """Return [3, side, side] in [-1, 1]."""
        image = Image.open(path).convert("RGB").resize((self.side, self.side), Image.BILINEAR)
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 127.5 - 1


def train_plainly(
    folder: Path,
    photos: list[Path],
    others: list[Path],
    side: int,
    watch: Stopwatch,
    cached: bool,
) -> tuple[Measured, Base]:
    """Train as a script does; return what it took, and the networks with trained adapters.

    Args:
        folder: of the base.
        photos, others: pictures of the subject and of its class.
        side: of the training images in pixels.
        watch: times it.
        cached: look latents and prompts up instead of encoding them at each step. With two text
            encoders (Stable Diffusion XL) prompts are always looked up, as the scripts do.
    """
    device = watch.device
    base = load_base(BaseSpec(str(folder), frozen_dtype="bfloat16")).to(device)
    xl = len(base.text_encoders) == 2
    if not xl:
        base.vae.bfloat16()  # Stable Diffusion XL's overflows
    base.denoiser.add_adapter(LoraConfig(r=8, lora_alpha=8, target_modules=TARGETS))
    trained = [p for p in base.denoiser.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    base.denoiser.train()
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)
    noising = DDPMScheduler.from_config(base.scheduler_config)
    pairs = Pairs(base, photos, others, side)
    batches = _cached(base, pairs, device) if cached else _encoded(base, pairs, device, xl)
    watch.begin()
    for step in range(1, watch.steps + 1):
        latents, states, added = next(batches)
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (len(latents),), device=device)
        noisy = noising.add_noise(latents, noise, timesteps)
        with torch.autocast(device.type, torch.bfloat16):
            prediction = base.denoiser(
                noisy, timesteps, encoder_hidden_states=states, added_cond_kwargs=added
            ).sample
        (instance, prior), (target, prior_target) = prediction.chunk(2), noise.chunk(2)
        loss = mse_loss(instance.float(), target.float())
        loss = loss + mse_loss(prior.float(), prior_target.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        loss.detach().item()  # for the progress bar
        watch.after(step)
    return watch.result(), base


_Batch = tuple[Tensor, Tensor, dict[str, Tensor] | None]


def _encoded(base: Base, pairs: Pairs, device: torch.device, xl: bool) -> Iterator[_Batch]:
    """Yield batches that are encoded when they are asked for."""
    loader = DataLoader(pairs, batch_size=1, shuffle=True)
    prompts = _prompts(base, pairs, device) if xl else None
    while True:
        for batch in loader:
            pixels = torch.cat(batch["pixels"]).to(device, base.vae.dtype)
            with torch.no_grad():
                latents = base.vae.encode(pixels).latent_dist.sample()
                latents = (latents * base.vae.config.scaling_factor).to(torch.bfloat16)
                if prompts is None:
                    tokens = torch.cat([ids[0] for ids in batch["tokens"]]).to(device)
                    states, added = base.text_encoders[0](tokens)[0], None
                else:
                    states, added = prompts
            yield latents, states, added


def _cached(base: Base, pairs: Pairs, device: torch.device) -> Iterator[_Batch]:
    """Yield batches from latents' distributions and prompts that are encoded once."""
    states, added = _prompts(base, pairs, device)
    distributions = []
    with torch.no_grad():
        for item in pairs:
            pixels = torch.stack(item["pixels"]).to(device, base.vae.dtype)
            distributions.append(base.vae.encode(pixels).latent_dist)
    while True:
        for place in torch.randperm(len(distributions)).tolist():
            latents = distributions[place].sample() * base.vae.config.scaling_factor
            yield latents.to(torch.bfloat16), states, added


@torch.no_grad()
def _prompts(
    base: Base, pairs: Pairs, device: torch.device
) -> tuple[Tensor, dict[str, Tensor] | None]:
    """Return the prompts' states and what else the UNet takes."""
    encoded = base.encode_prompts(PROMPTS, device)
    if not encoded.added:
        return encoded.hidden_states, None
    side = float(pairs.side)
    sizes = torch.tensor([[side, side, 0.0, 0.0, side, side]] * len(PROMPTS), device=device)
    return encoded.hidden_states, {**encoded.added, "time_ids": sizes}
