"""The memory that a training run takes: weights, gradients, optimiser state, activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer

from dreambooth_pl.adapters import trainable_parameters
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.memory.check import check_memory
from dreambooth_pl.memory.traced import traced_peak
from dreambooth_pl.sampling.memory import (
    first_width,
    generation_bound,
    generation_peak,
    predict_anything,
    weight_bytes,
)
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.module import DreamBooth

_TRAINED_MAPS = 1500
"""Feature maps of the first layer's size that a training step keeps at most. Stable Diffusion 1.5,
XL and 3 with adapters on all attention projections keep 270 to 450."""
_ENCODED_MAPS = 12
_STATE = 2
"""Values that the optimiser keeps per trained one. AdamW has two moments; others are near that."""
_STEP = 1
"""Values per trained one that a step of the optimiser takes for a moment."""
_BYTES = 4  # what trains is float32


@dataclass(frozen=True)
class Training:
    """What the memory of a training run depends on."""

    model: DreamBooth
    data: DreamBoothDataModule
    sampling: SamplingSettings
    mixed: bool
    """Whether operations are computed in half precision."""
    probes: bool
    """Whether images are generated during training."""
    device: torch.device
    processes: int = 1
    """Processes that share the device's memory."""

    @classmethod
    def of(
        cls, model: DreamBooth, data: DreamBoothDataModule, settings: Any, trainer: Trainer
    ) -> Training:
        """Return the run of a trainer; `settings` is its parsed config."""
        return cls(
            model,
            data,
            settings.sampling,
            "mixed" in str(trainer.precision),
            settings.probe.every_n_steps > 0,
            trainer.strategy.root_device,
            trainer.num_devices if trainer.strategy.root_device.type == "cpu" else 1,
        )

    @property
    def images(self) -> bool:
        """Whether images are generated as well, for the prior loss or as probes."""
        return self.probes or self.classes > 0

    @property
    def classes(self) -> int:
        """Number of class images that are trained on."""
        weight = self.model.settings.prior_loss_weight
        return self.data.num_class_images if weight > 0 else 0

    @property
    def pictures(self) -> int:
        """Number of views that are encoded before the first step."""
        flips = 1 + self.data.settings.horizontal_flip
        return len(self.data.views) + self.classes * flips

    @property
    def samples(self) -> int:
        """Samples that one pass takes: photos, and as many class images."""
        return self.data.settings.batch_size * (2 if self.classes else 1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the largest pictures in pixels."""
        sizes = [view.size or (self.data.resolution,) * 2 for view in self.data.views]
        return max(sizes, key=lambda size: size[0] * size[1])


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a run takes beside what the process has when its models are loaded on the CPU."""

    weights: int
    """Of the networks, where they go to a GPU."""
    latents: int
    """Of the pictures, which are encoded once."""
    state: int
    """Of the optimiser."""
    step: int
    """Gradients and activations of a training step at its peak."""
    encoding: int
    """The VAE's, at its peak."""
    generation: int
    """Of a batch of images at its peak."""

    @property
    def total(self) -> int:
        """At the peak: training and generating take turns."""
        held = self.weights + self.latents + self.state
        return held + max(self.step, self.encoding, self.generation)


def memory_need(training: Training) -> MemoryNeed:
    """Count what a run takes; takes some seconds.

    Args:
        training: with its networks on the CPU.

    Raises:
        RuntimeError: it cannot be counted; see `traced_peak`.
    """
    base = training.model.base_model
    trained = _trained(training)
    networks = list(base.modules.values())
    step = traced_peak(networks, lambda: _step(training))
    encoding = traced_peak(networks, lambda: _encode(training))
    images = training.images
    return MemoryNeed(
        **_held(training),
        step=max(step, (1 + _STEP) * _BYTES * trained),
        encoding=encoding,
        generation=generation_peak(base, training.sampling) if images else 0,
    )


def check_training_memory(training: Training) -> list[str]:
    """Check that a run fits into memory; return notes if it just may not.

    Raises:
        OutOfMemoryError: it evidently does not fit; names the numbers and the keys to lower.
    """
    data, sampling = training.data.settings, training.sampling
    height, width = training.size
    batch = "1 photo" if data.batch_size == 1 else f"batches of {data.batch_size} photos"
    keys = {
        "data.batch_size": data.batch_size,
        "data.resolution": data.resolution,
        "sampling.batch_size": sampling.batch_size,
        "model.lora.rank": training.model.settings.lora.rank,
    }
    values = ", ".join(f"{key} ({value})" for key, value in keys.items())
    note = check_memory(
        training.processes * _bound(training),
        lambda: training.processes * memory_need(training).total,
        training.device,
        f"Training on {batch} of {width} x {height} px",
        f"Lower {values}, or set model.gradient_checkpointing to true.",
    )
    return [note] if note else []


def _bound(training: Training) -> int:
    """Return bytes that the run surely does not exceed, without counting."""
    base = training.model.base_model
    height, width = training.size
    cells = height * width // base.vae_scale_factor**2
    step = training.samples * cells * first_width(base.denoiser) * _TRAINED_MAPS * _BYTES
    step += (1 + _STEP) * _BYTES * _trained(training)
    encoding = height * width * first_width(base.vae) * _ENCODED_MAPS * _BYTES
    images = generation_bound(base, training.sampling) if training.images else 0
    return MemoryNeed(**_held(training), step=step, encoding=encoding, generation=images).total


def _held(training: Training) -> dict[str, int]:
    base = training.model.base_model
    on_gpu = training.device.type != "cpu"
    height, width = training.size
    moments = 2 * base.denoiser.config.in_channels * height * width // base.vae_scale_factor**2
    return {
        "weights": weight_bytes(base) if on_gpu else 0,
        "latents": training.pictures * moments * _BYTES,
        "state": _STATE * _BYTES * _trained(training),
    }


def _trained(training: Training) -> int:
    """Return the number of values that train."""
    components = trainable_parameters(training.model.base_model).values()
    return sum(p.numel() for parameters in components for p in parameters.values())


def _step(training: Training) -> None:
    """Run a forward and a backward pass, in the modes of training."""
    base = training.model.base_model
    for component in trainable_parameters(base):
        base.modules[component].train()
    prompts = training.samples if training.model.settings.train_text_encoder else 1
    with torch.autocast("cpu", torch.bfloat16, enabled=training.mixed):
        prediction = predict_anything(base, training.samples, training.size, prompts)
    loss = prediction.float().square().mean()
    components = trainable_parameters(base).values()
    trained = [p for parameters in components for p in parameters.values()]
    torch.autograd.grad(loss, trained, allow_unused=True)
    for component in trainable_parameters(base):
        base.modules[component].eval()


@torch.no_grad()
def _encode(training: Training) -> None:
    """Encode a picture."""
    moments = training.model.base_model.vae.encode(torch.empty(1, 3, *training.size)).latent_dist
    assert moments.mean.shape == moments.std.shape
