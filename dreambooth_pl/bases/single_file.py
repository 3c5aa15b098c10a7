"""A base in one `.safetensors` file, as model sites offer them. No network, no config to give.

diffusers' `from_single_file` converts the weights; the configs that it would look for on the hub
are worked out from the file (`single_file_config`) and handed to it.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError, safe_open

from dreambooth_pl.bases.families import FAMILIES
from dreambooth_pl.bases.folder import HALF, Parts, without_progress_bars, without_warnings
from dreambooth_pl.bases.single_file_config import (
    SD2,
    UNET,
    CheckpointKind,
    Shapes,
    checkpoint_kind,
    scheduler_config,
    write_configs,
)
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.plain_yaml import YAMLError, load_yaml

log = logging.getLogger(__name__)

CONFIGS = "dreambooth_pl.configs"
"""Key of the header under which our exports keep the configs of their parts, as JSON."""
SUFFIX = ".safetensors"
_REMEDY = "Give a Stable Diffusion 1.x, 2.x or XL checkpoint, or a diffusers folder."


@dataclass(frozen=True)
class _Header:
    """What a safetensors file says of itself before any weight is read."""

    shapes: Shapes
    dtype: torch.dtype
    """Of most of the UNet's tensors, if half precision; float32 otherwise."""
    metadata: dict[str, str]

    @property
    def configs(self) -> Mapping[str, dict[str, Any]]:
        """The configs of the parts, by component, in a file that we have exported; else none."""
        try:
            configs = json.loads(self.metadata.get(CONFIGS, "{}"))
        except json.JSONDecodeError:
            return {}
        if not isinstance(configs, dict):
            return {}
        return {name: config for name, config in configs.items() if isinstance(config, dict)}


def read_checkpoint(path: Path, as_stored: bool) -> Parts:
    """Read a base from one checkpoint file in the layout of the original code.

    Args:
        path: a `.safetensors` file.
        as_stored: leave weights that are stored in half precision so; otherwise all are float32.

    Raises:
        UserError: it is not readable, not a checkpoint of a known version, or lacks weights.
    """
    if path.suffix.lower() != SUFFIX:
        raise UserError(
            f"model.base: {str(path)!r} is no .safetensors file. Pickled checkpoints (.ckpt) can "
            "run any code when they are opened; take or make the .safetensors version."
        )
    header = _read_header(path)
    kind = checkpoint_kind(header.shapes)
    if isinstance(kind, str):
        raise UserError(f"model.base: {str(path)!r} {kind}. {_REMEDY}")
    if any(name.startswith("model_ema.") for name in header.shapes):
        log.warning(
            "%s holds averaged (EMA) weights as well; those that training goes on from are used.",
            path,
        )
    told = header.configs.get("scheduler") or _told_schedule(path, header)
    schedule = told or {"prediction_type": "epsilon"}
    dtype = header.dtype if as_stored else torch.float32
    pipeline = _load(path, kind, header, schedule, dtype)
    if told is None and kind is SD2 and not predicts_noise(pipeline.unet):
        del pipeline  # not the prediction alone: the UNet's native resolution is another one, too
        schedule = {"prediction_type": "v_prediction"}
        pipeline = _load(path, kind, header, schedule, dtype)
    family = FAMILIES[kind.pipeline_class]
    return Parts(
        family=family,
        vae=torch.nn.Module.float(pipeline.vae),
        denoiser=pipeline.unet,
        text_encoders=[getattr(pipeline, name) for name in family.text_encoders],
        tokenizers=[getattr(pipeline, name) for name in family.tokenizers],
        scheduler_config=scheduler_config(kind, schedule),
        zeros_for_empty_prompt=family.can_zero_empty_prompt,
    )


def _read_header(path: Path) -> _Header:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            slices = {name: file.get_slice(name) for name in names}
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            types = Counter(slices[name].get_dtype() for name in names if name.startswith(UNET))
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"model.base: {str(path)!r} is not a readable safetensors file ({error}). Is the "
            "download complete?"
        ) from error
    most = types.most_common(1)[0][0] if types else ""
    return _Header(shapes, HALF.get(most, torch.float32), metadata)


def _told_schedule(path: Path, header: _Header) -> dict[str, Any] | None:
    """Return what the checkpoint tells of its noise schedule; None if it tells nothing.

    It is told by the modelspec standard's metadata, by empty tensors called `v_pred` and `ztsnr`,
    or by the original code's config of the same name beside the file. Stable Diffusion 1 and XL
    predict noise unless they say otherwise, but many files of version 2 say nothing.
    """
    kind = header.metadata.get("modelspec.prediction_type", "").lower()
    config = path.with_suffix(".yaml")
    if "v_pred" in header.shapes:
        kind = "v"
    elif not kind and config.is_file():
        try:
            content = load_yaml(config.read_text(encoding="utf-8"))
            kind = content["model"]["params"].get("parameterization", "epsilon")
        except (OSError, ValueError, YAMLError, KeyError, TypeError, AttributeError):
            kind = ""  # some other YAML
    if not kind:
        return None
    schedule: dict[str, Any] = {
        "prediction_type": "v_prediction" if kind.startswith("v") else "epsilon"
    }
    if "ztsnr" in header.shapes:
        schedule["rescale_betas_zero_snr"] = True
    return schedule


@torch.no_grad()
def predicts_noise(unet: UNet2DConditionModel) -> bool:
    """Return whether a trained UNet predicts noise rather than v, by what it makes of pure noise.

    At the last timestep the input is noise but for a few hundredths. Who predicts the noise returns
    about the input (share 1); v = sqrt(a) noise - sqrt(1 - a) image holds little of it (sqrt(a) is
    0.07).
    """
    config = unet.config
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn((1, config.in_channels, 32, 32), generator=rng)
    states = torch.zeros(1, 77, config.cross_attention_dim)
    dtype = unet.conv_in.weight.dtype
    prediction = unet(noise.to(dtype), 999, states.to(dtype)).sample.float()
    return bool((prediction * noise).sum() / noise.square().sum() > 0.5)


def _load(
    path: Path,
    kind: CheckpointKind,
    header: _Header,
    schedule: dict[str, Any],
    dtype: torch.dtype,
) -> diffusers.DiffusionPipeline:
    """Let diffusers convert the file.

    Raises:
        UserError: it cannot, or weights are missing.
    """
    pipeline_class = getattr(diffusers, kind.pipeline_class)
    with TemporaryDirectory() as name, without_progress_bars(), without_warnings():
        try:
            write_configs(Path(name), kind, header.shapes, schedule, header.configs)
            file = path
            if path.suffix != SUFFIX:  # diffusers takes a file with a name in capitals for a pickle
                file = Path(name) / f"checkpoint{SUFFIX}"
                file.symlink_to(path.absolute())
            pipeline = pipeline_class.from_single_file(
                str(file), config=name, local_files_only=True, torch_dtype=dtype
            )
        except Exception as error:  # other layouts fail in many ways
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise UserError(
                f"model.base: {str(path)!r} looks like {kind.title} but cannot be read as such "
                f"({reason}). {_REMEDY}"
            ) from error
    missing = [
        name
        for component in pipeline.components.values()
        if isinstance(component, torch.nn.Module)
        for name, parameter in component.named_parameters()
        if parameter.is_meta
    ]
    if missing:
        raise UserError(
            f"model.base: {str(path)!r} looks like {kind.title} but lacks {len(missing)} of its "
            f"weights, such as {missing[0]}. Is it a complete, undistilled model? {_REMEDY}"
        )
    return pipeline
