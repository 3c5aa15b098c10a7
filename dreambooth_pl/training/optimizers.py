"""The optimiser: AdamW by default, or any other by its class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from dreambooth_pl.errors import UserError

OptimizerFactory = Callable[[Iterable], Optimizer]
"""Makes an optimiser of parameter groups; in a config `class_path` and `init_args`."""


def make_optimizer(factory: OptimizerFactory | None, groups: list[dict[str, Any]], **adamw: Any):
    """Return the optimiser of parameter groups, each with a name and its own learning rate.

    Args:
        factory: makes another optimiser than AdamW.
        groups: with keys name, params, lr.
        adamw: AdamW's own settings.

    Raises:
        UserError: the optimiser refuses them.
    """
    if factory is None:
        if all(p.is_cuda for group in groups for p in group["params"]):
            return _fused_adamw(groups, **adamw)
        # foreach is twice as fast as a loop on a CPU for many small tensors
        return torch.optim.AdamW(groups, foreach=True, **adamw)
    try:
        return factory(groups)
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        raise UserError(f"model.optimizer: {error}") from error


def _fused_adamw(groups: list[dict[str, Any]], **adamw: Any) -> Optimizer:
    """Return AdamW whose whole step is one operation on the GPU."""
    optimizer = torch.optim.AdamW(groups, fused=True, **adamw)
    # It could undo a loss scale by itself, for which Lightning refuses to clip gradients. Without
    # this mark the scale is undone before the step, as for other optimisers.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def describe_optimizer(factory: OptimizerFactory | None) -> dict[str, Any] | None:
    """Return class and settings, learning rate excepted, in plain types; None for the default.

    Raises:
        UserError: it cannot be made.
    """
    if factory is None:
        return None
    optimizer = make_optimizer(factory, [{"params": [nn.Parameter(torch.zeros(1))]}])
    kind = type(optimizer)
    plain = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in optimizer.defaults.items()
        if name != "lr" and isinstance(value, (bool, int, float, str, tuple, list, type(None)))
    }
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", **plain}
