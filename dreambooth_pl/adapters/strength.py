"""How strongly adapters work while drawing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from peft.tuners.oft.layer import OFTLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from dreambooth_pl.adapters import full
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.families import is_text_encoder

_TRAINED = "_as_trained"  # attribute of a parameter that has other data for a while


@contextmanager
def adapter_scale(base: Base, denoiser: float, text_encoder: float) -> Iterator[None]:
    """Scale the adapters for the duration; afterwards every scale is exactly what it was.

    The scales are relative to the trained strength: 1 is as trained, 0 is the base. A nested
    context replaces the outer one's scales, it does not multiply them. What is scaled is

    - lora, lokr, loha: the update, scale * (alpha / rank) * B A;
    - DoRA: the update likewise, within the norm, as diffusers and PEFT do: the trained lengths of
      the rows stay. (ComfyUI moves the whole weight instead.) At 0 it is off altogether;
    - oft: the skew-symmetric matrices of which the rotations are made. PEFT itself has no scale;
    - full: the difference of the weights from the untuned ones.
    """
    with ExitStack() as stack:
        for component, module in base.adaptable.items():
            scale = text_encoder if is_text_encoder(component) else denoiser
            if full.is_tuned(module):
                _scale_tuned(module, scale, stack)
            for layer in module.modules():
                if isinstance(layer, BaseTunerLayer):
                    _scale_layer(layer, scale, stack)
        yield


def _scale_layer(layer: BaseTunerLayer, scale: float, stack: ExitStack) -> None:
    # PEFT's enable_adapters would also switch gradients on or off.
    stack.callback(setattr, layer, "_disable_adapters", layer.disable_adapters)
    layer._disable_adapters = scale == 0
    if isinstance(layer, OFTLayer):
        for rotation in layer.oft_R.values():
            replace_data(rotation.weight, lambda trained: scale * trained, stack)
        return
    stack.callback(layer.scaling.update, dict(layer.scaling))
    for name in list(layer.scaling):
        layer.set_scale(name, scale)


def _scale_tuned(module: nn.Module, scale: float, stack: ExitStack) -> None:
    untuned = full.untuned_weights(module)
    for name, parameter in module.named_parameters():

        def interpolate(trained: Tensor, name: str = name) -> Tensor:
            before = untuned[name].to(trained)
            return torch.lerp(before, trained, scale) if scale else before

        replace_data(parameter, interpolate, stack)


def replace_data(
    parameter: nn.Parameter, of_trained: Callable[[Tensor], Tensor], stack: ExitStack
) -> None:
    """Let a parameter have other data until `stack` is left; nested replacements start anew."""
    now, outer = parameter.data, getattr(parameter, _TRAINED, None)
    trained = now if outer is None else outer

    def restore() -> None:
        parameter.data = now
        setattr(parameter, _TRAINED, outer)

    setattr(parameter, _TRAINED, trained)
    parameter.data = of_trained(trained)
    stack.callback(restore)
