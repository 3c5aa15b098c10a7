"""The DreamBooth loss. Pure functions; per sample as long as possible, reduced last."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class DreamBoothLoss(NamedTuple):
    """The reduced loss and its parts, each a scalar."""

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


def min_snr_weights(snr: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Return the min-SNR-gamma weight of each sample, [B] -> [B] (arXiv 2303.09556, section 3.4).

    `epsilon`: min(snr, gamma) / snr. `v_prediction`: min(snr, gamma) / (snr + 1), because an error
    in v is snr + 1 times the error in x_0, where one in epsilon is snr times it. Where the ratio
    is 0, the epsilon weight is its limit, 1.

    >>> import torch
    >>> min_snr_weights(torch.tensor([1.0, 20.0]), 5.0, "epsilon")
    tensor([1.0000, 0.2500])
    """
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1.0)
    assert prediction_type == "v_prediction", f"unknown prediction type {prediction_type!r}"
    return snr.clamp(max=gamma) / (snr + 1)


def dreambooth_loss(
    prediction: Tensor,
    target: Tensor,
    num_instance: int,
    prior_loss_weight: float = 1.0,
    weights: Tensor | None = None,
    mask: Tensor | None = None,
) -> DreamBoothLoss:
    """Return the instance loss plus the weighted prior-preservation loss (arXiv 2208.12242, eq. 2).

    Args:
        prediction: the network's output, [N, ...]: the instance samples first, then any class
            samples.
        target: what it should have been, same shape.
        num_instance: how many of the N samples are instance samples.
        prior_loss_weight: lambda of eq. 2.
        weights: per-sample weights [N] such as `min_snr_weights`, applied to all N samples before
            they are split.
        mask: what counts within each sample, see `per_sample_mse`.
    """
    losses = per_sample_mse(prediction, target, mask)
    return combine_losses(losses, num_instance, prior_loss_weight, weights)


def combine_losses(
    losses: Tensor,
    num_instance: int,
    prior_loss_weight: float = 1.0,
    weights: Tensor | None = None,
) -> DreamBoothLoss:
    """Return `dreambooth_loss` from the losses of each sample, [N]."""
    assert 0 < num_instance <= len(losses), "a batch needs instance samples"
    if weights is not None:
        assert weights.shape == losses.shape, f"{weights.shape} weights for {losses.shape} losses"
        losses = losses * weights
    instance = losses[:num_instance].mean()
    if num_instance == len(losses):
        return DreamBoothLoss(total=instance, instance=instance, prior=None)
    prior = losses[num_instance:].mean()
    return DreamBoothLoss(instance + prior_loss_weight * prior, instance, prior)
