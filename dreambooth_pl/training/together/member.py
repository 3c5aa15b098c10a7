"""One of several runs that train together: its trainer, and what a step means to it.

The run's own `Trainer` begins and ends it, with all hooks, and restores it from a checkpoint. Only
the batches of its one epoch are not the trainer's: their gradients come from `JointGradients`. Here
the trainer is told of each step what its own loop would have told it; so counts, curves,
callbacks and checkpoints are those of a single run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from dreambooth_pl.errors import UserError
from dreambooth_pl.training.finite import LOSS, Finite
from dreambooth_pl.training.module import DreamBooth
from dreambooth_pl.training.together.step import Batch


class Member:
    """A run among several.

    Args:
        trainer: within `fit`, at the start of the epoch.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.module: DreamBooth = trainer.lightning_module
        self.error: BaseException | None = None
        """What has ended the run early."""
        self._loop = trainer.fit_loop.epoch_loop
        self._after_step = [
            callback.on_train_batch_end
            for callback in trainer.callbacks
            if type(callback).on_train_batch_end is not Callback.on_train_batch_end
        ]
        self._finite = next((c for c in trainer.callbacks if isinstance(c, Finite)), None)
        # Lightning puts a module on the CPU when its run has ended; other runs need the base yet.
        self.module.cpu = lambda: self.module
        self._loop.reset()
        self._loop.on_run_start(trainer.fit_loop._data_fetcher)
        self._loop.on_iteration_done()

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The run's own."""
        return self.trainer.optimizers[0]

    @property
    def is_done(self) -> bool:
        """Whether the run has all its steps, or has ended early."""
        return self.error is not None or self.trainer.global_step >= self.trainer.max_steps

    @property
    def largest_norm(self) -> float:
        """The norm to which gradients are shortened."""
        return self.trainer.gradient_clip_val or math.inf

    @property
    def logs_next_step(self) -> bool:
        """Whether the next step is a point of the training curves."""
        step, every = self.trainer.global_step + 1, self.trainer.log_every_n_steps
        return bool(every) and step % every == 0

    def batches(self) -> list[Batch]:
        """Return the batches of the next step, one for each micro-batch."""
        fetcher = self.trainer.fit_loop._data_fetcher
        batches = [next(fetcher)[0] for _ in range(self.trainer.accumulate_grad_batches)]
        self._loop.batch_progress.is_last_batch = fetcher.done
        return batches

    def looks(self) -> bool:
        """Whether the run reads its losses at the next step, although a GPU then has to wait."""
        return self.logs_next_step or self.trainer.global_step + 1 >= self.trainer.max_steps

    def check(self, loss: Tensor) -> None:
        """Let the run end because its loss or its gradient is not finite.

        Raises:
            UserError: as for a single run, unless `Finite` finds nothing wrong.
        """
        if self._finite is None:
            raise UserError(f"the loss or its gradient is not finite: {loss.item()}")
        self._finite.on_before_optimizer_step(self.trainer, self.module, self.optimizer)

    def saw(self, loss: float) -> None:
        """Note a finite loss of the step that is about to be taken."""
        if self._finite is not None:
            self._finite.saw(self.trainer.global_step + 1, loss)

    def tell(self, metrics: Mapping[str, Tensor]) -> None:
        """Tell the trainer the values of the step that is about to be taken."""
        self.trainer._logger_connector._callback_metrics.update(metrics)

    def advance(self, batches: list[Batch]) -> None:
        """Count a step that has been taken, and call what comes after a step."""
        trainer, loop = self.trainer, self._loop
        logs = self.logs_next_step
        for tracker in (loop.batch_progress.total, loop.batch_progress.current):
            tracker.ready += len(batches)
            tracker.started += len(batches)
            tracker.processed += len(batches)
            tracker.completed += len(batches) - 1
        counts = loop.automatic_optimization.optim_progress.optimizer
        counts.step.increment_ready()
        counts.step.increment_completed()
        counts.zero_grad.increment_ready()
        counts.zero_grad.increment_started()
        counts.zero_grad.increment_completed()
        outputs: dict[str, Any] = {"loss": trainer.callback_metrics[LOSS]}
        for call in self._after_step:
            call(trainer, self.module, outputs, batches[-1], loop.batch_idx)
        loop.batch_progress.increment_completed()
        if logs:
            trainer._logger_connector.log_metrics(dict(trainer.callback_metrics))
        loop._batches_that_stepped += 1
