"""Copies of small tensors to a GPU that do not make the CPU wait.

A plain copy to a GPU waits until the GPU has done all that was launched before. A copy out of
pinned memory is queued instead, so that the CPU prepares the next step while the GPU still works.
"""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on `device`: a queued copy if that is a GPU, itself if it is there already.

    >>> values = torch.ones(2)
    >>> upload(values, "cpu") is values
    True
    """
    device = torch.device(device)
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
