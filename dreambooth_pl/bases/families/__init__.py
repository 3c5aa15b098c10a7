"""The families of base models, one file each."""

from dreambooth_pl.bases.families.family import Family, is_text_encoder
from dreambooth_pl.bases.families.stable_diffusion import StableDiffusion
from dreambooth_pl.bases.families.stable_diffusion_3 import StableDiffusion3
from dreambooth_pl.bases.families.stable_diffusion_xl import StableDiffusionXL

FAMILIES: dict[str, Family] = {
    family.pipeline_class: family
    for family in (
        StableDiffusion(),
        StableDiffusionXL(),
        StableDiffusion3(),
    )
}
"""Families by the class name of their diffusers pipeline."""

__all__ = ["FAMILIES", "Family", "is_text_encoder"]
