"""Autocast without conversions that gain nothing.

Autocast runs norms in float32, though their kernels sum in float32 whatever their input is, and
PEFT casts an adapter's input to float32, which autocast casts back at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn


@contextmanager
def lean_autocast(network: nn.Module) -> Iterator[None]:
    """Spare a network under autocast the conversions to float32 and back.

    Adapters of kind `lora` compute what they did, to the bit. Group and layer norms whose weights
    are bfloat16 take and return bfloat16. Without autocast, nothing changes.

    Args:
        network: of a base, with or without adapters.
    """
    device = next(network.parameters()).device.type
    if not torch.is_autocast_enabled(device):
        yield
        return
    norms = [m for m in network.modules() if isinstance(m, nn.GroupNorm | nn.LayerNorm)]
    norms = [m for m in norms if m.weight is not None and m.weight.dtype is torch.bfloat16]
    layers = [m for m in network.modules() if isinstance(m, LoraLayer) and not m.lora_variant]
    layers = [m for m in layers if m.cast_input_dtype_enabled]
    for norm in norms:
        norm.forward = partial(_in_own_type, norm, device)
    for layer in layers:
        layer.cast_input_dtype_enabled = False
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward
        for layer in layers:
            layer.cast_input_dtype_enabled = True


def _in_own_type(norm: nn.GroupNorm | nn.LayerNorm, device: str, x: Tensor) -> Tensor:
    """Return what a norm makes of `x` in the type of its own weights."""
    with torch.autocast(device, enabled=False):
        return type(norm).forward(norm, x.to(norm.weight.dtype))
