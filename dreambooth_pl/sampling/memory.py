"""The memory that generating images takes, told before it starts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.conditioning import MicroConditioning
from dreambooth_pl.memory.check import check_memory
from dreambooth_pl.memory.traced import traced_peak
from dreambooth_pl.sampling.settings import SamplingSettings

_DENOISER_MAPS = 60
_VAE_MAPS = 12
"""Feature maps of the first layer's size that denoiser and VAE hold at most. Those of Stable
Diffusion 1.5, XL and 3 hold 14 to 27, and their VAE 6."""


def generation_bound(base: Base, settings: SamplingSettings) -> int:
    """Return bytes that generating a batch surely does not exceed, without counting."""
    side, size = _side_and_size(base, settings)
    rows = size * (2 if settings.guidance_scale > 1 else 1)
    cells = (side // base.vae_scale_factor) ** 2
    maps = rows * cells * first_width(base.denoiser) * _DENOISER_MAPS
    pixels = size * side**2 * first_width(base.vae) * _VAE_MAPS
    return 4 * max(maps, pixels)


def generation_peak(base: Base, settings: SamplingSettings) -> int:
    """Return the bytes that generating a batch takes at most, beside the weights.

    Args:
        base: on the CPU.
        settings: a batch size `auto` counts as 1: it is measured, and grows while there is memory.

    Raises:
        RuntimeError: it cannot be counted; see `traced_peak`.
    """
    side, size = _side_and_size(base, settings)
    rows = size * (2 if settings.guidance_scale > 1 else 1)
    channels, cells = base.denoiser.config.in_channels, side // base.vae_scale_factor

    def denoise() -> None:
        with torch.no_grad():
            predict_anything(base, rows, (side, side))

    def decode() -> None:
        base.decode_latents(torch.empty(size, channels, cells, cells))

    networks = list(base.modules.values())
    return max(traced_peak(networks, work) for work in (denoise, decode))


def check_generation(
    base: Base, settings: SamplingSettings, device: torch.device, remedy: str
) -> str | None:
    """Check that generating a batch fits into memory; return a note if it just may not.

    Args:
        base: on the CPU.
        settings: resolution, guidance and batch size matter.
        device: where the images will be generated.
        remedy: a sentence that names what to lower.

    Raises:
        OutOfMemoryError: it evidently does not fit.
    """
    side, size = _side_and_size(base, settings)
    weights = 0 if device.type == "cpu" else weight_bytes(base)
    images = "1 image" if size == 1 else f"{size} images at once"
    return check_memory(
        weights + generation_bound(base, settings),
        lambda: weights + generation_peak(base, settings),
        device,
        f"Generating {images} of {side} x {side} px",
        remedy,
    )


def check_kept_images(count: int, side: int, remedy: str) -> None:
    """Check that images fit into the CPU's memory all at once.

    Args:
        count: number of images.
        side: of each in pixels.
        remedy: a sentence that names what to lower.

    Raises:
        OutOfMemoryError: they evidently do not.
    """
    size = 3 * count * side**2
    what = f"Keeping {count} images of {side} x {side} px"
    check_memory(size, lambda: size, torch.device("cpu"), what, remedy)


def predict_anything(
    base: Base, rows: int, size: tuple[int, int], distinct_prompts: int = 1
) -> Tensor:
    """Return the denoiser's prediction [rows, C, h, w] for inputs that matter by their shapes only.

    Args:
        base: with or without adapters.
        rows: samples in the batch.
        size: height and width of the pictures in pixels.
        distinct_prompts: how many prompts are encoded.
    """
    cells = [side // base.vae_scale_factor for side in size]
    prompts = base.encode_prompts(["a"] * distinct_prompts)
    prompts = prompts.select([row % distinct_prompts for row in range(rows)])
    added = base.micro_conditioning([MicroConditioning.whole(size)] * rows)
    noisy = torch.empty(rows, base.denoiser.config.in_channels, *cells)
    timesteps = torch.zeros(rows, dtype=torch.long)
    return base.predict(noisy, timesteps, prompts.with_added(added))


def first_width(network: nn.Module) -> int:
    """Return the channels of a network's first layer, those of its maps at the largest size."""
    return next(network.parameters()).shape[0]


def weight_bytes(base: Base) -> int:
    """Return the bytes of all weights."""
    tensors = [p for network in base.modules.values() for p in network.parameters()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _side_and_size(base: Base, settings: SamplingSettings) -> tuple[int, int]:
    size = 1 if settings.batch_size == "auto" else settings.batch_size
    return settings.resolution or base.resolution, size
