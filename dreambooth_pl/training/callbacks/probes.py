"""Probe images: the same prompts and seeds before, during and after training."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from dreambooth_pl.bounds import Bounds, check_values
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.png_metadata import save_png
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.sampling.batch_size import settle_batch_size
from dreambooth_pl.sampling.image_metadata import (
    PIXELS,
    image_metadata,
    origin_metadata,
    pixel_hash,
)
from dreambooth_pl.sampling.requests import ImageRequest, probe_requests
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.sampling.shared import generate_together as generate
from dreambooth_pl.training.callbacks.fidelity import Fidelity
from dreambooth_pl.training.callbacks.rounds import Rounds, show_sheet
from dreambooth_pl.training.trainer_settings import MAX_STEPS


@dataclass(frozen=True)
class ProbeSettings:
    """Images generated during training, to see what the adapter has learned."""

    every_n_steps: Annotated[int, Bounds(0, MAX_STEPS)] = 325
    """Optimiser steps between two rounds of probe images, validation and checkpoints. The first
    round is before step 1, the last after the last step. 0: no images and no scores, and a
    checkpoint only at the end."""

    def __post_init__(self) -> None:
        if self.every_n_steps < 0:
            raise UserError(f"probe.every_n_steps is {self.every_n_steps}; it must be 0 or more")
        check_values(type(self), self, "probe")


class Probes(Rounds):
    """Generates the probe images before step 1, at intervals and at the end.

    Each round goes to TensorBoard and to `folder`, as single PNGs and a labelled contact sheet.
    Generating images does not affect the training: weights, modes, precision and random state
    stay as they are.

    Args:
        settings: the interval.
        sampling: the run's sampler settings.
        folder: where the images are saved; created when needed.
        reporter: shows how many images are generated.
        fidelity: scores the images.
    """

    def __init__(
        self,
        settings: ProbeSettings,
        sampling: SamplingSettings,
        folder: Path,
        reporter: ProgressReporter,
        fidelity: Fidelity,
    ) -> None:
        super().__init__(settings.every_n_steps)
        self.sampling = sampling
        self.folder = folder
        self.reporter = reporter
        self.fidelity = fidelity

    def resume(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generate and score the floor if the checkpoint does not contain it."""
        if self.fidelity.floor is None:
            untuned = replace(self.sampling, lora_scale_unet=0.0, lora_scale_text_encoder=0.0)
            images = self._generate(trainer, pl_module, untuned)
            self.fidelity.set_floor(images, *self._texts(trainer))

    def round(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generate, save and score the images."""
        images = self._generate(trainer, pl_module, self.sampling)
        self._save(trainer, pl_module, images)
        texts = self._texts(trainer)
        # new adapters change nothing: these images are the untuned base's
        if trainer.global_step == 0:
            self.fidelity.set_floor(images, *texts)
        self.fidelity.record(trainer, images, *texts)

    def _generate(
        self, trainer: Trainer, pl_module: LightningModule, sampling: SamplingSettings
    ) -> list[Image.Image]:
        base = pl_module.base_model
        requests = [request for _, request in self._requests(trainer)]
        title = f"probes at step {trainer.global_step}"
        sampling = settle_batch_size(base, sampling)
        with self.reporter.task(title, total=len(requests)) as task:
            return list(generate(base, requests, sampling, progress=task.update))

    def _save(
        self, trainer: Trainer, pl_module: LightningModule, images: list[Image.Image]
    ) -> None:
        step, base = trainer.global_step, pl_module.base_model
        requests = self._requests(trainer)
        sampling = settle_batch_size(base, self.sampling)
        singles = self.folder / f"step_{step:06d}"
        data = trainer.datamodule
        spec = pl_module.settings.base_spec
        origin = origin_metadata(base, spec, data.identifier, data.class_noun)
        for index, ((label, request), image) in enumerate(zip(requests, images, strict=True)):
            metadata = image_metadata(base, request, sampling, step=step, **origin)
            metadata[PIXELS] = pixel_hash(image)
            save_png(image, singles / f"{index:02d}_{_slug(label)}.png", metadata)
        show_sheet(trainer, "probes", images, [label for label, _ in requests], self.folder)

    @staticmethod
    def _requests(trainer: Trainer) -> list[tuple[str, ImageRequest]]:
        data = trainer.datamodule
        return probe_requests(data.identifier, data.class_noun, data.seed)

    def _texts(self, trainer: Trainer) -> tuple[list[str], list[str]]:
        """Return the prompts of the probes: all without the identifier, and all with it."""
        data = trainer.datamodule
        without = probe_requests("", data.class_noun, data.seed)
        return (
            [request.prompt for _, request in without],
            [request.prompt for _, request in self._requests(trainer)],
        )


def _slug(label: str) -> str:
    """Return a label as part of a file name.

    >>> _slug("Van Gogh, oil")
    'van-gogh-oil'
    """
    return re.sub(r"\W+", "-", label.lower()).strip("-")
