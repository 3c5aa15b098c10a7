"""The specification of a base: its name, version and the data type of its frozen weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FrozenDtype = Literal["float32", "bfloat16", "float16"]
"""Data type of the frozen weights of denoiser and text encoders. The VAE is always float32: in
float16 the VAE of Stable Diffusion XL overflows, and images come out black."""


@dataclass(frozen=True)
class BaseSpec:
    """Everything that `load_base` needs. Equal specs load equal bases."""

    base: str
    """Path of a diffusers folder, path of a `.safetensors` file, or `owner/name` on the hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    variant: str | None = None
    """Suffix of the weight files to load, such as `fp16`."""
    frozen_dtype: FrozenDtype = "float32"
    """Data type in which the frozen weights of denoiser and text encoders are held and computed."""
