"""Autocast without needless conversions, beside ordinary autocast and float32."""

from __future__ import annotations

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from training import new_module

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.conditioning import Conditioning
from dreambooth_pl.training.cuda_graph.lean_autocast import lean_autocast
from dreambooth_pl.training.module import DreamBooth


def adapted(base_dir, **settings) -> DreamBooth:
    """A module whose adapters change the prediction."""
    module = new_module(base_dir, **settings)
    torch.manual_seed(0)
    for parameter in module.base_model.denoiser.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.05)
    return module


def prediction(base: Base) -> tuple[Tensor, list[Tensor]]:
    """Return the prediction for one input, and the gradients of its sum of squares."""
    torch.manual_seed(1)
    noisy, states = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 16)
    result = base.predict(noisy, torch.tensor([10, 700]), Conditioning(states)).float()
    trained = [p for p in base.denoiser.parameters() if p.requires_grad]
    return result.detach(), list(torch.autograd.grad(result.square().sum(), trained))


def autocast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def test_adapters_compute_the_same_to_the_bit(tiny_base_dir) -> None:
    base = adapted(tiny_base_dir).base_model  # norms stay float32, as the frozen weights are
    with autocast():
        usual, gradients = prediction(base)
        with lean_autocast(base.denoiser):
            lean, lean_gradients = prediction(base)
    assert torch.equal(lean, usual)
    assert all(map(torch.equal, lean_gradients, gradients))


def test_norms_in_bfloat16_are_as_near_to_float32(tiny_base_dir) -> None:
    half = adapted(tiny_base_dir, frozen_dtype="bfloat16").base_model
    with autocast():
        usual, gradients = prediction(half)
        with lean_autocast(half.denoiser):
            lean, lean_gradients = prediction(half)
    exact, exact_gradients = prediction(_in_float32(half))

    assert distance([lean], [exact]) < 1.5 * distance([usual], [exact])
    assert distance(lean_gradients, exact_gradients) < 1.5 * distance(gradients, exact_gradients)


def test_norms_take_and_return_their_own_type() -> None:
    torch.manual_seed(0)
    group, layer = nn.GroupNorm(4, 16).bfloat16(), nn.LayerNorm(16).bfloat16()
    pictures, tokens = torch.randn(2, 16, 5, 5), torch.randn(3, 7, 16)
    with autocast(), lean_autocast(nn.ModuleList([group, layer])):
        found = group(pictures), layer(tokens)
    channels = pictures.double().view(2, 4, -1)
    mean, var = channels.mean(-1, keepdim=True), channels.var(-1, keepdim=True, unbiased=False)
    by_hand = ((channels - mean) / (var + 1e-5).sqrt()).view_as(pictures)
    assert found[0].dtype == found[1].dtype == torch.bfloat16
    torch.testing.assert_close(found[0].double(), by_hand, rtol=0.02, atol=0.02)
    centred = tokens.double() - tokens.double().mean(-1, keepdim=True)
    by_hand = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(found[1].double(), by_hand, rtol=0.02, atol=0.02)


def _in_float32(base: Base) -> Base:
    base.denoiser.float()
    return base


def distance(values: list[Tensor], reference: list[Tensor]) -> float:
    pairs = list(zip(values, reference, strict=True))
    return sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5


def test_all_is_as_it_was_afterwards_and_without_autocast(tiny_base_dir) -> None:
    denoiser = adapted(tiny_base_dir, frozen_dtype="bfloat16").base_model.denoiser

    def is_usual() -> bool:
        layers = [m for m in denoiser.modules() if isinstance(m, LoraLayer)]
        norms = [m for m in denoiser.modules() if isinstance(m, nn.GroupNorm | nn.LayerNorm)]
        assert layers
        assert norms
        return all(m.cast_input_dtype_enabled for m in layers) and not any(
            "forward" in vars(m) for m in norms
        )

    with lean_autocast(denoiser):
        assert is_usual()
    with pytest.raises(KeyError), autocast(), lean_autocast(denoiser):
        assert not is_usual()
        raise KeyError
    assert is_usual()
