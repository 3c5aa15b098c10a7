"""A wider UNet that begins as what a narrower one has learnt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from dreambooth_pl.randomness import stable_hash

SPREAD = 0.05
"""Noise on each matrix, in parts of its deviation: copies that are exactly alike would get the same
gradients and stay alike for ever."""


def widen(narrow: UNet2DConditionModel, wide: UNet2DConditionModel, seed: int) -> None:
    """Write the weights of `narrow` into `wide`, whose finest level has k times the channels.

    Each of the finest level's channels becomes k copies, and what reads them takes a k-th of each,
    as in Net2Net (1511.05641). The function is kept but for two normalisations over channels of
    both levels, whose groups fall otherwise, and for a shortcut's convolution where the wide
    network has as many channels before as after it and so none: a few hundred steps mend
    that.

    Raises:
        ValueError: if the networks differ in anything else.
    """
    inner, *coarser = narrow.config.block_out_channels
    outer, *others = wide.config.block_out_channels
    if coarser != others:
        raise ValueError(f"coarser levels of {coarser} channels cannot become {others}")
    if outer % inner:
        raise ValueError(f"{outer} channels are no multiple of {inner}")
    source, target = narrow.state_dict(), wide.state_dict()
    lost = source.keys() - target.keys()
    if target.keys() - source.keys() or any("conv_shortcut" not in name for name in lost):
        raise ValueError("the networks have other layers: only the finest level's width may differ")
    generator = torch.Generator().manual_seed(stable_hash(seed, "text-to-image", "widen"))
    for name, there in target.items():
        here = source[name].float()
        if name == "time_embedding.linear_1.weight":
            here = _frequencies(here, outer // inner)
        else:
            here = _repeated(here, there.shape, inner, outer // inner)
        assert here.shape == there.shape, (name, here.shape, there.shape)
        if here.ndim > 1:
            noise = torch.randn(here.shape, generator=generator)
            here = here + SPREAD * here.std() * noise
        there.copy_(here)


def _repeated(weight: Tensor, shape: Sequence[int], inner: int, times: int) -> Tensor:
    """The weight [out, in, ...], the finest level's channels repeated where `shape` asks for it.

    Where channels of a coarser level come before the finest level's, only the latter are repeated.
    """
    for dim in range(min(weight.ndim, 2)):
        size = weight.shape[dim]
        if size == shape[dim]:
            continue
        kept = 0 if size * times == shape[dim] else size - inner
        first, last = weight.split([kept, size - kept], dim)
        last = last.repeat_interleave(times, dim)
        weight = torch.cat([first, last / times if dim == 1 else last], dim)
    return weight


def _frequencies(weight: Tensor, times: int) -> Tensor:
    """The timestep embedding's first matrix for `times` as many sinusoids.

    Of the finer row of frequencies every `times`-th is one of the old; the others start unread.
    """
    out, size = weight.shape
    wide = weight.new_zeros(out, 2, size // 2, times)
    wide[..., 0] = weight.view(out, 2, size // 2)
    return wide.reshape(out, size * times)
