"""The forward process and what the network is trained to predict. Pure functions, per sample.

Notation of DDPM (arXiv 2006.11239, eq. 4): x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e, with a_t the
cumulative product `alphas_cumprod` [T] and e standard normal noise.
"""

from __future__ import annotations

from torch import Tensor


def signal_and_noise_scale(
    timesteps: Tensor, alphas_cumprod: Tensor, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Return sqrt(a_t) and sqrt(1 - a_t) of `timesteps` [B], shaped to multiply `like` [B, ...]."""
    shape = (-1,) + (1,) * (like.ndim - 1)
    alphas = alphas_cumprod.to(timesteps.device)[timesteps].to(like.device, like.dtype).view(shape)
    return alphas.sqrt(), (1 - alphas).sqrt()


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return x_t (DDPM eq. 4) of latents and noise [B, C, H, W] at integer timesteps [B].

    >>> import torch
    >>> one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    >>> add_noise(one, zero, torch.tensor([0]), torch.tensor([0.25])).item()
    0.5
    """
    signal, scale = signal_and_noise_scale(timesteps, alphas_cumprod, latents)
    return signal * latents + scale * noise


def training_target(
    prediction_type: str, latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    """Return what the network should predict, [B, C, H, W].

    `epsilon`: the noise. `v_prediction`: v = sqrt(a_t) e - sqrt(1 - a_t) x_0 (arXiv 2202.00512,
    appendix D).
    """
    if prediction_type == "epsilon":
        return noise
    assert prediction_type == "v_prediction", f"unknown prediction type {prediction_type!r}"
    signal, scale = signal_and_noise_scale(timesteps, alphas_cumprod, latents)
    return signal * noise - scale * latents


def snr(timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return the signal-to-noise ratio a_t / (1 - a_t) at `timesteps` [B] (arXiv 2303.09556).

    It is 0 at the last step of a schedule with zero terminal signal.

    >>> import torch
    >>> snr(torch.tensor([0, 1]), torch.tensor([0.75, 0.5]))
    tensor([3., 1.])
    """
    alphas = alphas_cumprod.to(timesteps.device)[timesteps]
    return alphas / (1 - alphas)
