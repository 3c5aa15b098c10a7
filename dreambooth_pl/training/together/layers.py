"""LoRA layers for a batch that holds samples of several runs, each with adapters of its own.

The batch is ordered by run: of N runs with s samples each, rows 0 to s - 1 are the first run's. The
frozen layer sees the whole batch at once; the adapters' products are batched over the runs.
"""

from __future__ import annotations

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import conv2d

Factors = tuple[nn.Parameter, nn.Parameter, Tensor]
"""A [N, r, ...], B [N, out, r, ...] and scaling [N] of N runs, shaped like PEFT's weights."""


class GroupedLora(nn.Module):
    """A frozen layer with LoRA adapters of N runs; see `GroupedLinear` and `GroupedConv2d`.

    Args:
        layer: the frozen layer, shared by the runs.
        factors: of the runs.
    """

    def __init__(self, layer: nn.Module, factors: Factors) -> None:
        super().__init__()
        self.base_layer = layer
        a, b, scaling = factors
        self.lora_A, self.lora_B = a, b
        self.register_buffer("scaling", scaling, persistent=False)

    @property
    def runs(self) -> int:
        """N."""
        return len(self.lora_A)

    def add(self, result: Tensor, update: Tensor) -> Tensor:
        """Return the frozen layer's result plus the adapters', in the former's type."""
        return (result + update.reshape(result.shape)).to(result.dtype)

    def input(self, x: Tensor) -> Tensor:
        """Return the adapters' input: without autocast in their own type, as PEFT casts it."""
        return x if torch.is_autocast_enabled(x.device.type) else x.to(self.lora_A.dtype)


class GroupedLinear(GroupedLora):
    """y = W x + scaling_i B_i A_i x for the samples of run i; x is [N * s, ..., in]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return y, [N * s, ..., out]."""
        result = self.base_layer(x)
        rows = self.input(x).reshape(self.runs, -1, x.shape[-1])
        inner = torch.bmm(rows, self.lora_A.mT) * self.scaling[:, None, None]
        if result.dtype == inner.dtype:  # adds in place of a pass of its own
            flat = result.reshape(self.runs, -1, result.shape[-1])
            return torch.baddbmm(flat, inner, self.lora_B.mT).view(result.shape)
        return self.add(result, torch.bmm(inner, self.lora_B.mT))


class GroupedConv2d(GroupedLora):
    """A convolution with adapters: A_i has its kernel, B_i is 1 x 1; x is [N * s, in, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return y, [N * s, out, H', W']."""
        result = self.base_layer(x)
        inner = self._inner(self.input(x)) * self.scaling[:, None, None, None]
        update = self.lora_B.flatten(2)[:, None] @ inner  # [N, s, out, H' * W']
        return self.add(result, update)

    def _inner(self, x: Tensor) -> Tensor:
        """Return A_i x of each run, [N, s, r, H' * W']."""
        layer, a, runs = self.base_layer, self.lora_A, self.runs
        samples, height, width = len(x) // runs, *x.shape[-2:]
        plain = layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding == (0, 0)
        if plain:
            return a.flatten(2)[:, None] @ x.reshape(runs, samples, -1, height * width)
        # one convolution whose groups of channels are the runs
        side_by_side = x.view(runs, samples, -1, height, width).transpose(0, 1)
        side_by_side = side_by_side.reshape(samples, -1, height, width)
        inner = conv2d(
            side_by_side,
            a.reshape(-1, *a.shape[2:]),
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=runs,
        )
        return inner.reshape(samples, runs, a.shape[1], -1).transpose(0, 1)


def grouped(layer: LoraLayer, factors: Factors) -> GroupedLora:
    """Return the layer with the adapters of several runs in place of its own.

    Raises:
        ValueError: there is no such layer for several runs.
    """
    frozen = layer.get_base_layer()
    if isinstance(frozen, nn.Linear):
        return GroupedLinear(frozen, factors)
    if isinstance(frozen, nn.Conv2d) and frozen.groups == 1:
        return GroupedConv2d(frozen, factors)
    raise ValueError(f"adapters of several runs on {type(frozen).__name__}")
