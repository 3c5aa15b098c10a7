"""The run's settings and last scores in TensorBoard's HParams tab, for comparing runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams


class HParams(Callback):
    """Writes the run's settings to TensorBoard when training starts.

    The tab shows the last value of each curve as the result. So a run appears while it trains, and
    an interrupted run appears with the scores that it reached.

    Args:
        settings: the values of the config under dotted keys.
        curves: tags of the scalars to compare runs by.
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
        """Return the plugin's three summaries: the experiment, its settings, its end."""
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
