"""The trained adapter as a file that other tools read, written at the end of training."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from dreambooth_pl.lora import save_lora


class ExportLora(Callback):
    """Writes `pytorch_lora_weights.safetensors` in diffusers' format.

    Args:
        folder: where the file goes; made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the adapter with its rank and alpha."""
        if trainer.is_global_zero:
            save_lora(pl_module.base_model, pl_module.lora, self.folder)
