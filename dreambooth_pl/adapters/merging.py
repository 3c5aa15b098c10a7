"""Temporary merging of adapters into the base's weights, to generate faster.

An adapter that is separate from its layer's weight adds several small matrix products. While
nothing trains, W can be replaced by W + scale * delta. The function is the same, and a denoising
step costs as much as with the untuned base.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lycoris_utils import LycorisLayer
from peft.tuners.tuners_utils import BaseTunerLayer

from dreambooth_pl.adapters.injection import adapted_layers
from dreambooth_pl.adapters.strength import replace_data
from dreambooth_pl.bases.base import Base

MOST_BYTES = 2 * 2**30
"""Largest total size of the adapted weights in bytes. A copy of more may not fit into memory."""


@contextmanager
def merged_while_generating(base: Base) -> Iterator[None]:
    """Merge the adapters into the base's weights for the duration of the context.

    The adapters keep the strength that they have on entry. On exit, every weight is the original
    tensor again. Use this under `torch.no_grad`.

    The following adapters are not merged and stay active beside their layers:

    - DoRA and OFT, because they do not add an update to the weight;
    - adapters of half-precision weights, because rounding would lose a small update;
    - all adapters, if the adapted weights are larger than `MOST_BYTES`, because merging holds a
      second copy of them.
    """
    layers = [layer for _, _, layer in adapted_layers(base)]
    layers = [layer for layer in layers if not layer.disable_adapters and _can_merge(layer)]
    with ExitStack() as stack:
        if sum(layer.get_base_layer().weight.nbytes for layer in layers) <= MOST_BYTES:
            for layer in layers:
                _merge(layer, stack)
        yield


def _can_merge(layer: BaseTunerLayer) -> bool:
    """Return whether the layer has float32 weights and adapters that add an update to them."""
    if layer.get_base_layer().weight.dtype != torch.float32 or layer.merged:
        return False
    if isinstance(layer, LoraLayer):
        return not layer.lora_variant and not any(layer.lora_bias.values())
    return isinstance(layer, LycorisLayer)


def _merge(layer: BaseTunerLayer, stack: ExitStack) -> None:
    """Replace the layer's weight by the merged one until `stack` closes."""
    names = [name for name in layer.active_adapters if name in layer.scaling]
    delta = sum(layer.get_delta_weight(name) for name in names)
    replace_data(layer.get_base_layer().weight, lambda trained: trained + delta, stack)
    stack.callback(setattr, layer, "_disable_adapters", layer.disable_adapters)
    layer._disable_adapters = True
