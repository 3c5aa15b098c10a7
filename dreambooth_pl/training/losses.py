"""The DreamBooth loss. Pure functions; per sample as long as possible, reduced last.

And what is logged of it: means over all that an optimiser step learns from.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dreambooth_pl import distributed


class DreamBoothLoss(NamedTuple):
    """The reduced loss and its parts, each a scalar, or one value for each of several runs."""

    total: Tensor
    instance: Tensor
    prior: Tensor | None
    """Before its weight; None where the batch holds no class images."""


def per_sample_mse(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean squared error of each sample, [B, ...] -> [B], computed in float32.

    With a mask, [B, 1, h, w] in [0, 1] for predictions [B, C, h, w], it is the mean over the mask's
    weight: sum(mask * error) / sum(mask). Its scale therefore does not depend on the mask's area.

    >>> import torch
    >>> errors, mask = torch.tensor([[[[3.0, 1.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    >>> per_sample_mse(errors, torch.zeros_like(errors), mask)
    tensor([9.])
    """
    errors = (prediction.float() - target.float()).square()
    if mask is None:
        return errors.flatten(1).mean(1)
    weights = mask.float().expand_as(errors).flatten(1)
    return (errors.flatten(1) * weights).sum(1) / weights.sum(1)


def combine_losses(
    losses: Tensor, num_instance: int, prior_loss_weight: float | Tensor = 1.0
) -> DreamBoothLoss:
    """Return the instance loss plus the weighted prior-preservation loss (arXiv 2208.12242, eq. 2).

    Args:
        losses: of each sample, [N] or [runs, N]: instance samples first, then any class samples.
        num_instance: how many of the N samples are instance samples.
        prior_loss_weight: lambda of eq. 2, or that of each run, [runs].
    """
    count = losses.shape[-1]
    if not 0 < num_instance <= count:
        raise ValueError(f"{num_instance} instance samples in a batch of {count}")
    instance = losses[..., :num_instance].mean(-1)
    if num_instance == count:
        return DreamBoothLoss(total=instance, instance=instance, prior=None)
    prior = losses[..., num_instance:].mean(-1)
    return DreamBoothLoss(instance + prior_loss_weight * prior, instance, prior)


class StepLosses:
    """Means of the loss and its parts over an optimiser step's micro-batches and all ranks."""

    def __init__(self) -> None:
        self._step: int | None = None
        self._micro_batches: list[Tensor] = []

    def add(self, step: int, loss: DreamBoothLoss) -> dict[str, Tensor]:
        """Take in the loss of a micro-batch; return the means over those of its step so far.

        All ranks call this alike.

        Args:
            step: number of optimiser steps that were taken before.
            loss: of this rank.

        Returns:
            Scalars without gradients: `loss`, `loss_instance` and, with class images, `loss_prior`.
        """
        if step != self._step:
            self._step, self._micro_batches = step, []
        values = {"loss": loss.total, "loss_instance": loss.instance, "loss_prior": loss.prior}
        parts = {name: value.detach() for name, value in values.items() if value is not None}
        self._micro_batches.append(torch.stack(list(parts.values())))
        means = distributed.mean(torch.stack(self._micro_batches).mean(0))
        return dict(zip(parts, means, strict=True))
