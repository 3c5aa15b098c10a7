"""Callbacks that disturb a run, by their paths on the command line."""

import math
import os
import signal
import time

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


class SignalAt(Callback):
    """Sends this process a signal while the given optimiser step is being taken."""

    def __init__(self, step: int, signum: int) -> None:
        self.step = step
        self.signum = signum

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), self.signum)


class KillSecondAt(Callback):
    """Kills the process of rank 1 before the given optimiser step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_rank == 1 and trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class Poison(Callback):
    """Makes the loss, or a gradient, infinite at the given optimiser step."""

    def __init__(self, step: int, what: str) -> None:
        self.step = step
        self.what = what

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if self.what == "loss" and trainer.global_step + 1 == self.step:
            # past the settings' own check
            object.__setattr__(pl_module.settings, "prior_loss_weight", math.nan)

    def on_after_backward(self, trainer, pl_module) -> None:
        if self.what == "gradient" and trainer.global_step + 1 == self.step:
            parameters = [p for p in pl_module.parameters() if p.grad is not None]
            parameters[0].grad.fill_(math.inf)


class WaitAt(Callback):
    """Waits at the given optimiser step, once it is saved, until a file is there."""

    def __init__(self, step: int, file: str) -> None:
        self.step = step
        self.file = file

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        end = time.monotonic() + 120
        while trainer.global_step == self.step and not os.path.exists(self.file):
            assert time.monotonic() < end
            time.sleep(0.05)
