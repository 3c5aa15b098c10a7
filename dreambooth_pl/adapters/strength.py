"""The strength of adapters during generation."""

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

_TRAINED = "_as_trained"  # attribute of a temporarily replaced parameter: its trained data


@contextmanager
def adapter_scale(base: Base, denoiser: float, text_encoder: float) -> Iterator[None]:
    """Scale the adapters for the duration of the context and restore the exact scales on exit.

    Scales are relative to the trained strength: 1 is as trained, 0 is the untuned base. A nested
    context replaces the scales of the outer one instead of multiplying them. The scale applies to

    - lora, lokr, loha: the update; for lora it becomes scale * (alpha / rank) * B A;
    - DoRA: the update within the norm, as in diffusers and PEFT, so that the trained lengths of the
      rows stay (ComfyUI scales the change of the whole weight instead). At 0, DoRA is off;
    - oft: the skew-symmetric matrices that generate the rotations. PEFT itself has no such scale;
    - full: the difference between the tuned and the untuned weights.

    Args:
        base: with adapters of any kind.
        denoiser: scale of the denoiser's adapters.
        text_encoder: scale of all text encoders' adapters.
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
    """Replace the data of a parameter until `stack` closes.

    Args:
        parameter: the parameter.
        of_trained: computes the new data from the trained data, also if another replacement is
            active.
        stack: restores the current data when it closes.
    """
    now, outer = parameter.data, getattr(parameter, _TRAINED, None)
    trained = now if outer is None else outer

    def restore() -> None:
        parameter.data = now
        setattr(parameter, _TRAINED, outer)

    setattr(parameter, _TRAINED, trained)
    parameter.data = of_trained(trained)
    stack.callback(restore)
