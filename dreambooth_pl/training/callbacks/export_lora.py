"""The trained weights as a file for generating images, written at the end of training."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from dreambooth_pl.adapters import save_adapters
from dreambooth_pl.runs.folder import LORA, TUNED


class ExportLora(Callback):
    """Writes `lora/pytorch_lora_weights.safetensors`, the adapters of the run.

    Full fine-tuning (`model.adapter: full`) has no adapters; the whole networks go into `tuned/`.

    Signals are no longer deferred when training has ended: the file appears whole or not at all.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the adapters with their rank and alpha, or the networks."""
        if trainer.is_global_zero:
            name = TUNED if pl_module.settings.adapter == "full" else LORA
            save_adapters(pl_module.base_model, pl_module.settings.lora, self.folder / name)
