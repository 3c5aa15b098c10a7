"""What is being trained, and what to do next."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from dreambooth_pl.adapters import EXPORT_FORMATS, export_formats
from dreambooth_pl.progress import ProgressReporter


class Summary(Callback):
    """Says at the start what trains; at the end where the run lies and how to look at it.

    Args:
        folder: the run's folder.
        reporter: where the lines go.
    """

    def __init__(self, folder: Path, reporter: ProgressReporter) -> None:
        self.folder = folder
        self.reporter = reporter

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the base, how many parameters train, and what the result cannot be exported as."""
        count = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
        kind, base = pl_module.settings.adapter, pl_module.base_model
        self._line(trainer, f"{count:,} {kind} parameters on {base.name}")
        possible = export_formats(kind, base.rules)
        if missing := [name for name in EXPORT_FORMATS if name not in possible]:
            self._line(
                trainer,
                f"Note: a run with model.adapter {kind} can be exported as "
                f"{' or '.join(possible)}, not as {' or '.join(missing)}.",
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the run's folder and the two commands to go on with."""
        self._line(trainer, f"Run:    {self.folder}")
        self._line(trainer, f"Curves: tensorboard --logdir {self.folder.parent}")
        self._line(trainer, f"Scores: python evaluate.py {self.folder}")

    def _line(self, trainer: Trainer, text: str) -> None:
        if trainer.is_global_zero:
            self.reporter.line(text)
