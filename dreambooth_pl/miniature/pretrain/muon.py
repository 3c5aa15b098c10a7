"""Muon for convolutional networks. `torch.optim.Muon` takes only matrices."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

ENDS = ("conv_in", "conv_out", "quant_conv", "patch_embed", "pos_embed", "cls_token", "prototypes")
"""Layers between a network and its data, and tables of vectors. AdamW trains these."""


class ConvolutionMuon(torch.optim.Muon):
    """`torch.optim.Muon` that treats a weight [out, in, h, w] as a matrix [out, in * h * w].

    All singular values of a step's direction are near 1 (Jordan et al. 2024), so rare features are
    learned as fast as common ones.

    Args:
        weights: the weights to train, of two or more dimensions.
        lr: learning rate.

    Raises:
        ValueError: a weight is not contiguous.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float) -> None:
        self._weights = list(weights)
        matrices = [nn.Parameter(w.detach().flatten(1)) for w in self._weights]
        for weight, matrix in zip(self._weights, matrices, strict=True):
            if weight.data_ptr() != matrix.data_ptr():
                raise ValueError("Muon needs contiguous weights: a matrix must share their memory")
        super().__init__(matrices, lr=lr, weight_decay=0.0)

    def step(self, closure: None = None) -> None:
        """Take one step along the gradients. Weights without a gradient stay."""
        matrices = self.param_groups[0]["params"]
        for weight, matrix in zip(self._weights, matrices, strict=True):
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        super().step(closure)


def hidden(name: str, weight: nn.Parameter) -> bool:
    """Return whether a parameter is a hidden layer's matrix, which Muon trains."""
    return weight.ndim >= 2 and not any(end in name for end in ENDS)
