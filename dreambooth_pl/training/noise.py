"""Noise of training samples: what is added to latents, keyed by sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sample_noise(
    shape: Sequence[int], offset: float, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sample the noise of one training sample, and the noise of its VAE posterior.

    With an offset, each channel is shifted, at all places alike, by `offset` standard deviations
    times a random number (offset noise; Guttenberg, Diffusion with Offset Noise, 2023,
    https://www.crosslabs.org/blog/diffusion-with-offset-noise). Plain noise leaves the mean of a
    latent readable at every timestep, so that a network need not learn it.

    Args:
        shape: of the latent, [C, h, w].
        offset: strength of the shift; 0 for plain noise.
        rng: of the sample.

    Returns:
        Noise and posterior noise, each [C, h, w], on the CPU.
    """
    noise, posterior = torch.randn((2, *shape), generator=rng)
    if offset:
        noise = noise + offset * torch.randn((shape[0], 1, 1), generator=rng)
    return noise, posterior
