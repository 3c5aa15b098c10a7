import pytest
import torch
from diffusers import DDPMScheduler

from dreambooth_pl.bases.objectives import add_noise, snr, training_target


@pytest.fixture()
def scheduler() -> DDPMScheduler:
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


@pytest.fixture()
def sample() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    latents, noise = torch.randn((2, 5, 4, 8, 8), generator=rng)
    return latents, noise, torch.tensor([0, 1, 500, 998, 999])


def test_add_noise_equals_diffusers(scheduler, sample):
    latents, noise, timesteps = sample
    ours = add_noise(latents, noise, timesteps, scheduler.alphas_cumprod)
    torch.testing.assert_close(
        ours, scheduler.add_noise(latents, noise, timesteps), rtol=0, atol=1e-6
    )


def test_targets_equal_diffusers(scheduler, sample):
    latents, noise, timesteps = sample
    alphas = scheduler.alphas_cumprod
    assert training_target("epsilon", latents, noise, timesteps, alphas) is noise
    velocity = training_target("v_prediction", latents, noise, timesteps, alphas)
    expected = scheduler.get_velocity(latents, noise, timesteps)
    torch.testing.assert_close(velocity, expected, rtol=0, atol=1e-6)


def test_velocity_and_noisy_latents_give_back_the_latents(scheduler, sample):
    latents, noise, timesteps = sample
    alphas = scheduler.alphas_cumprod
    noisy = add_noise(latents, noise, timesteps, alphas)
    velocity = training_target("v_prediction", latents, noise, timesteps, alphas)
    alpha = alphas[timesteps].view(-1, 1, 1, 1)
    restored = alpha.sqrt() * noisy - (1 - alpha).sqrt() * velocity
    torch.testing.assert_close(restored, latents, rtol=1e-4, atol=1e-4)


def test_snr_is_the_ratio_of_squared_scales(scheduler):
    timesteps = torch.tensor([3, 700])
    one, zero = torch.ones(2, 1), torch.zeros(2, 1)
    signal = add_noise(one, zero, timesteps, scheduler.alphas_cumprod)
    scale = add_noise(zero, one, timesteps, scheduler.alphas_cumprod)
    expected = (signal / scale).square().flatten()
    torch.testing.assert_close(snr(timesteps, scheduler.alphas_cumprod), expected)


def test_each_sample_has_its_own_timestep(scheduler, sample):
    latents, noise, timesteps = sample
    alphas = scheduler.alphas_cumprod
    whole = add_noise(latents, noise, timesteps, alphas)
    for i in range(len(timesteps)):
        part = slice(i, i + 1)
        single = add_noise(latents[part], noise[part], timesteps[part], alphas)
        assert torch.equal(whole[part], single)
