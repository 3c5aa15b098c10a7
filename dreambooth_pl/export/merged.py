"""Export of a merged model: adapters added to the base's weights at fixed scales."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import save_file

from dreambooth_pl.adapters import (
    AdapterSettings,
    adapted_layers,
    adapter_scale,
    first_not_finite,
)
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.families import is_text_encoder
from dreambooth_pl.bases.single_file import CONFIGS
from dreambooth_pl.errors import UserError
from dreambooth_pl.export.format import ExportFormat, ExportOptions
from dreambooth_pl.export.origin import Origin
from dreambooth_pl.export.original_layout import original_weights

_RELEASED_WIDTH = 320


class MergedFormat(ExportFormat):
    """A model of its own: a diffusers folder, or one checkpoint file."""

    title = "merged into the base"

    def write(
        self,
        base: Base,
        settings: AdapterSettings,
        folder: Path,
        origin: Origin,
        options: ExportOptions,
    ) -> list[str]:
        """Merge the adapters at the scales of the options, and write the model."""
        with merged(base, options.unet_scale, options.text_encoder_scale):
            if options.half:
                _to_half(base)
            if options.single_file:
                write_single_file(base, folder / f"{origin.name}.safetensors", origin)
                return [f"{origin.name}.safetensors"]
            write_folder(base, folder)
            return ["."]

    def usage(self, base: Base, origin: Origin, options: ExportOptions) -> tuple[str, str]:
        """Return how diffusers loads the model, and the scales."""
        pipeline = base.rules.pipeline_class
        note = (
            f"Merged at LoRA scale {options.unet_scale:g} in the denoiser and "
            f"{options.text_encoder_scale:g} in the text encoder."
        )
        load = 'from_pretrained(".")'
        if options.single_file:
            config = ""
            if not has_released_shape(base):
                config = f', config="{origin.base}"'
                note += (
                    " Its shape is none of the released versions': programs that read only those "
                    f"cannot load it, and diffusers needs the configs of `{origin.base}`."
                )
            load = f'from_single_file("{origin.name}.safetensors"{config})'
        text = f"```python\nfrom diffusers import {pipeline}\n\npipeline = {pipeline}.{load}\n```"
        return text, note


@contextmanager
def merged(base: Base, denoiser_scale: float, text_encoder_scale: float) -> Iterator[Base]:
    """Merge the adapters into the base's weights and remove the adapter layers.

    This cannot be undone: load the base again to continue with the original weights.

    Args:
        base: the base with its adapters.
        denoiser_scale: strength of the denoiser's adapters; 1 is as trained, 0 leaves them out.
        text_encoder_scale: the same for the text encoders' adapters.

    Yields:
        The same base, merged.
    """
    with adapter_scale(base, denoiser_scale, text_encoder_scale), torch.no_grad():
        layers = list(adapted_layers(base))
        for component, _, layer in layers:
            if (text_encoder_scale if is_text_encoder(component) else denoiser_scale) != 0:
                layer.merge(safe_merge=True)
        if layers:
            base.pipeline().unload_lora_weights()
        yield base


def _to_half(base: Base) -> None:
    """Cast all weights to float16.

    Raises:
        UserError: a weight is too large for float16, whose largest number is 65,504.
    """
    for component, module in base.modules.items():
        name = first_not_finite(dict(module.to(torch.float16).named_parameters()))
        if name is not None:
            raise UserError(
                f"--half: the weights {component}.{name} are too large for float16. Leave --half "
                "out, or merge at a lower LoRA scale."
            )


def write_folder(base: Base, folder: Path) -> None:
    """Write a merged base as a diffusers pipeline folder, with the base's own noise scheduler."""
    name = base.scheduler_config.get("_class_name", "DDIMScheduler")
    scheduler = getattr(diffusers, name).from_config(base.scheduler_config)
    base.pipeline(scheduler).save_pretrained(folder)


def write_single_file(base: Base, path: Path, origin: Origin) -> None:
    """Write a merged base as one checkpoint file in the original layout."""
    weights = original_weights(base)
    configs = {name: _plain_config(module.config) for name, module in base.modules.items()}
    configs["scheduler"] = dict(base.scheduler_config)
    facts = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": base.architecture,
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": origin.name,
        "modelspec.resolution": f"{base.resolution}x{base.resolution}",
        "modelspec.prediction_type": base.objective.prediction,
        "modelspec.trigger_phrase": f"{origin.identifier} {origin.class_noun}".strip(),
        "modelspec.license": origin.licence or "",
        CONFIGS: json.dumps(configs, default=str),  # for shapes that no released version has
    }
    if base.scheduler_config.get("rescale_betas_zero_snr"):
        weights["ztsnr"] = torch.zeros(0)  # checkpoint files mark zero terminal SNR with this key
    header = {"format": "pt", **{key: value for key, value in facts.items() if value}}
    save_file(weights, path, header)


def has_released_shape(base: Base) -> bool:
    """Return whether a UNet is as wide as those of the released versions.

    Other programs know no further ones: they tell the version from a few tensors and take the rest
    for granted.
    """
    return base.denoiser.config.block_out_channels[0] == _RELEASED_WIDTH


def _plain_config(config: Any) -> dict[str, Any]:
    """Return a network's config without what says where it was loaded from."""
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return {key: value for key, value in values.items() if key != "_name_or_path"}
