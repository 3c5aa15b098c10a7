"""Names of a UNet's layers in the original layout of Stable Diffusion's checkpoints (LDM, sgm).

The layout numbers blocks consecutively. `input_blocks.0` is the first convolution. Each residual
block with its attention has a number of its own, and so has each downsampler. `output_blocks` are
numbered likewise, except that an upsampler is the last part of a block. Within an attention block,
both layouts use the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OUTSIDE_BLOCKS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_IN_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


class UNetNames:
    """Translates diffusers' names of one UNet to the original layout.

    Args:
        config: the UNet's config, of which block types and layers per block are read.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._parts = dict(_OUTSIDE_BLOCKS)
        downs, ups = config["down_block_types"], config["up_block_types"]
        layers = config["layers_per_block"]
        number = 1
        for block, kind in enumerate(downs):
            for layer in range(layers):
                self._block(f"down_blocks.{block}", kind, layer, f"input_blocks.{number}")
                number += 1
            if block < len(downs) - 1:
                self._parts[f"down_blocks.{block}.downsamplers.0.conv"] = (
                    f"input_blocks.{number}.0.op"
                )
                number += 1
        number = 0
        for block, kind in enumerate(ups):
            for layer in range(layers + 1):
                self._block(f"up_blocks.{block}", kind, layer, f"output_blocks.{number}")
                if layer == layers and block < len(ups) - 1:
                    part = 2 if _has_attention(kind) else 1
                    self._parts[f"up_blocks.{block}.upsamplers.0.conv"] = (
                        f"output_blocks.{number}.{part}.conv"
                    )
                number += 1

    def __call__(self, name: str) -> str:
        """Return the original name of a layer or parameter.

        Args:
            name: diffusers' name.

        Raises:
            KeyError: the original layout has no such layer.
        """
        words = name.split(".")
        for length in range(len(words), 0, -1):
            start, rest = ".".join(words[:length]), words[length:]
            if start not in self._parts:
                continue
            if rest and ".resnets." in start:
                rest[0] = _IN_RESNET[rest[0]]
            return ".".join([self._parts[start], *rest])
        raise KeyError(name)

    def _block(self, diffusers: str, kind: str, layer: int, original: str) -> None:
        self._parts[f"{diffusers}.resnets.{layer}"] = f"{original}.0"
        if _has_attention(kind):
            self._parts[f"{diffusers}.attentions.{layer}"] = f"{original}.1"


def _has_attention(block_type: str) -> bool:
    return "CrossAttn" in block_type
