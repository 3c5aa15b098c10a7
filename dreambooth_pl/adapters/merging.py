"""Adapters within the weights while drawing: the same function, without their own products.

A layer with an adapter of its own beside it computes several small products more. While nothing
trains, W + scale * delta can stand in for W, and a step costs what it costs the untuned base.
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
"""Of adapted weights; a second copy of more could be what a card's memory lacks."""


@contextmanager
def merged_while_generating(base: Base) -> Iterator[None]:
    """Let adapters work through the base's weights, at the strength they have on entry.

    Afterwards every weight is the tensor that it was. Left beside their layers are adapters that
    are no sum with the weights (DoRA, OFT), those of weights in half precision, in which a small
    update would be rounded away, and all of them where the adapted weights exceed `MOST_BYTES`: a
    second copy of them is held meanwhile. Meant for `torch.no_grad`.
    """
    layers = [layer for _, _, layer in adapted_layers(base)]
    layers = [layer for layer in layers if not layer.disable_adapters and _is_a_sum(layer)]
    with ExitStack() as stack:
        if sum(layer.get_base_layer().weight.nbytes for layer in layers) <= MOST_BYTES:
            for layer in layers:
                _merge(layer, stack)
        yield


def _is_a_sum(layer: BaseTunerLayer) -> bool:
    if layer.get_base_layer().weight.dtype != torch.float32 or layer.merged:
        return False
    if isinstance(layer, LoraLayer):
        return not layer.lora_variant and not any(layer.lora_bias.values())
    return isinstance(layer, LycorisLayer)


def _merge(layer: BaseTunerLayer, stack: ExitStack) -> None:
    names = [name for name in layer.active_adapters if name in layer.scaling]
    delta = sum(layer.get_delta_weight(name) for name in names)
    replace_data(layer.get_base_layer().weight, lambda trained: trained + delta, stack)
    stack.callback(setattr, layer, "_disable_adapters", layer.disable_adapters)
    layer._disable_adapters = True
