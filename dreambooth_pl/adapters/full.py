"""Full fine-tuning: the networks themselves train, as in the paper (arXiv 2208.12242, section 4).

A network that is tuned as a whole keeps its untuned weights on the CPU, beside the module's own
state. With them the tuned weights W can be drawn with at any scale, W0 + scale * (W - W0), like an
adapter: 1 is as trained, 0 is the untuned base.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_UNTUNED = "_untuned_weights"  # attribute of a network: {parameter name: its weights before}


def is_tuned(module: nn.Module) -> bool:
    """Whether the network is (or is about to be) tuned as a whole."""
    return hasattr(module, _UNTUNED)


def begin(module: nn.Module) -> None:
    """Keep the network's weights as the untuned ones and make the live ones float32."""
    if is_tuned(module):
        raise RuntimeError("the network is tuned as a whole already")
    setattr(module, _UNTUNED, {n: p.detach().cpu().clone() for n, p in module.named_parameters()})
    for parameter in module.parameters():
        parameter.data = parameter.data.float()


def undo(module: nn.Module) -> None:
    """Put the untuned weights back, in their own precision; nothing if it is not tuned."""
    if not is_tuned(module):
        return
    untuned = untuned_weights(module)
    for name, parameter in module.named_parameters():
        parameter.data = untuned[name].to(parameter.device)
    module.requires_grad_(False)
    delattr(module, _UNTUNED)


def untuned_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights that a network had before it was tuned, by name, on the CPU."""
    return getattr(module, _UNTUNED)


@torch.no_grad()
def add(module: nn.Module, weights: dict[str, Tensor], factor: float) -> None:
    """Add factor * (weights - untuned weights) to the live weights."""
    untuned = untuned_weights(module)
    for name, parameter in module.named_parameters():
        before = untuned[name].to(parameter)
        if factor == 1 and torch.equal(parameter, before):
            parameter.copy_(weights[name])  # to the bit
        else:
            parameter.add_(weights[name].to(parameter) - before, alpha=factor)
