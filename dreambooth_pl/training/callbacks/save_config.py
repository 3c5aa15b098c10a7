"""The whole config of a run, saved as `config.yaml` in the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from dreambooth_pl.files.atomic import atomic_path
from dreambooth_pl.runs.folder import CONFIG, RESUME


class SaveConfig(Callback):
    """Writes a config file, defaults included, with which `train.py fit --config` repeats the run.

    Args:
        parser: the parser of `fit`, which saves `config`.
        config: the parsed config of `fit`.
        folder: the run's folder; created when needed.
    """

    def __init__(self, parser: LightningArgumentParser, config: Any, folder: Path) -> None:
        self.parser = parser
        self.config = config
        self.folder = folder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file; all checks have passed by then."""
        if trainer.is_global_zero:
            config = self.config.clone()
            config.pop(RESUME, None)  # what this start was about, not how the run is made
            with atomic_path(self.folder / CONFIG) as temporary:
                self.parser.save(config, temporary, skip_none=False, overwrite=True)
