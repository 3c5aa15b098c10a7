"""How images are generated: sampler, guidance, adapter strengths, batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from dreambooth_pl.bounds import Bounds, check_values
from dreambooth_pl.errors import UserError

Scheduler = Literal["dpm++", "dpm++_karras", "unipc", "ddim", "euler", "euler_a", "pndm", "ddpm"]
Autocast = Literal["bfloat16"]
"""What sampling may be computed in instead of the weights' own type."""
AUTOCAST = get_args(Autocast)
SCHEDULERS = get_args(Scheduler)
# What people and other programs also call them.
_ALIASES = {
    "dpmpp": "dpm++",
    "dpm++_2m": "dpm++",
    "dpm++_2m_karras": "dpm++_karras",
    "euler_ancestral": "euler_a",
    "plms": "pndm",
}
_Steps = Annotated[int, Bounds(1, 1000, too_high="too many", remedy="25 to 50 are usual.")]
_Guidance = Annotated[float, Bounds(0, 100, remedy="5 to 10 is usual; 1 is no guidance.")]
_BatchSize = Annotated[int, Bounds(1, 512)]
_Pixels = Annotated[int, Bounds(8, 4096)]
LORA_SCALE = Bounds(0, 10, remedy="1 is as trained, 0 is the untuned base.")
_Scale = Annotated[float, LORA_SCALE]


@dataclass(frozen=True)
class SamplingSettings:
    """How images are generated.

    Raises:
        UserError: a value is out of its bounds or unknown.
    """

    num_inference_steps: _Steps = 25
    """Denoising steps per image."""
    guidance_scale: _Guidance = 6.4
    """Weight of classifier-free guidance; up to 1 there is no guidance."""
    scheduler: Scheduler = "dpm++"
    """Sampler."""
    lora_scale_unet: _Scale = 0.4
    """Strength of the UNet's adapters: 1 is as trained, 0 is the untuned base."""
    lora_scale_text_encoder: _Scale = 0.4
    """Strength of the text encoder's adapters, if they were trained: 1 is as trained."""
    negative_prompt: str = ""
    """What images should not show; needs guidance."""
    batch_size: _BatchSize | Literal["auto"] = 8
    """Images generated at once; less needs less memory. Batches that are not full cost as much.
    auto: the number with which this machine is fastest, measured at the first use."""
    resolution: _Pixels | None = None
    """Side of the images in pixels, a multiple of 8; null for the base's own."""
    autocast: Autocast | None = None
    """What the denoising steps are computed in: null for the type that the weights are held in,
    bfloat16 for less exact and, where the processor has instructions for it, faster sampling."""

    def __post_init__(self) -> None:
        check_values(type(self), self, "sampling")
        if self.resolution is not None and self.resolution % 8:
            raise UserError(f"sampling.resolution: {self.resolution} px is not a multiple of 8.")


def negative_note(settings: SamplingSettings) -> str | None:
    """Return a line if there is a negative prompt but no guidance, which alone uses it."""
    if not settings.negative_prompt or settings.guidance_scale > 1:
        return None
    return (
        f"the negative prompt has no effect: the guidance scale is {settings.guidance_scale:g}; "
        "set it above 1"
    )


def scheduler_name(text: str) -> str:
    """Return our name of a scheduler as people type it.

    Raises:
        UserError: it is none of those known.

    >>> scheduler_name("Euler-a")
    'euler_a'
    """
    name = text.strip().lower().replace("-", "_").replace(" ", "_")
    name = _ALIASES.get(name, name)
    if name not in SCHEDULERS:
        raise UserError(f"--scheduler: {text!r} is not one of {', '.join(SCHEDULERS)}.")
    return name
