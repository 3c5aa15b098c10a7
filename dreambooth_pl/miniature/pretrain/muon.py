"""Muon for convolutional networks: torch's own takes matrices only."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

ENDS = ("conv_in", "conv_out", "quant_conv", "patch_embed", "pos_embed", "cls_token", "prototypes")
"""Layers between a network and its data, and tables of vectors: these stay with AdamW."""


class ConvolutionMuon(torch.optim.Muon):
    """`torch.optim.Muon` that sees a weight [out, in, h, w] as the matrix [out, in * h * w].

    A step's direction has all singular values near 1 (Jordan et al. 2024), so that rare features
    learn as fast as common ones.

    Raises:
        ValueError: if a weight is no dense, contiguous tensor of two or more dimensions.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float) -> None:
        self._weights = list(weights)
        matrices = [nn.Parameter(w.detach().flatten(1)) for w in self._weights]
        for weight, matrix in zip(self._weights, matrices, strict=True):
            if weight.data_ptr() != matrix.data_ptr():
                raise ValueError("Muon needs contiguous weights: a matrix must share their memory")
        super().__init__(matrices, lr=lr, weight_decay=0.0)

    def step(self, closure: None = None) -> None:
        """One step along the gradients of the weights; those without one stay."""
        matrices = self.param_groups[0]["params"]
        for weight, matrix in zip(self._weights, matrices, strict=True):
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        super().step(closure)


def hidden(name: str, weight: nn.Parameter) -> bool:
    """Whether a parameter is a hidden layer's matrix, what Muon is for."""
    return weight.ndim >= 2 and not any(end in name for end in ENDS)
