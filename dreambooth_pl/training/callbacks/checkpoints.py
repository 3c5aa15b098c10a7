"""Checkpoints of a run: `last.ckpt` to go on from, `best.ckpt` by the validation score."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from dreambooth_pl import distributed
from dreambooth_pl.adapters import check_finite
from dreambooth_pl.bounds import Bounds, check_values
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import link_file
from dreambooth_pl.files.leftovers import remove_leftovers
from dreambooth_pl.runs.folder import LAST
from dreambooth_pl.runs.logs import flush
from dreambooth_pl.stop_signals import STOP, Stopped
from dreambooth_pl.training.callbacks.validation import Validation
from dreambooth_pl.training.checkpoint import CONFIG_KEY
from dreambooth_pl.training.checkpoint_io import use_atomic_checkpoints
from dreambooth_pl.training.trainer_settings import MAX_STEPS

BEST = "best.ckpt"


@dataclass(frozen=True)
class CheckpointSettings:
    """When a run saves what it goes on from after an interruption."""

    every_n_steps: Annotated[int, Bounds(0, MAX_STEPS)] | None = None
    """Optimiser steps between two checkpoints; null: as probe.every_n_steps. 0: none by steps. A
    checkpoint holds the adapters and the optimiser's state, and replaces the one before."""
    every_n_minutes: Annotated[float, Bounds(0, 1_000_000, open_low=True)] | None = 10.0
    """Longest time without a checkpoint, in minutes; null: no such limit."""

    def __post_init__(self) -> None:
        if self.every_n_steps is not None and self.every_n_steps < 0:
            raise UserError(
                f"checkpoint.every_n_steps is {self.every_n_steps}; it must be 0 or more, or null"
            )
        if self.every_n_minutes is not None and self.every_n_minutes <= 0:
            raise UserError(
                f"checkpoint.every_n_minutes is {self.every_n_minutes:g}; it must be above 0, or "
                "null"
            )
        check_values(type(self), self, "checkpoint")


class Checkpoints(Checkpoint):
    """Writes `last.ckpt` at intervals and at the end, and keeps the best as `best.ckpt`.

    The best is the checkpoint with the highest score by the rule `validation.best_by`, see
    `best_checkpoint`; without validation there is none. Lightning runs checkpoint callbacks after
    all others, so the score of the same step is there. An interrupted write harms neither file.

    A signal that asks the process to end waits for the end of the step. The step's checkpoint is
    written then, and `Stopped` raised.

    Args:
        folder: where the files go; made when the first is written.
        every_n_steps: optimiser steps between two checkpoints; 0 for only at the end.
        config: the run's configuration in plain types, saved with the weights so that resuming can
            tell what has changed.
        validation: scores the run's rounds; None without.
        every_n_minutes: longest time between two checkpoints; None for no limit.
        extra: further entries of each checkpoint, in plain types.
        own_folder: whether this run goes on in the folder of its checkpoint. What was still to be
            done when the checkpoint was written is done then: the step's curves, `best.ckpt`.
    """

    def __init__(
        self,
        folder: Path,
        every_n_steps: int,
        config: dict[str, Any],
        validation: Validation | None = None,
        *,
        every_n_minutes: float | None = None,
        extra: Mapping[str, Any] | None = None,
        own_folder: bool = False,
    ) -> None:
        self.folder = folder
        self.every_n_steps = every_n_steps
        self.every_n_seconds = None if every_n_minutes is None else 60 * every_n_minutes
        self.config = config
        self.validation = validation
        self.extra = dict(extra or {})
        self.own_folder = own_folder
        self.best_score: float | None = None
        self.best_step: int | None = None
        self._saved_step: int | None = None
        self._saved_at = time.monotonic()
        self._seen_step: int | None = None
        self._pending: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the first rank's folder: each rank has to name the same file when saving."""
        self.folder = trainer.strategy.broadcast(self.folder)
        use_atomic_checkpoints(trainer.strategy)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the configuration beside the weights, which must be finite."""
        trained = {n: p for n, p in pl_module.named_parameters() if p.requires_grad}
        check_finite(trained, "The checkpoint")
        checkpoint[CONFIG_KEY] = self.config
        checkpoint.update(self.extra)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What the run starts from needs no saving again; what broke off beside it is removed."""
        step = self._saved_step = self._seen_step = trainer.global_step
        self._saved_at = time.monotonic()
        if trainer.is_global_zero and trainer.ckpt_path:
            remove_leftovers(Path(trainer.ckpt_path).parent)
        if self.own_folder:
            self._catch_up(trainer)
        if distributed.from_first(lambda: self._round_made_up_for(step)):
            self._save(trainer, again=True)
        STOP.defer()

    def _round_made_up_for(self, step: int) -> bool:
        """Whether the step that training goes on from got its round just now, on this rank."""
        latest = self.validation and self.validation.latest
        return step > 0 and latest is not None and latest[0] == step

    def _catch_up(self, trainer: Trainer) -> None:
        if self._pending:
            for logger in trainer.loggers:
                logger.log_metrics(self._pending, step=trainer.global_step - 1)
        if trainer.is_global_zero and self.best_step == trainer.global_step:
            link_file(self.folder / LAST, self.folder / BEST)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save at the intervals, once per optimiser step, and when the run is to stop."""
        if self._seen_step == trainer.global_step:
            return  # gradients are being accumulated
        self._seen_step = trainer.global_step
        stop = _any_rank(trainer, STOP.pending is not None)
        late = self.every_n_seconds is not None and (
            _any_rank(trainer, time.monotonic() - self._saved_at >= self.every_n_seconds)
        )
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if due or late or stop:
            self._save(trainer)
        if stop:
            raise Stopped(STOP.pending or signal.SIGTERM)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end: an epoch is the whole run."""
        self._save(trainer)
        STOP.release()
        if _any_rank(trainer, STOP.pending is not None):
            raise Stopped(STOP.pending or signal.SIGTERM)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save what a signal has interrupted while images were generated, between two steps.

        The first rank does so alone: others may wait where they cannot take part.
        """
        STOP.release()
        trained = self._saved_step is not None and trainer.global_step > self._saved_step
        if isinstance(exception, Stopped) and trained and trainer.is_global_zero:
            self._save(trainer, alone=True)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {
            "best_score": self.best_score,
            "best_step": self.best_step,
            "best_by": self._rule,
            "pending": self._pending,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best score so far; scores by another rule do not compare."""
        if state_dict.get("best_by") == self._rule:
            self.best_score = state_dict["best_score"]
            self.best_step = state_dict.get("best_step")
        self._pending = state_dict.get("pending", {})

    @property
    def _rule(self) -> str | None:
        return self.validation and self.validation.settings.best_by

    def _save(self, trainer: Trainer, again: bool = False, alone: bool = False) -> None:
        if self._saved_step == trainer.global_step and not again:
            return
        step, score = self.validation and self.validation.latest or (None, None)
        is_best = step == trainer.global_step and (
            self.best_score is None or score > self.best_score
        )
        if is_best:
            self.best_score, self.best_step = score, step
        last = self.folder / LAST
        self._pending = _pending(trainer)
        flush(trainer.loggers)  # before the checkpoint, or a killed run would lack points
        if alone:  # as the trainer does, but without waiting for the other ranks
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            trainer.strategy.save_checkpoint(checkpoint, last)
        else:
            trainer.save_checkpoint(last)
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        if trainer.is_global_zero and is_best:
            link_file(last, self.folder / BEST)
        if not alone:
            trainer.strategy.barrier()


def _pending(trainer: Trainer) -> dict[str, float]:
    """Return the training curves' points of this step; Lightning logs them after the callbacks."""
    if trainer.log_every_n_steps == 0 or trainer.global_step % trainer.log_every_n_steps:
        return {}
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return values | {"epoch": trainer.current_epoch}


def _any_rank(trainer: Trainer, flag: bool) -> bool:
    """Tell on all ranks whether one of them has the flag set."""
    return trainer.strategy.reduce_boolean_decision(flag, all=False)
