"""Numbers that no adapter may have."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dreambooth_pl.errors import UserError


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with a NaN or an infinity; None if all are finite.

    All tensors of a device are looked at together, so a GPU is waited for once.
    """
    by_device: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors.values():
        by_device.setdefault(tensor.device, []).append(tensor.isfinite().all())
    if all(bool(torch.stack(found).all()) for found in by_device.values()):
        return None
    return next(name for name, tensor in tensors.items() if not tensor.isfinite().all())


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise UserError if a tensor has a NaN or an infinity, which would spoil every image.

    Args:
        tensors: by name.
        what: is not written then, for the message.
    """
    name = first_not_finite(tensors)
    if name is not None:
        raise UserError(
            f"{what} is not written: the weights {name} are not finite (NaN or infinity). The "
            "training has diverged; lower model.learning_rate and train again."
        )
