import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from dreambooth_pl.bases.objectives import (
    DiscreteSchedule,
    EpsilonPrediction,
    FlowMatching,
    VPrediction,
    read_objective,
)
from dreambooth_pl.errors import UserError
from dreambooth_pl.randomness import generator

SNR = torch.tensor([0.5, 2.0, 10.0, 20.0])
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


@pytest.fixture()
def scheduler() -> DDPMScheduler:
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


@pytest.fixture()
def epsilon(scheduler) -> EpsilonPrediction:
    return EpsilonPrediction(scheduler.config)


@pytest.fixture()
def velocity(scheduler) -> VPrediction:
    return VPrediction(scheduler.config)


@pytest.fixture()
def flow() -> FlowMatching:
    return FlowMatching(FLOW)


@pytest.fixture()
def sample() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    latents, noise = torch.randn((2, 5, 4, 8, 8), generator=rng)
    return latents, noise, torch.tensor([0, 1, 500, 998, 999])


def with_snr(objective: DiscreteSchedule) -> torch.Tensor:
    """Give an objective a schedule of the ratios in `SNR`; return its timesteps."""
    objective.alphas_cumprod = SNR / (1 + SNR)
    return torch.arange(len(SNR))


def test_add_noise_equals_diffusers(scheduler, epsilon, sample):
    latents, noise, timesteps = sample
    ours = epsilon.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(
        ours, scheduler.add_noise(latents, noise, timesteps), rtol=0, atol=1e-6
    )


def test_targets_equal_diffusers(scheduler, epsilon, velocity, sample):
    latents, noise, timesteps = sample
    assert epsilon.target(latents, noise, timesteps) is noise
    expected = scheduler.get_velocity(latents, noise, timesteps)
    torch.testing.assert_close(velocity.target(*sample), expected, rtol=0, atol=1e-6)


def test_velocity_and_noisy_latents_give_back_the_latents(scheduler, velocity, sample):
    latents, _, timesteps = sample
    noisy, target = velocity.add_noise(*sample), velocity.target(*sample)
    alpha = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    restored = alpha.sqrt() * noisy - (1 - alpha).sqrt() * target
    torch.testing.assert_close(restored, latents, rtol=1e-4, atol=1e-4)


def test_snr_is_the_ratio_of_squared_scales(epsilon):
    timesteps = torch.tensor([3, 700])
    one, zero = torch.ones(2, 1), torch.zeros(2, 1)
    signal = epsilon.add_noise(one, zero, timesteps)
    scale = epsilon.add_noise(zero, one, timesteps)
    expected = (signal / scale).square().flatten()
    torch.testing.assert_close(epsilon.snr(timesteps), expected)


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
def test_each_sample_has_its_own_timestep(kind, request, sample):
    objective = request.getfixturevalue(kind)
    latents, noise, timesteps = sample
    whole = objective.add_noise(latents, noise, timesteps)
    for i in range(len(timesteps)):
        part = slice(i, i + 1)
        single = objective.add_noise(latents[part], noise[part], timesteps[part])
        assert torch.equal(whole[part], single)


def test_min_snr_weights_by_hand(epsilon, velocity):
    # epsilon: min(snr, 5) / snr; v: min(snr, 5) / (snr + 1)
    weights = epsilon.min_snr_weight(with_snr(epsilon), 5.0)
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.0, 0.5, 0.25]))
    expected = torch.tensor([0.5 / 1.5, 2.0 / 3.0, 5.0 / 11.0, 5.0 / 21.0])
    torch.testing.assert_close(velocity.min_snr_weight(with_snr(velocity), 5.0), expected)


def test_min_snr_weights_are_finite_without_signal(epsilon, velocity):
    for objective, expected in ((epsilon, 1.0), (velocity, 0.0)):
        objective.alphas_cumprod = torch.zeros(1)
        assert objective.min_snr_weight(torch.tensor([0]), 5.0).item() == expected


def test_flow_by_hand(flow):
    # s = 250 / 1000: x_t = 3/4 * 8 + 1/4 * 4; v = 4 - 8
    latents, noise = torch.full((1, 1, 1, 1), 8.0), torch.full((1, 1, 1, 1), 4.0)
    timesteps = torch.tensor([250.0])
    assert flow.add_noise(latents, noise, timesteps).item() == 7.0
    assert flow.target(latents, noise, timesteps).item() == -4.0
    # SNR = (3/4 / 1/4)^2 = 9: with gamma 5 the weight is 5 * (1/4)^2, with 16 it is 9 * (1/4)^2
    assert flow.min_snr_weight(timesteps, 5.0).item() == pytest.approx(5 / 16)
    assert flow.min_snr_weight(timesteps, 16.0).item() == pytest.approx(9 / 16)
    assert flow.min_snr_weight(torch.tensor([1000.0]), 5.0).item() == 0.0


def test_flow_noises_as_diffusers(flow, sample):
    latents, noise, _ = sample
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(FLOW)
    timesteps = scheduler.timesteps[[0, 10, 500, 900, 999]]
    expected = scheduler.scale_noise(latents, timesteps, noise)
    ours = flow.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_flow_timesteps_are_shifted_logit_normal(flow):
    drawn = [flow.sample_timesteps(generator(0, "t", index)) for index in range(4000)]
    s = torch.cat(drawn).double() / 1000
    assert s.min() > 0 and s.max() < 1
    # undo the shift: u = s / (3 - 2 s); its logit is standard normal
    logit = (s / (3 - 2 * s)).logit()
    assert abs(logit.mean()) < 0.05 and abs(logit.std() - 1) < 0.05
    quarters = (
        torch.distributions.Normal(0.0, 1.0)
        .cdf(logit)
        .quantile(torch.tensor([0.25, 0.75]).double())
    )
    torch.testing.assert_close(quarters.float(), torch.tensor([0.25, 0.75]), rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"_class_name": "PNDMScheduler"}, EpsilonPrediction),
        (
            {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"},
            VPrediction,
        ),
        (FLOW, FlowMatching),
        (
            {
                "_class_name": "DPMSolverMultistepScheduler",
                "use_flow_sigmas": True,
                "num_train_timesteps": 1000,
                "flow_shift": 3.0,
            },
            FlowMatching,
        ),
    ],
)
def test_a_schedulers_config_tells_the_objective(config, expected):
    assert type(read_objective(config, (DiscreteSchedule, FlowMatching), "base")) is expected


@pytest.mark.parametrize(
    ("config", "known", "message"),
    [
        ({"prediction_type": "sample"}, (DiscreteSchedule,), "'sample'; only epsilon and v_pred"),
        (FLOW, (DiscreteSchedule,), "'flow'; only epsilon and v_prediction can"),
        ({"prediction_type": "epsilon"}, (FlowMatching,), "'epsilon'; only flow can"),
        (FLOW | {"use_dynamic_shifting": True}, (FlowMatching,), "use_dynamic_shifting"),
        ({"beta_schedule": "wavy"}, (DiscreteSchedule,), "cannot be read: wavy"),
    ],
)
def test_other_objectives_are_refused(config, known, message):
    with pytest.raises(UserError, match=message):
        read_objective(config, known, "base")


def test_samplers_have_the_bases_schedule(epsilon, flow):
    euler = epsilon.sampler("euler")
    assert isinstance(euler, EulerDiscreteScheduler)
    assert torch.equal(euler.alphas_cumprod, epsilon.alphas_cumprod)
    euler = flow.sampler("euler")
    assert isinstance(euler, FlowMatchEulerDiscreteScheduler) and euler.config.shift == 3.0
    solver = flow.sampler("dpm++")
    assert isinstance(solver, DPMSolverMultistepScheduler)
    solver.set_timesteps(10)
    euler.set_timesteps(10)
    # both walk the shifted path, s = 3 u / (1 + 2 u), down from noise
    s = solver.sigmas[:-1].double()
    u = s / (3 - 2 * s)
    steps = u.diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match="sampling.scheduler: 'ddim' does not fit .* euler, dpm"):
        flow.sampler("ddim")
