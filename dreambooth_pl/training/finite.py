"""Training that has diverged stops at once, and says at which step and in which term."""

from __future__ import annotations

import math

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from dreambooth_pl.adapters import first_not_finite
from dreambooth_pl.errors import UserError

LOSS = "train/loss"
TERMS = {"train/loss_instance": "instance", "train/loss_prior": "prior"}


class Finite(Callback):
    """Looks at loss and gradient before each optimiser step, so a bad step is never taken.

    On a GPU looking would make the CPU wait at each step. There the losses are watched on the
    device, and the verdict is read where the curves are logged; the adapters themselves are checked
    before every checkpoint and file. Under float16's loss scaling gradients overflow now and then;
    the scaler leaves such steps out, so gradients are not looked at.
    """

    def __init__(self) -> None:
        self._bad: Tensor | None = None  # whether a loss since the last look was not finite
        self._last: tuple[int, float] | None = None

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Look at the step that is about to be taken.

        Raises:
            UserError: the loss or the gradient is not finite.
        """
        loss = trainer.callback_metrics.get(LOSS)
        if loss is None:
            return
        step = trainer.global_step + 1
        if loss.device.type != "cpu":
            bad = ~loss.isfinite()
            self._bad = bad if self._bad is None else self._bad | bad
            if step % max(trainer.log_every_n_steps, 1) and step < trainer.max_steps:
                return
            if self._bad.item():
                raise UserError(self._message(trainer, pl_module, step, self._terms(trainer)))
        value = loss.item()
        if not math.isfinite(value):
            raise UserError(self._message(trainer, pl_module, step, self._terms(trainer)))
        if trainer.precision != "16-mixed" and (name := _bad_gradient(pl_module)):
            raise UserError(self._message(trainer, pl_module, step, f"the gradient of {name}"))
        self.saw(step, value)

    def saw(self, step: int, value: float) -> None:
        """Note that the loss of a step was finite."""
        self._last = (step, value)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the adapters that the last step has left."""
        trained = {n: p for n, p in pl_module.named_parameters() if p.requires_grad}
        name = first_not_finite(trained)
        if name is not None:
            what = f"the adapter {name}"
            raise UserError(self._message(trainer, pl_module, trainer.global_step, what))

    @staticmethod
    def _terms(trainer: Trainer) -> str:
        terms = {
            name: trainer.callback_metrics[key].item()
            for key, name in TERMS.items()
            if key in trainer.callback_metrics
        }
        bad = [f"{name} {value}" for name, value in terms.items() if not math.isfinite(value)]
        return f"the loss ({', '.join(bad)})" if bad else "the loss"

    def _message(self, trainer: Trainer, pl_module: LightningModule, step: int, what: str) -> str:
        last = "there was no finite loss before"
        if self._last is not None:
            last = f"the last finite loss was {self._last[1]:.4g}, at step {self._last[0]}"
        return (
            f"Training stopped at step {step}: {what} is not finite; {last}. Training has "
            f"diverged: lower model.learning_rate ({pl_module.settings.learning_rate:g}), or set "
            "trainer.gradient_clip_val to 1. With a base in half precision, use trainer.precision "
            "bf16-mixed or 32-true."
        )


def _bad_gradient(pl_module: LightningModule) -> str | None:
    gradients = {
        name: parameter.grad
        for name, parameter in pl_module.named_parameters()
        if parameter.grad is not None
    }
    if torch.nn.utils.get_total_norm(gradients.values()).isfinite():
        return None
    return first_not_finite(gradients)  # None: all are finite, only their norm is too large
