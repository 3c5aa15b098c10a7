"""Training objectives of bases.

There is one small class per objective. It defines the noise schedule, the denoiser's target, the
loss weight of each timestep and the samplers that fit. A family lists the objectives that its bases
may have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from dreambooth_pl.bases.transfer import upload
from dreambooth_pl.errors import UserError

Samplers = dict[str, tuple[str, dict[str, Any]]]
"""diffusers' scheduler class and its options beyond the base's own schedule, by our name."""


class Objective(ABC):
    """The objective that a base was trained with and is fine-tuned with.

    Args:
        config: diffusers' config of the base's scheduler.
    """

    prediction: ClassVar[str]
    """The denoiser's prediction type, as named by the modelspec metadata standard."""
    samplers: ClassVar[Samplers]
    """Samplers that fit this objective."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Facts that identify the schedule, in plain types. The base's fingerprint hashes them."""

    @abstractmethod
    def sample_timesteps(self, rng: torch.Generator) -> Tensor:
        """Return the timestep of one training sample, [1], in the denoiser's unit."""

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return x_t for latents x_0 and noise e, all [B, C, H, W], at timesteps [B]."""

    @abstractmethod
    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the denoiser's target [B, C, H, W] for the arguments of `add_noise`."""

    @abstractmethod
    def min_snr_weight(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Return the min-SNR-gamma weight of each sample's loss, [B], float32.

        The weight of the squared error in x_0 is min(SNR, gamma) (arXiv 2303.09556, section 3.4).
        For other predictions it is divided by the ratio of their squared error to that in x_0.
        """

    def sampler(self, name: str) -> Any:
        """Return a diffusers scheduler with the base's own schedule.

        Args:
            name: our name of the sampler.

        Raises:
            UserError: this objective has no such sampler.
        """
        if name not in self.samplers:
            raise UserError(
                f"sampling.scheduler: {name!r} does not fit this base, which predicts "
                f"{self.prediction}; take one of {', '.join(self.samplers)}."
            )
        class_name, options = self.samplers[name]
        return getattr(diffusers, class_name).from_config(self._sampler_config(options))

    def _sampler_config(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**self.config, **options}


class DiscreteSchedule(Objective):
    """The noise schedule of DDPM (arXiv 2006.11239, eq. 4): x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e.

    The timestep t is one of T integers, and a_t is the cumulative product of 1 - beta_t.
    """

    samplers = {
        "dpm++": ("DPMSolverMultistepScheduler", {}),
        "dpm++_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        "unipc": ("UniPCMultistepScheduler", {}),
        "ddim": ("DDIMScheduler", {}),
        "euler": ("EulerDiscreteScheduler", {}),
        "euler_a": ("EulerAncestralDiscreteScheduler", {}),
        "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
        "ddpm": ("DDPMScheduler", {}),
    }

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        scheduler = DDPMScheduler.from_config(self.config)
        self.schedule = scheduler.config
        self.alphas_cumprod: Tensor = scheduler.alphas_cumprod
        """a_t, the share of signal variance at each timestep, [T]."""

    @property
    def facts(self) -> dict[str, Any]:
        """Facts that identify the schedule, as for `Objective.facts`."""
        keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
        zero_snr = bool(self.schedule.get("rescale_betas_zero_snr"))
        return {key: self.schedule[key] for key in keys} | {"zero_snr": zero_snr}

    def sample_timesteps(self, rng: torch.Generator) -> Tensor:
        """Return one of the T timesteps with uniform probability, int64 [1]."""
        return torch.randint(len(self.alphas_cumprod), (1,), generator=rng)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return sqrt(a_t) x_0 + sqrt(1 - a_t) e (arXiv 2006.11239, eq. 4)."""
        signal, scale = self._scales(timesteps, latents)
        return signal * latents + scale * noise

    def snr(self, timesteps: Tensor) -> Tensor:
        """Return the signal-to-noise ratio a_t / (1 - a_t) at timesteps [B] (arXiv 2303.09556).

        It is 0 at the last timestep of a schedule with zero terminal SNR.
        """
        alphas = self.alphas_cumprod.to(timesteps.device)[timesteps]
        return alphas / (1 - alphas)

    def _scales(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return sqrt(a_t) and sqrt(1 - a_t), shaped to multiply `like` [B, ...]."""
        alphas = self.alphas_cumprod.to(timesteps.device)[timesteps]
        alphas = upload(alphas.to(like.dtype), like.device).view(-1, *[1] * (like.ndim - 1))
        return alphas.sqrt(), (1 - alphas).sqrt()

    def _sampler_config(self, options: dict[str, Any]) -> dict[str, Any]:
        # The pipelines require these two and give a long warning for schedules without them.
        # Latents are not bounded by 1, so clipping them would be wrong.
        return super()._sampler_config({"steps_offset": 1, "clip_sample": False, **options})


class EpsilonPrediction(DiscreteSchedule):
    """The denoiser predicts the noise (arXiv 2006.11239)."""

    prediction = "epsilon"

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the noise e."""
        return noise

    def min_snr_weight(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Return min(SNR, gamma) / SNR, because the squared error in e is SNR times that in x_0.

        For an SNR of 0, this is the limit, 1.
        """
        return (gamma / self.snr(timesteps)).clamp(max=1.0)


class VPrediction(DiscreteSchedule):
    """The denoiser predicts v (arXiv 2202.00512, appendix D)."""

    prediction = "v"

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return v = sqrt(a_t) e - sqrt(1 - a_t) x_0."""
        signal, scale = self._scales(timesteps, latents)
        return signal * noise - scale * latents

    def min_snr_weight(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Return min(SNR, gamma) / (SNR + 1).

        The squared error in v is SNR + 1 times that in x_0.
        """
        snr = self.snr(timesteps)
        return snr.clamp(max=gamma) / (snr + 1)


class FlowMatching(Objective):
    """Flow matching (arXiv 2210.02747, 2403.03206) with x_t = (1 - s) x_0 + s e.

    The paths from data to noise are straight. The denoiser predicts the velocity e - x_0. Its
    timestep is t = s T, a real number in (0, T).
    """

    prediction = "flow"
    samplers = {
        "euler": ("FlowMatchEulerDiscreteScheduler", {}),
        "dpm++": ("DPMSolverMultistepScheduler", {}),
        "unipc": ("UniPCMultistepScheduler", {}),
    }

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.num_train_timesteps = int(config["num_train_timesteps"])
        self.shift = float(config.get("shift", config.get("flow_shift", 1.0)))

    @property
    def facts(self) -> dict[str, Any]:
        """Facts that identify the schedule, as for `Objective.facts`."""
        return {"num_train_timesteps": self.num_train_timesteps, "shift": self.shift}

    def sample_timesteps(self, rng: torch.Generator) -> Tensor:
        """Return t = s T, float32 [1].

        s = shift u / (1 + (shift - 1) u) as for sampling (arXiv 2403.03206, eq. 23), where u is
        logit-normal with mean 0 and standard deviation 1 (eq. 19).
        """
        u = torch.randn(1, generator=rng).sigmoid()
        return self.shift * u / (1 + (self.shift - 1) * u) * self.num_train_timesteps

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return (1 - s) x_0 + s e (arXiv 2403.03206, eq. 13)."""
        s = self._noise_share(timesteps, latents)
        return (1 - s) * latents + s * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the velocity e - x_0."""
        return noise - latents

    def min_snr_weight(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Return min(SNR, gamma) s^2, where SNR = ((1 - s) / s)^2.

        Since x_0 = x_t - s v, the error in x_0 is s times that in v.
        """
        s = timesteps.float() / self.num_train_timesteps
        return torch.minimum((1 - s) ** 2, gamma * s**2)

    def _noise_share(self, timesteps: Tensor, like: Tensor) -> Tensor:
        s = upload(timesteps.to(like.dtype), like.device) / self.num_train_timesteps
        return s.view(-1, *[1] * (like.ndim - 1))

    def _sampler_config(self, options: dict[str, Any]) -> dict[str, Any]:
        flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
        return super()._sampler_config({**flow, "flow_shift": self.shift, **options})


_DISCRETE = {"epsilon": EpsilonPrediction, "v_prediction": VPrediction}


def read_objective(
    config: Mapping[str, Any], known: tuple[type[Objective], ...], name: str
) -> Objective:
    """Return the objective that a scheduler's config describes.

    Args:
        config: config of the scheduler.
        known: objectives that bases of the family may have.
        name: name of the base, for messages.

    Raises:
        UserError: the objective is none of `known`, or the config cannot be read.
    """
    class_name = str(config.get("_class_name", ""))
    flow = class_name.startswith("FlowMatch") or config.get("use_flow_sigmas")
    prediction = "flow" if flow else config.get("prediction_type", "epsilon")
    found = FlowMatching if flow else _DISCRETE.get(prediction)
    if found is None or not issubclass(found, known):
        kinds = {**_DISCRETE, "flow": FlowMatching}
        names = [word for word, own in kinds.items() if issubclass(own, known)]
        raise UserError(
            f"model.base: {name!r} predicts {prediction!r}; only {' and '.join(names)} can be "
            "trained."
        )
    if config.get("use_dynamic_shifting"):
        raise UserError(
            f"model.base: the scheduler of {name!r} shifts its timesteps by the image's size "
            "(use_dynamic_shifting), which cannot be trained."
        )
    try:
        return found(config)
    except (NotImplementedError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"model.base: the scheduler of {name!r} cannot be read: {error}") from error
