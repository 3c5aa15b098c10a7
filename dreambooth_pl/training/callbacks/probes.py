"""What the model draws while it trains: the same prompts and seeds before, during and after."""

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
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.image_metadata import (
    PIXELS,
    image_metadata,
    origin_metadata,
    pixel_hash,
)
from dreambooth_pl.sampling.requests import ImageRequest, probe_requests
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.callbacks.fidelity import Fidelity
from dreambooth_pl.training.callbacks.rounds import Rounds, show_sheet
from dreambooth_pl.training.trainer_settings import MAX_STEPS


@dataclass(frozen=True)
class ProbeSettings:
    """Pictures drawn while training, to see what the adapter has learned."""

    every_n_steps: Annotated[int, Bounds(0, MAX_STEPS)] = 325
    """Optimiser steps between two rounds of probe images, validation and checkpoints; the first
    round is before step 1, the last after the last step. 0: no images and no scores at all, and a
    checkpoint only at the end."""

    def __post_init__(self) -> None:
        if self.every_n_steps < 0:
            raise UserError(f"probe.every_n_steps is {self.every_n_steps}; it must be 0 or more")
        check_values(type(self), self, "probe")


class Probes(Rounds):
    """Draws the probe prompts before step 1, at intervals and at the end.

    Each round goes to TensorBoard and, as single PNGs and a labelled contact sheet, to `folder`.
    Generating changes nothing about the training: not weights, modes, precision or random state.

    Args:
        settings: when.
        sampling: how; the run's own sampler settings.
        folder: where the pictures go; made when the first are saved.
        reporter: shows how many are drawn.
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
        """Draw the floor if the checkpoint did not bring it."""
        if self.fidelity.floor is None:
            untuned = replace(self.sampling, lora_scale_unet=0.0, lora_scale_text_encoder=0.0)
            self.fidelity.set_floor(self._draw(trainer, pl_module, untuned), *self._texts(trainer))

    def round(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save and score."""
        images = self._draw(trainer, pl_module, self.sampling)
        self._save(trainer, pl_module, images)
        texts = self._texts(trainer)
        if trainer.global_step == 0:  # fresh adapters change nothing: this is the untuned base
            self.fidelity.set_floor(images, *texts)
        self.fidelity.record(trainer, images, *texts)

    def _draw(
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
        """Return each probe's prompt, without and with the identifier."""
        data = trainer.datamodule
        without = probe_requests("", data.class_noun, data.seed)
        return (
            [request.prompt for _, request in without],
            [request.prompt for _, request in self._requests(trainer)],
        )


def _slug(label: str) -> str:
    """Make a label fit for a file name.

    >>> _slug("Van Gogh, oil")
    'van-gogh-oil'
    """
    return re.sub(r"\W+", "-", label.lower()).strip("-")
