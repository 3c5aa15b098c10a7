"""Checkpoints of a run: `last.ckpt` to go on from, `best.ckpt` by the validation score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from dreambooth_pl.files.atomic import link_file, remove_leftovers
from dreambooth_pl.training.callbacks.validation import Validation
from dreambooth_pl.training.checkpoint import CONFIG_KEY
from dreambooth_pl.training.checkpoint_io import use_atomic_checkpoints


class Checkpoints(Checkpoint):
    """Writes `last.ckpt` at intervals and at the end, and keeps the best as `best.ckpt`.

    The best is the checkpoint with the highest score by the rule `validation.best_by`, see
    `best_checkpoint`; without validation there is none. Lightning runs checkpoint callbacks after
    all others, so the score of the same step is there. An interrupted write harms neither file.

    Args:
        folder: where the files go; made when the first is written.
        every_n_steps: optimiser steps between two checkpoints; 0 for only at the end.
        config: the run's configuration in plain types, saved with the weights so that resuming can
            tell what has changed.
        validation: scores the run's rounds; None without.
    """

    def __init__(
        self,
        folder: Path,
        every_n_steps: int,
        config: dict[str, Any],
        validation: Validation | None = None,
    ) -> None:
        self.folder = folder
        self.every_n_steps = every_n_steps
        self.config = config
        self.validation = validation
        self.best_score: float | None = None
        self._saved_step: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the first rank's folder: each rank has to name the same file when saving."""
        self.folder = trainer.strategy.broadcast(self.folder)
        use_atomic_checkpoints(trainer.strategy)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the configuration beside the weights."""
        checkpoint[CONFIG_KEY] = self.config

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What the run starts from needs no saving again; what broke off beside it is removed."""
        self._saved_step = trainer.global_step
        if trainer.is_global_zero and trainer.ckpt_path:
            remove_leftovers(Path(trainer.ckpt_path).parent)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save at the interval, once per optimiser step."""
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end: an epoch is the whole run."""
        self._save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"best_score": self.best_score, "best_by": self._rule}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best score so far; scores by another rule do not compare."""
        if state_dict.get("best_by") == self._rule:
            self.best_score = state_dict["best_score"]

    @property
    def _rule(self) -> str | None:
        return self.validation and self.validation.settings.best_by

    def _save(self, trainer: Trainer) -> None:
        if self._saved_step == trainer.global_step:
            return
        self._saved_step = trainer.global_step
        step, score = self.validation and self.validation.latest or (None, None)
        is_best = step == trainer.global_step and (
            self.best_score is None or score > self.best_score
        )
        if is_best:
            self.best_score = score
        last = self.folder / "last.ckpt"
        trainer.save_checkpoint(last)  # all ranks take part
        if trainer.is_global_zero and is_best:
            link_file(last, self.folder / "best.ckpt")
        trainer.strategy.barrier()
