"""How long training and generating take, from a few steps whose result is thrown away."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from dreambooth_pl.bases.base import Base
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.sampling.batch_size import choose, known_rates
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.module import DreamBooth

STEPS = 8
"""Optimiser steps of a trial."""
_WARM_UP = 2
SECONDS = 6.0
"""After this time a trial begins no further step."""
_FEW, _MORE = 1, 3  # denoising steps of two timings, whose difference is the time of a step
_AUTO = 8  # images at once, where the best number is measured only when a run starts


@dataclass
class Trial(Callback):
    """Times the steps of a training, and ends it after a few."""

    steps: list[float] = field(default_factory=list)
    """Seconds of each optimiser step."""
    encoding: float = 0.0
    """Seconds of preparing the pictures."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the time of encoding, which comes next."""
        self._step, self._last = trainer.global_step, _now(pl_module.device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the time of the first step."""
        self._step, now = trainer.global_step, _now(pl_module.device)
        self.encoding, self._last, self._first = now - self._last, now, now

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the time of an optimiser step."""
        if trainer.global_step == self._step:
            return  # gradients are being accumulated
        now = _now(pl_module.device)
        self.steps.append(now - self._last)
        self._step, self._last = trainer.global_step, now
        if now - self._first > SECONDS:
            trainer.should_stop = True

    @property
    def seconds_per_step(self) -> float:
        """The median without the first steps, as far as there are more."""
        return statistics.median(self.steps[min(_WARM_UP, len(self.steps) - 1) :])


def try_training(
    make_trainer: Callable[..., Trainer],
    model: DreamBooth,
    data: DreamBoothDataModule,
    classes: int,
    step: int,
    ckpt_path: str | None,
    devices: int | str | list[int],
) -> tuple[Trial, float]:
    """Train for some steps in memory; return their times, and the seconds to encode a picture.

    Nothing is written. The model is of no use afterwards.

    Args:
        make_trainer: makes the run's trainer with settings in place of the run's.
        model, data: of the run.
        classes: number of class images.
        step: the step that the run starts at.
        ckpt_path: what it goes on from, which is loaded and checked.
        devices: those of the run, of which the first is tried.
    """
    trial, few = Trial(), data.for_trial(classes)
    trainer = make_trainer(
        callbacks=[trial],
        max_steps=step + STEPS,
        max_time=None,
        devices=[devices[0]] if isinstance(devices, list) else 1,
        num_nodes=1,
        strategy="auto",
        profiler=None,
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, datamodule=few, ckpt_path=ckpt_path, weights_only=True)
    return trial, trial.encoding / len(few.views)


def seconds_per_batch(base: Base, settings: SamplingSettings, count: int) -> tuple[float, int]:
    """Return the seconds that a batch of images takes, and its size.

    Args:
        base: on the device where it generates.
        settings: of the run.
        count: number of images to generate at a time.
    """
    size, rates = settings.batch_size, known_rates(base, settings)
    if size == "auto":
        size = choose(rates, count) if rates else _AUTO
    steps = settings.num_inference_steps
    _timed(base, settings, 1, _FEW)  # the first run is slower
    one = _timed(base, settings, 1, _FEW)
    tried = size if one * size * (_FEW + _MORE) < SECONDS else 1
    few = one if tried == 1 else _timed(base, settings, tried, _FEW)
    more = _timed(base, settings, tried, _MORE) if few * _MORE < SECONDS else few * _MORE
    per_step = max(more - few, 0) / (_MORE - _FEW)
    return (few + per_step * (steps - _FEW)) * size / tried, size


def _timed(base: Base, settings: SamplingSettings, size: int, steps: int) -> float:
    settings = replace(settings, batch_size=size, num_inference_steps=steps)
    # what the trial has trained may be of any kind
    settings = replace(settings, lora_scale_unet=0.0, lora_scale_text_encoder=0.0)
    start = _now(base.device)
    for _ in generate(base, [ImageRequest("a photo", seed) for seed in range(size)], settings):
        pass
    return _now(base.device) - start


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
