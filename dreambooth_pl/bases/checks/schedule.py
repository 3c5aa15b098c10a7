"""A scheduler's config is complete and of a kind that we know, or it is refused.

diffusers' classes have a default for every key that a config lacks, and they read configs of other
classes. A base then trains on another noise schedule than its own, without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dreambooth_pl.bounds import Bounds
from dreambooth_pl.errors import UserError

_DISCRETE = frozenset(
    {
        "DDIMInverseScheduler",
        "DDIMParallelScheduler",
        "DDIMScheduler",
        "DDPMParallelScheduler",
        "DDPMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSDEScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "SASolverScheduler",
        "UniPCMultistepScheduler",
    }
)
"""Samplers on DDPM's schedule. Without `prediction_type` they mean the noise: so it was before
there was such a key, and the published config of Stable Diffusion 1.5 has none."""
_FLOW = frozenset({"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"})
_DISTILLED = frozenset({"LCMScheduler", "TCDScheduler"})
_BETAS = ("beta_start", "beta_end", "beta_schedule")
_STEPS = Bounds(1, 100_000)
_BETA = Bounds(0, 1, open_low=True, open_high=True)
_SHIFT = Bounds(0, 1000, open_low=True)


def check_schedule(config: Mapping[str, Any], name: str) -> None:
    """Check the config of a base's scheduler.

    Args:
        config: as it stands in the base.
        name: of the base, for messages.

    Raises:
        UserError: the class is unknown or of a distilled model, or a key is missing or nonsense.
    """
    class_name = str(config.get("_class_name", ""))
    flow = class_name in _FLOW or bool(config.get("use_flow_sigmas"))
    where = f"model.base: the scheduler of {name!r}"
    if class_name in _DISTILLED:
        raise UserError(
            f"{where} is {class_name}, that of a distilled model, which makes images in a few "
            "steps and loses that when it is trained. Take the model that it was distilled from."
        )
    if class_name not in _DISCRETE | _FLOW:
        raise UserError(
            f"{where} is {class_name or 'of no class'}; its noise schedule is not known here. Is "
            "scheduler/scheduler_config.json the base's own? Otherwise take another base."
        )
    if config.get("timestep_type", "discrete") != "discrete":
        raise UserError(
            f"{where} has continuous timesteps (EDM), which cannot be trained; take another base."
        )
    keys = ["num_train_timesteps"]
    if flow:
        keys.append("flow_shift" if "flow_shift" in config else "shift")
    elif config.get("trained_betas") is None:
        keys += _BETAS
    missing = [key for key in keys if config.get(key) is None]
    if missing:
        raise UserError(
            f"{where} lacks {', '.join(missing)}; without them its noise schedule is not known. "
            "Copy scheduler/scheduler_config.json from the model that it was made from."
        )
    for key in keys:
        bounds = _STEPS if key == "num_train_timesteps" else _SHIFT if "shift" in key else _BETA
        if key != "beta_schedule":
            bounds.check(f"{where}: {key}", config[key], whole=bounds is _STEPS)
