"""The run's settings and its last scores in TensorBoard's HParams tab, where runs compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams


class HParams(Callback):
    """Names the run's settings at its start; the tab takes each curve's last value as the result.

    So a run shows up while it trains, and one that was stopped is there with what it had reached.

    Args:
        settings: the configuration's leaves under dotted keys.
        curves: tags of the scalars that runs are compared by.
    """

    def __init__(self, settings: dict[str, Any], curves: Sequence[str]) -> None:
        self.settings = settings
        self.curves = curves

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the settings."""
        experiment, start, _ = self._summaries()
        self._write(trainer, experiment, start)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the run as finished."""
        *_, end = self._summaries()
        self._write(trainer, end)

    def _summaries(self) -> tuple[Any, Any, Any]:
        """Return the plugin's summaries: what there is to compare, settings, end."""
        plain = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in self.settings.items()
            if value is not None
        }
        return hparams(plain, dict.fromkeys(self.curves, 0.0))

    def _write(self, trainer: Trainer, *summaries: Any) -> None:
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for summary in summaries:
                    logger.experiment._get_file_writer().add_summary(summary)
