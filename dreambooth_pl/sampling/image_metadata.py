"""The metadata of a generated image: everything needed to generate it again.

The metadata holds prompt, seed and sampling settings; base, adapters, identifier and class noun;
facts about the machine; and a hash of the pixels. Only this module writes and reads its keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

import diffusers
import torch
from PIL import Image

from dreambooth_pl.adapters import adapter_state_dict
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.spec import BaseSpec, FrozenDtype
from dreambooth_pl.bounds import Bounds, Seed
from dreambooth_pl.files.typed import Name, TypedReader, Words
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings

ADAPTER_WEIGHTS = "adapter_weights_sha256"  # metadata key
PIXELS = "pixels_sha256"  # metadata key: hash of the decoded pixels
ADAPTERS = "adapters"  # metadata key: adapter files that were used, and their weights

_SETTINGS = {  # metadata key: field of SamplingSettings
    "negative_prompt": "negative_prompt",
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "scheduler": "scheduler",
    "lora_scale_unet": "lora_scale_unet",
    "lora_scale_text_encoder": "lora_scale_text_encoder",
    "resolution": "resolution",
    "batch_size": "batch_size",
    "autocast": "autocast",
}
NEEDED = {"prompt", "seed", "base", "base_fingerprint", ADAPTER_WEIGHTS, *_SETTINGS}
"""Keys without which an image cannot be generated again."""
WEIGHT = Bounds(-10, 10)
"""Of an adapter's weight."""
_Weight = Annotated[float, WEIGHT]
_Step = Annotated[int, Bounds(0, 10**9)]


def settings_metadata(base: Base, settings: SamplingSettings) -> dict[str, Any]:
    """Return the sampling settings by metadata key.

    A resolution of None is replaced by the base's own.
    """
    values = {key: getattr(settings, field) for key, field in _SETTINGS.items()}
    return values | {"resolution": settings.resolution or base.resolution}


def recorded_settings(read: TypedReader) -> SamplingSettings:
    """Return the settings that `settings_metadata` recorded.

    Raises:
        UserError: a value is of a wrong type or out of its bounds.
    """
    return read.settings(SamplingSettings, "", {field: key for key, field in _SETTINGS.items()})


def recorded_request(read: TypedReader) -> ImageRequest:
    """Return the prompt and seed that `image_metadata` recorded.

    Raises:
        UserError: a value is of a wrong type.
    """
    return ImageRequest(read.get("prompt", str), read.get("seed", Seed))


def check_recorded(read: TypedReader) -> None:
    """Check what else the reproduction of an image reads from its metadata.

    Raises:
        UserError: a value is of a wrong type or out of its bounds.
    """
    recorded_base(read)
    read.get("base_fingerprint", Words)
    read.get(ADAPTER_WEIGHTS, Words | None)
    read.get(PIXELS, Words, None)
    read.get("step", _Step | None, None)
    for one in read.get(ADAPTERS, list[dict], []):
        read.checked(f"{ADAPTERS}.file", one.get("file"), Name)
        read.checked(f"{ADAPTERS}.weight", one.get("weight"), _Weight)


def recorded_base(read: TypedReader) -> BaseSpec:
    """Return the base that `image_metadata` and `origin_metadata` recorded.

    Images from older versions may lack its revision, variant and data type. Their defaults are
    None, None and `float32`.

    Raises:
        UserError: a value is of a wrong type.
    """
    return BaseSpec(
        read.get("base", Name),
        read.get("base_revision", Name | None, None),
        read.get("base_variant", Name | None, None),
        read.get("frozen_dtype", FrozenDtype, "float32"),
    )


def image_metadata(
    base: Base, request: ImageRequest, settings: SamplingSettings, **more: Any
) -> dict[str, Any]:
    """Return the metadata of a generated image, for `save_png`.

    Args:
        base: generated the image.
        request: its prompt and seed.
        settings: its sampling settings.
        **more: further keys, such as `step`.
    """
    return {
        "prompt": request.prompt,
        "seed": request.seed,
        **settings_metadata(base, settings),
        "base": base.name,
        "base_fingerprint": base.fingerprint,
        **more,
    }


def adapter_weights_sha256(base: Base) -> str | None:
    """Return a hash of the adapter tensors in the base, or None if it has no adapters.

    The hash is the same for adapters in training, in a checkpoint and in the adapter file of the
    same step. `text_model.` is removed from the names first, because only some transformers
    versions have it.
    """
    tensors = {name.replace("text_model.", ""): t for name, t in adapter_state_dict(base).items()}
    if not tensors:
        return None
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().float().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def pixel_hash(image: Image.Image) -> str:
    """Return a hash of an image's size and pixels. It does not depend on the file format."""
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def origin_metadata(
    base: Base,
    spec: BaseSpec,
    identifier: str,
    class_noun: str,
    adapters: Sequence[tuple[str, float]] = (),
) -> dict[str, Any]:
    """Return the metadata that `image_metadata` lacks and that generating the image again needs.

    Args:
        base: in its current state, including adapters.
        spec: the spec that the base was loaded from.
        identifier: identifier of the subject.
        class_noun: class noun of the subject.
        adapters: adapter files and their weights. Empty during training.
    """
    return {
        "base_revision": spec.revision,
        "base_variant": spec.variant,
        "frozen_dtype": str(base.dtype).removeprefix("torch."),
        "identifier": identifier,
        "class_noun": class_noun,
        ADAPTER_WEIGHTS: adapter_weights_sha256(base),
        ADAPTERS: [{"file": file, "weight": weight} for file, weight in adapters],
        **environment(base),
    }


def environment(base: Base) -> dict[str, Any]:
    """Return the facts about this machine that may affect the last bits of an image."""
    return {
        "device": base.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }
