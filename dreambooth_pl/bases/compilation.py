"""The denoiser's repeated blocks, compiled one by one.

A denoiser has the same transformer block many times over. Compiled one by one, blocks of one shape
share a compilation, where compiling the network whole would take many minutes. Blocks are compiled
in place, with the adapters inside them: names, classes and weights are what they were.
"""

from __future__ import annotations

from diffusers import ModelMixin

_SHAPES = 64  # of blocks' inputs that may be compiled; PyTorch gives up after 8


def compile_blocks(network: ModelMixin, backend: str = "inductor") -> None:
    """Let a network's repeated blocks be compiled when they are first called.

    Each shape of input is compiled for itself; calls with a known shape compile nothing.

    Args:
        network: names its repeated blocks itself.
        backend: what PyTorch compiles with.
    """
    from torch._dynamo import config  # takes a second, and few compile

    config.recompile_limit = max(config.recompile_limit, _SHAPES)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, 8 * _SHAPES)
    network.compile_repeated_blocks(dynamic=False, backend=backend)
