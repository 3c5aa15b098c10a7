"""How a checkpoint's bytes get to the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.strategies import Strategy

from dreambooth_pl.files.atomic import atomic_path
from dreambooth_pl.files.torch_file import save_torch_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints tensor by tensor into the folder where they stay, whole or not at all.

    Lightning's own way goes through a whole copy in memory and a file in the system's folder for
    temporary files, which may be small, in memory, or on another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; one that goes to another machine (`s3://...`) as Lightning does."""
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with atomic_path(Path(path)) as temporary:
            save_torch_file(checkpoint, temporary)


def use_atomic_checkpoints(strategy: Strategy) -> None:
    """Have the strategy write its checkpoints so, unless the user has given it a way of its own."""
    if type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = AtomicCheckpointIO()
