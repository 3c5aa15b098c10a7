"""Base class of callbacks that run before step 1, at intervals and at the end of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from dreambooth_pl.files.contact_sheet import contact_sheet
from dreambooth_pl.files.png_metadata import save_png
from dreambooth_pl.sampling.shared import work_together
from dreambooth_pl.stop_signals import STOP

COLUMNS = 4  # of the contact sheets


class Rounds(Callback):
    """Calls `round` on the first rank before step 1, at intervals and at the end.

    `round` runs at most once per optimiser step. The other ranks help with the images that it
    generates, and wait for its end.

    Args:
        every_n_steps: optimiser steps between two rounds, at least 1.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._last_step: int | None = None

    def round(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Inspect the model at `trainer.global_step`; subclasses implement this."""
        raise NotImplementedError

    def resume(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do what earlier rounds left undone when a run resumes. Does nothing by default."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run the first round, on the untuned model; a resumed run makes up for what it missed."""
        step = trainer.global_step
        if step > 0:
            if self._last_step is None:  # a checkpoint that does not tell
                self._last_step = step
            self._lead(self.resume, trainer, pl_module)
        if step % self.every_n_steps == 0:
            self._round(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Run a round at each interval."""
        if trainer.global_step % self.every_n_steps == 0:
            self._round(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run the last round: the whole run is one epoch."""
        self._round(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the step of the last round: one that was interrupted is made up for."""
        return {"round": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over which round was the last."""
        self._last_step = state_dict.get("round")

    def _round(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._last_step == trainer.global_step:
            return
        if trainer.strategy.reduce_boolean_decision(STOP.pending is not None, all=False):
            return  # the checkpoints' callback, which comes last, ends the run
        self._lead(self.round, trainer, pl_module)
        self._last_step = trainer.global_step

    @staticmethod
    def _lead(
        work: Callable[[Trainer, LightningModule], None],
        trainer: Trainer,
        pl_module: LightningModule,
    ) -> None:
        def lead() -> None:
            with STOP.interruptible():
                work(trainer, pl_module)

        work_together(pl_module.base_model, lead)


def show_sheet(
    trainer: Trainer,
    tag: str,
    images: Sequence[Image.Image],
    labels: Sequence[str],
    folder: Path,
) -> None:
    """Save a labelled contact sheet of the current step to `folder` and to TensorBoard.

    Args:
        trainer: provides the step, the loggers and the data module (for the title).
        tag: name of the sheet in TensorBoard.
        images: at least one RGB image.
        labels: one label per image.
        folder: where `step_NNNNNN.png` is saved; created when needed.
    """
    step, data = trainer.global_step, trainer.datamodule
    title = f"{data.identifier} {data.class_noun}, step {step}"
    sheet = contact_sheet(images, labels=labels, columns=COLUMNS, title=title)
    save_png(sheet, folder / f"step_{step:06d}.png")
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, np.asarray(sheet), step, dataformats="HWC")
