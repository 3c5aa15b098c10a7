"""What the model draws while it trains: the same prompts and seeds before, during and after."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from dreambooth_pl.callbacks.fidelity import Fidelity
from dreambooth_pl.contact_sheet import contact_sheet
from dreambooth_pl.errors import UserError
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.sampling import (
    ImageRequest,
    SamplingSettings,
    generate,
    image_metadata,
    probe_requests,
    save_png,
)

COLUMNS = 4  # of the contact sheet: first images above, prompts below


@dataclass(frozen=True)
class ProbeSettings:
    """Pictures drawn while training, to see what the adapter has learned."""

    every_n_steps: int = 325
    """Optimiser steps between two rounds of probe images, checkpoints and scores; the first round
    is before step 1, the last after the last step. 0: no probes and no scores at all, and a
    checkpoint only at the end."""

    def __post_init__(self) -> None:
        if self.every_n_steps < 0:
            raise UserError(f"probe.every_n_steps is {self.every_n_steps}; it must be 0 or more")


class Probes(Callback):
    """Draws the probe prompts before step 1, at intervals and at the end.

    Each round goes to TensorBoard and, as single PNGs and a labelled contact sheet, to `folder`.
    Drawing changes nothing about the training: not weights, modes, precision or random state.

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
        self.settings = settings
        self.sampling = sampling
        self.folder = folder
        self.reporter = reporter
        self.fidelity = fidelity
        self._drawn_step: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what the untouched model draws; a resumed run has done so already."""
        if trainer.global_step == 0:
            self._probe(trainer, pl_module)
            return
        self._drawn_step = trainer.global_step
        if trainer.is_global_zero and self.fidelity.floor is None:
            untuned = replace(self.sampling, lora_scale_unet=0.0, lora_scale_text_encoder=0.0)
            self.fidelity.set_floor(self._draw(trainer, pl_module, untuned), *self._texts(trainer))

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Draw at the interval, once per optimiser step."""
        if trainer.global_step % self.settings.every_n_steps == 0:
            self._probe(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw at the end: an epoch is the whole run."""
        self._probe(trainer, pl_module)

    def _probe(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._drawn_step == trainer.global_step:
            return
        self._drawn_step = trainer.global_step
        if trainer.is_global_zero:
            images = self._draw(trainer, pl_module, self.sampling)
            self._save(trainer, pl_module, images)
            texts = self._texts(trainer)
            if trainer.global_step == 0:  # fresh adapters change nothing: this is the untuned base
                self.fidelity.set_floor(images, *texts)
            self.fidelity.record(trainer, images, *texts)
        trainer.strategy.barrier()

    def _draw(
        self, trainer: Trainer, pl_module: LightningModule, sampling: SamplingSettings
    ) -> list[Image.Image]:
        requests = [request for _, request in self._requests(trainer)]
        title = f"probes at step {trainer.global_step}"
        with self.reporter.task(title, total=len(requests)) as task:
            return list(generate(pl_module.base_model, requests, sampling, progress=task.update))

    def _save(
        self, trainer: Trainer, pl_module: LightningModule, images: list[Image.Image]
    ) -> None:
        step = trainer.global_step
        base = pl_module.base_model
        requests = self._requests(trainer)
        singles = self.folder / f"step_{step:06d}"
        singles.mkdir(parents=True, exist_ok=True)
        for index, ((label, request), image) in enumerate(zip(requests, images, strict=True)):
            metadata = image_metadata(base, request, self.sampling, step=step)
            save_png(image, singles / f"{index:02d}_{_slug(label)}.png", metadata)
        data = trainer.datamodule
        sheet = contact_sheet(
            images,
            labels=[label for label, _ in requests],
            columns=COLUMNS,
            title=f"{data.identifier} {data.class_noun}, step {step}",
        )
        sheet.save(singles.with_suffix(".png"))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                pixels = np.asarray(sheet)
                logger.experiment.add_image("probes", pixels, step, dataformats="HWC")

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
