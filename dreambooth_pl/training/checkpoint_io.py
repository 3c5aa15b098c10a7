"""How a checkpoint's bytes get to the disk."""

from __future__ import annotations

from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.strategies import Strategy

from dreambooth_pl.files.torch_file import save_torch_file


class StreamedCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints tensor by tensor to where they are to be.

    Lightning's own way goes through a whole copy in memory and another file in the system's folder
    for temporary files, which may be small, in memory, or on another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint to a path on this machine; its folder is there."""
        assert storage_options is None, "torch files take no options"
        save_torch_file(checkpoint, path)


def stream_checkpoints(strategy: Strategy) -> None:
    """Have the strategy write its checkpoints so, unless the user has given it a way of its own."""
    if type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = StreamedCheckpointIO()
