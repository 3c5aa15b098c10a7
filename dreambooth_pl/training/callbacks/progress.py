"""Progress of the training on the terminal: steps, speed and loss."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor

from dreambooth_pl.progress import ProgressReporter, Task

LOSS_SMOOTHING = 0.98  # averages about 50 steps; a single loss varies with its timestep


class TrainingProgress(ProgressBar):
    """Counts optimiser steps; replaces Lightning's own progress bar.

    Args:
        reporter: shows the progress.
    """

    def __init__(self, reporter: ProgressReporter) -> None:
        super().__init__()
        self._reporter = reporter
        self._task: Task | None = None
        self._open = ExitStack()
        self._loss: Tensor | None = None
        self._last: tuple[float, int] = (0.0, 0)
        self._enabled = True

    def enable(self) -> None:
        """Show progress."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing; Lightning calls this on all ranks except the first."""
        self._enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Write a line without breaking the bar."""
        self._reporter.line(" ".join(str(arg) for arg in args))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at the step where training starts or resumes."""
        self._last = (time.monotonic(), trainer.global_step)
        if self._enabled:
            task = self._reporter.task("training", int(trainer.max_steps), trainer.global_step)
            self._task = self._open.enter_context(task)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Average the loss, and update the bar when that is due."""
        if self._task is None:
            return
        loss = outputs["loss"].detach()
        if self._loss is None:
            self._loss = loss.clone()
        else:
            self._loss.lerp_(loss, 1 - LOSS_SMOOTHING)
        if self._task.due() or trainer.global_step >= trainer.max_steps:
            now, step = time.monotonic(), trainer.global_step
            rate = (step - self._last[1]) / max(now - self._last[0], 1e-9)
            self._last = (now, step)
            self._task.update(step, note=f"{rate:.1f} steps/s, loss {self._loss.item():.4f}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._open.close()
        self._task = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the error message has its own line."""
        self._open.close()
        self._task = None
