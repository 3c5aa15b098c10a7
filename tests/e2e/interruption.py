"""A callback that ends a run as a power cut would, by its path on the command line."""

from lightning.pytorch import Callback


class PowerCut(Exception):
    """Not an error that anything handles."""


class CutPowerAt(Callback):
    """Raises after the given optimiser step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise PowerCut
