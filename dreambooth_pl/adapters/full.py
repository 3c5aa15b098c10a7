"""Full fine-tuning: all weights of the networks train (arXiv 2208.12242, section 4).

A fully tuned network keeps its untuned weights W0 on the CPU, outside the module's state. Its tuned
weights W can thus be scaled like an adapter, to W0 + scale * (W - W0): scale 1 is as trained, and 0
is the untuned base.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_UNTUNED = "_untuned_weights"  # attribute of a network: untuned weights by parameter name


def is_tuned(module: nn.Module) -> bool:
    """Return whether `begin` was called for the network and not undone."""
    return hasattr(module, _UNTUNED)


def begin(module: nn.Module) -> None:
    """Start full tuning: copy the untuned weights to the CPU and cast the live ones to float32.

    Raises:
        RuntimeError: the network is fully tuned already.
    """
    if is_tuned(module):
        raise RuntimeError("the network is fully tuned already")
    setattr(module, _UNTUNED, {n: p.detach().cpu().clone() for n, p in module.named_parameters()})
    for parameter in module.parameters():
        parameter.data = parameter.data.float()


def undo(module: nn.Module) -> None:
    """Restore the untuned weights in their original dtype. Do nothing if there are none."""
    if not is_tuned(module):
        return
    untuned = untuned_weights(module)
    for name, parameter in module.named_parameters():
        parameter.data = untuned[name].to(parameter.device)
    module.requires_grad_(False)
    delattr(module, _UNTUNED)


def untuned_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the network's weights from before tuning by parameter name, on the CPU."""
    return getattr(module, _UNTUNED)


@torch.no_grad()
def add(module: nn.Module, weights: dict[str, Tensor], factor: float) -> None:
    """Add factor * (weights - untuned weights) to the live weights.

    Args:
        module: a fully tuned network.
        weights: tuned weights by parameter name.
        factor: weight of the difference.
    """
    untuned = untuned_weights(module)
    for name, parameter in module.named_parameters():
        before = untuned[name].to(parameter)
        if factor == 1 and torch.equal(parameter, before):
            parameter.copy_(weights[name])  # exact, without rounding
        else:
            parameter.add_(weights[name].to(parameter) - before, alpha=factor)
