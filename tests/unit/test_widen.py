"""A widened UNet computes what the narrow one does, normalisation apart."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from dreambooth_pl.miniature.pretrain import widen as module
from dreambooth_pl.miniature.pretrain.widen import widen


def unet(*channels: int, layers: int = 1) -> UNet2DConditionModel:
    torch.manual_seed(sum(channels))
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=channels,
        layers_per_block=layers,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=1,
        cross_attention_dim=16,
        time_embedding_dim=32,
    ).eval()


def without_norms(network: UNet2DConditionModel) -> UNet2DConditionModel:
    """Group norms mix channels of two levels: the one place where widening is not exact."""
    for name, part in list(network.named_modules()):
        if isinstance(part, nn.GroupNorm):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Identity())
    return network


@torch.no_grad()
def drawn(network: UNet2DConditionModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 4, 8, 8, generator=generator)
    context = torch.randn(2, 5, 16, generator=generator)
    return network(noisy, torch.tensor([3, 700]), context).sample


@pytest.mark.parametrize("width", [16, 24])
def test_without_norms_and_noise_the_function_is_kept(width, monkeypatch):
    monkeypatch.setattr(module, "SPREAD", 0.0)
    narrow, wide = unet(8, 32), unet(width, 32)
    widen(narrow, wide, seed=0)
    kept = drawn(without_norms(narrow))
    assert kept.abs().max() > 0.01
    torch.testing.assert_close(drawn(without_norms(wide)), kept, rtol=1e-4, atol=1e-5)


def test_copies_of_a_channel_are_told_apart_by_a_little_noise():
    narrow, wide = unet(8, 32), unet(16, 32)
    widen(narrow, wide, seed=0)
    first, second = wide.conv_in.weight.unflatten(0, (8, 2)).unbind(1)
    difference = (first - second).abs().max()
    assert 0 < difference < 0.5 * narrow.conv_in.weight.abs().max()


def test_a_shortcut_that_the_wide_network_has_no_use_for_is_left_out():
    narrow, wide = unet(8, 16), unet(16, 16)
    assert any("down_blocks.1.resnets.0.conv_shortcut" in k for k in narrow.state_dict())
    widen(narrow, wide, seed=0)
    assert torch.isfinite(drawn(wide)).all()


def test_networks_that_differ_otherwise_are_refused():
    with pytest.raises(ValueError, match="no multiple"):
        widen(unet(8, 32), unet(12, 32), seed=0)
    with pytest.raises(ValueError, match="other layers"):
        widen(unet(8, 32), unet(16, 32, layers=2), seed=0)
    with pytest.raises(ValueError, match="coarser levels"):
        widen(unet(8, 32), unet(16, 64), seed=0)
