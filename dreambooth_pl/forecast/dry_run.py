"""A dry run: all that a run would do and take, found out without writing anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from dreambooth_pl.adapters import trainable_parameters
from dreambooth_pl.data.class_images import count_class_images, default_class_dir
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.forecast.memory import Training, memory_need
from dreambooth_pl.forecast.report import ClassImages, Forecast, Memory, Seconds, Trained
from dreambooth_pl.forecast.times import seconds_per_batch, try_training
from dreambooth_pl.memory.available import available_memory, resident_memory
from dreambooth_pl.memory.check import SCRATCH
from dreambooth_pl.sampling.requests import probe_requests
from dreambooth_pl.training.callbacks.validation import validation_prompts


@dataclass(frozen=True)
class Start:
    """Where a run starts."""

    folder: Path
    """The folder that it would get, or goes on in."""
    step: int
    """Optimiser steps done."""
    ckpt_path: str | None
    """What it goes on from."""
    make_trainer: Callable[..., Trainer]
    """Makes the run's trainer with settings in place of its own."""


def dry_run(training: Training, settings: Any, start: Start, notes: Sequence[str]) -> Forecast:
    """Find out what a run would do. It trains for some steps, and throws the result away.

    Args:
        training: the run.
        settings: its parsed config.
        start: where it starts.
        notes: what the user is told before.

    Raises:
        UserError: what the run itself would end with.
    """
    model, data, base = training.model, training.data, training.model.base_model
    classes = _class_images(training)
    trains = tuple(
        Trained(
            component,
            model.settings.adapter,
            None if model.settings.adapter == "full" else model.settings.lora.rank,
            sum(parameter.numel() for parameter in parameters.values()),
        )
        for component, parameters in trainable_parameters(base).items()
    )
    counted, per_step, per_view, steps = None, 0.0, 0.0, 0
    max_steps = settings.trainer.max_steps
    if start.step < max_steps:
        counted = _counted(training)
        trial, per_view = try_training(
            start.make_trainer,
            model,
            data,
            training.classes,
            start.step,
            start.ckpt_path,
            settings.trainer.devices,
        )
        per_step, steps = trial.seconds_per_step, len(trial.steps)
    rounds = _rounds(start.step, max_steps, settings.probe.every_n_steps)
    sets = _image_sets(data, settings) if rounds else []
    of_classes, of_probes = _generation_seconds(training, classes.to_generate, sets)
    parts = {
        "class_images": of_classes,
        "encoding": per_view * training.pictures,
        "training": per_step * (max_steps - start.step),
        "probes": of_probes * rounds,
    }
    return Forecast(
        photos=data.report,
        class_images=classes,
        trains=trains,
        first_step=start.step,
        max_steps=max_steps,
        run_folder=str(start.folder),
        memory=_memory(training.device, counted),
        seconds=Seconds(total=sum(parts.values()), trial_steps=steps, **parts),
        notes=tuple(notes),
    )


def _class_images(training: Training) -> ClassImages:
    data, count = training.data, training.classes
    if count == 0:
        return ClassImages(None, 0, 0, 0)
    base, sampling, prompt = training.model.base_model, training.sampling, data.class_prompt
    folder = data.class_dir or default_class_dir(base, data.class_noun, prompt, sampling, data.seed)
    there = count_class_images(base, prompt, count, sampling, folder, data.seed)
    return ClassImages(str(folder), count, there, count - there)


def _counted(training: Training) -> int | None:
    """Return the bytes that the process is expected to have at the run's peak, by counting."""
    try:
        needed = memory_need(training).total
    except (RuntimeError, NotImplementedError):
        return None
    if training.device.type != "cpu":
        return needed
    now, _ = resident_memory() or (0, 0)
    return training.processes * (now + round(SCRATCH * needed))


def _memory(device: torch.device, counted: int | None) -> Memory:
    if device.type == "cuda":
        measured: int | None = torch.cuda.max_memory_allocated(device)
    else:
        measured = (resident_memory() or (None, None))[1]
    expected = max(filter(None, (counted, measured)), default=None)
    available = available_memory(device)
    return Memory(str(device), expected, measured, available and available.size)


def _image_sets(data: DreamBoothDataModule, settings: Any) -> list[int]:
    """Return how many images each series of a round has."""
    validation = settings.validation
    sets = [len(probe_requests(data.identifier, data.class_noun, data.seed))]
    prompts = validation_prompts(validation)
    if prompts is not None:
        sets.append(len(prompts.prompts) + validation.class_images)
    return sets


def _generation_seconds(
    training: Training, class_images: int, sets: Sequence[int]
) -> tuple[float, float]:
    """Return the seconds for the class images, and for one round of all sets of images."""
    if not class_images and not sets:
        return 0.0, 0.0
    base = training.model.base_model.to(training.device)
    seconds, size = seconds_per_batch(base, training.sampling, class_images or max(sets))
    batches = sum(math.ceil(count / size) for count in sets)
    return seconds * math.ceil(class_images / size), seconds * batches


def _rounds(step: int, max_steps: int, every_n_steps: int) -> int:
    """Return the number of rounds from a step to the end; see `Rounds`.

    >>> _rounds(0, 1300, 325), _rounds(325, 1300, 325), _rounds(400, 500, 325)
    (5, 3, 1)
    """
    if not every_n_steps or step == max_steps:
        return 0
    first = 1 if step == 0 else 0
    return first + math.ceil(max_steps / every_n_steps) - step // every_n_steps
