"""Several subjects that train side by side through their own trainers, for benchmarks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_loops import TARGETS, Measured, Stopwatch
from lightning.pytorch import Callback, Trainer
from timed_trainer import timed_trainer

from dreambooth_pl.adapters import AdapterSettings
from dreambooth_pl.bases.load import shared_weights
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.training.module import DreamBooth
from dreambooth_pl.training.together.group import Group

ATTENTION = AdapterSettings(8, 8.0, target_modules=TARGETS)


class Joining(Callback):
    """Lets a run take its steps with the group."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def on_fit_start(self, trainer: Trainer, pl_module: DreamBooth) -> None:
        """Join."""
        self.group.join(trainer)


class GroupClock(Callback):
    """Times the steps of all runs; belongs to the last, which ends each step."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_train_start(self, *_: Any) -> None:
        """Begin."""
        self.watch.begin()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Note the time."""
        self.watch.after(trainer.global_step)


def train_together(
    base: Path,
    photos: list[Path],
    others: list[Path],
    resolution: int,
    watch: Stopwatch,
    count: int,
    precision: str = "bf16-mixed",
    lora: AdapterSettings = ATTENTION,
    **options: Any,
) -> Measured:
    """Train `count` runs side by side, batch 1 + 1 each; return what a step of all took.

    Args:
        base: folder of the base, whose frozen weights are held in bfloat16 for `bf16-mixed`.
        photos, others: pictures of the subject and of its class; all runs train on these, each
            with its own seed.
        resolution: of the training images in pixels.
        watch: times the steps.
        count: of runs.
        precision: of the trainers.
        lora: size and place of the adapters.
        options: of `DreamBooth`.
    """
    dtype = "bfloat16" if precision == "bf16-mixed" else "float32"

    def start(seed: int, folder: str) -> Callable[[Group], None]:
        def begin(group: Group) -> None:
            own = {"lora": lora, "frozen_dtype": dtype, "seed": seed, **options}
            module = DreamBooth(base=str(base), **own)
            data = DreamBoothDataModule(
                instance_dir=str(photos[0].parent),
                num_class_images=len(others),
                resolution=resolution,
                seed=seed,
            )
            data.set_class_images(others)
            trainer = timed_trainer(
                f"{folder}/{seed}",
                GroupClock(watch) if seed == count - 1 else Callback(),
                max_steps=watch.steps,
                accelerator="gpu" if watch.device.type == "cuda" else "cpu",
                devices=1,
                precision=precision,
            )
            if count > 1:  # one alone trains as ever
                trainer.callbacks.append(Joining(group))
            trainer.fit(module, data)

        return begin

    with tempfile.TemporaryDirectory() as folder, shared_weights():
        errors = Group([start(seed, folder) for seed in range(count)]).run()
    for error in errors:
        if error is not None:
            raise error
    return watch.result()
