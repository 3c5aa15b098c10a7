"""How long an optimiser step takes, and how much of it is not the model's own arithmetic.

`python benchmarks/step_time.py` trains on the miniature through the ordinary trainer with its
loggers, and beside it the bare forward, backward and AdamW step on tensors of the same shapes.
"""

from __future__ import annotations

import dreambooth_pl  # noqa: F401  isort: skip  (mends the import of torchvision first)

import argparse
import statistics
import tempfile
import time
from typing import Any

import torch
from lightning.pytorch import Callback
from timed_trainer import timed_trainer

from dreambooth_pl.adapters import AdapterSettings, trainable_parameters
from dreambooth_pl.commands.train import quiet_libraries
from dreambooth_pl.data.class_images import ensure_class_images
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.module import DreamBooth

WARM_UP = 10


class Clock(Callback):
    """Notes the time after each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Note it."""
        self.times.append(time.perf_counter())


def median_ms(times: list[float]) -> float:
    """Median of the differences of successive times after the warm-up, in milliseconds."""
    steps = [b - a for a, b in zip(times[WARM_UP:], times[WARM_UP + 1 :], strict=False)]
    return 1e3 * statistics.median(steps)


def trainer_step(base: str, steps: int) -> tuple[float, DreamBooth]:
    """Median step of a run with prior preservation, batch 1 + 1, rank 8."""
    module = DreamBooth(base=base, lora=AdapterSettings(rank=8, alpha=8.0))
    data = DreamBoothDataModule(num_class_images=4)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        images = ensure_class_images(
            module.base_model, "a dog", 4, SamplingSettings(num_inference_steps=2), folder, seed=0
        )
        data.set_class_images(images)
        timed_trainer(folder, clock, max_steps=steps, accelerator="cpu").fit(module, data)
    return median_ms(clock.times), module


def bare_step(module: DreamBooth, steps: int) -> float:
    """Median of UNet forward, backward, gradient clipping and AdamW alone."""
    base = module.base_model
    parameters = list(trainable_parameters(base)["unet"].values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, foreach=True)
    states = base.encode_prompts(["a sks dog", "a dog"]).hidden_states.detach()
    side = base.resolution // base.vae_scale_factor
    noisy, target = torch.randn(2, 2, 4, side, side)
    times = []
    for _ in range(steps):
        prediction = base.denoiser(
            noisy, torch.tensor([3, 500]), encoder_hidden_states=states
        ).sample
        (prediction - target).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter())
    return median_ms(times)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="data/miniature", help="folder of the base")
    parser.add_argument("--steps", type=int, default=150, help="steps of each measurement")
    args = parser.parse_args()
    quiet_libraries()
    ours, module = trainer_step(args.base, args.steps)
    bare = bare_step(module, args.steps)
    print(f"trainer {ours:.1f} ms/step, bare {bare:.1f} ms/step, overhead {ours / bare - 1:+.1%}")


if __name__ == "__main__":
    main()
