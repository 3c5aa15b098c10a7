"""A base in a diffusers folder, here or on the Hugging Face Hub: its index and its parts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDPMScheduler
from huggingface_hub import hf_hub_download
from safetensors import safe_open
from torch import nn

from dreambooth_pl.bases.families import FAMILIES, Family
from dreambooth_pl.errors import UserError

HALF = {"F16": torch.float16, "BF16": torch.bfloat16}
"""Half-precision types as safetensors names them."""


@dataclass(frozen=True)
class Parts:
    """Networks as stored or in float32, tokenizers and the noise schedule's config."""

    family: Family
    vae: AutoencoderKL
    denoiser: nn.Module
    text_encoders: list[nn.Module]
    tokenizers: list[Any]
    scheduler_config: dict[str, Any]
    zeros_for_empty_prompt: bool
    """Whether zeros stand for an empty (negative) prompt, instead of its encoding."""


def read_folder(name: str, revision: str | None, variant: str | None, as_stored: bool) -> Parts:
    """Read a diffusers folder or, if there is none, a base on the Hugging Face Hub.

    Args:
        name: path, or `owner/name` on the hub. What looks like a path is never looked for there.
        revision: branch, tag or commit on the hub.
        variant: which weight files to take, such as `fp16`.
        as_stored: leave weights that are stored in half precision so, where files tell; otherwise
            all are float32.

    Raises:
        UserError: neither folder nor reachable hub id; no known family; missing weight files.
    """
    index = read_model_index(name, revision)
    class_name = index.get("_class_name")
    if class_name not in FAMILIES:
        raise UserError(
            f"model.base: {name!r} is a {class_name}; only {', '.join(FAMILIES)} can be trained. "
            f"Choose a base of {', '.join(family.title for family in FAMILIES.values())}."
        )
    family = FAMILIES[class_name]

    def load(read: Callable[..., Any], subfolder: str, **options: Any) -> Any:
        try:
            return read(name, subfolder=subfolder, revision=revision, **options)
        except Exception as error:  # the libraries raise many kinds for missing or broken files
            reason = str(error).strip().split("\n")[0]
            raise UserError(
                f"model.base: {subfolder!r} of {name!r} cannot be loaded ({reason}). It must hold "
                "config and safetensors weights as diffusers' save_pretrained writes them; weights "
                "with a suffix such as fp16 in their name need model.variant."
            ) from error

    def load_whole(read: Callable[..., Any], subfolder: str, **options: Any) -> Any:
        with without_warnings():  # of missing weights: an error tells of them
            module, report = load(
                read,
                subfolder,
                variant=variant,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
        _check_whole(report, name, subfolder)
        return module

    with without_progress_bars():
        text_encoders = [
            load_whole(getattr(transformers, class_).from_pretrained, subfolder)
            for subfolder, class_ in family.text_encoders.items()
        ]
        if not as_stored:
            text_encoders = [text_encoder.float() for text_encoder in text_encoders]
        vae = load_whole(AutoencoderKL.from_pretrained, "vae", torch_dtype=torch.float32)
        folder = Path(name) / family.denoiser
        dtype = _stored_dtype(folder, variant) if as_stored else torch.float32
        read = getattr(diffusers, family.denoiser_class).from_pretrained
        denoiser = load_whole(read, family.denoiser, torch_dtype=dtype)
    tokenizers = [
        load(getattr(transformers, class_).from_pretrained, subfolder)
        for subfolder, class_ in family.tokenizers.items()
    ]
    scheduler_config = load(DDPMScheduler.load_config, "scheduler")  # whichever scheduler it is
    zeros = family.can_zero_empty_prompt and index.get("force_zeros_for_empty_prompt", True)
    return Parts(
        family=family,
        vae=vae,
        denoiser=denoiser,
        text_encoders=text_encoders,
        tokenizers=tokenizers,
        scheduler_config=scheduler_config,
        zeros_for_empty_prompt=bool(zeros),
    )


def _check_whole(report: Mapping[str, Any], name: str, component: str) -> None:
    """Check that a network found all its weights: those it lacks would be random ones.

    Args:
        report: what diffusers and transformers alike tell of the loading.
        name: of the base.
        component: the network's folder.

    Raises:
        UserError: weights are missing.
    """
    # Older files lack the positions, or have them: a count from 0, no weight.
    missing = sorted(key for key in report["missing_keys"] if not key.endswith("position_ids"))
    if missing:
        raise UserError(
            f"model.base: {component!r} of {name!r} lacks {len(missing)} of its weights, such as "
            f"{missing[0]}. Is the download complete? Copy the folder again from where it is whole."
        )


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence the libraries' warnings, where we say the same in the user's words."""
    libraries = [transformers.utils.logging, diffusers.utils.logging]
    levels = [logging.get_verbosity() for logging in libraries]
    for logging in libraries:
        logging.set_verbosity_error()
    try:
        yield
    finally:
        for logging, level in zip(libraries, levels, strict=True):
            logging.set_verbosity(level)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Silence the libraries' bars per model; bars of downloads stay."""
    libraries = [transformers.utils.logging, diffusers.utils.logging]
    enabled = [logging for logging in libraries if logging.is_progress_bar_enabled()]
    for logging in enabled:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging in enabled:
            logging.enable_progress_bar()


def _stored_dtype(folder: Path, variant: str | None) -> torch.dtype:
    """Return the type of the weights in a component's folder; of one on the hub by its variant."""
    suffix = "" if variant is None else f".{variant}"
    for path in sorted(folder.glob(f"diffusion_pytorch_model{suffix}*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        return HALF[names.pop()] if len(names) == 1 and names <= HALF.keys() else torch.float32
    return torch.float16 if variant == "fp16" else torch.float32


def read_model_index(name: str, revision: str | None) -> dict[str, Any]:
    """Return the base's `model_index.json`, from a folder or else from the Hugging Face Hub.

    What looks like a path is never looked for on the hub.

    Raises:
        UserError: it is in neither place, or cannot be read.
    """
    folder = Path(name)
    remedy = "Give the path of a diffusers pipeline folder, such as data/miniature, or a hub id."
    if folder.is_dir():
        index = folder / "model_index.json"
        if not index.is_file():
            raise UserError(
                f"model.base: the folder {name!r} has no model_index.json, so it is no diffusers "
                f"pipeline. {remedy}"
            )
    elif _looks_like_path(name):
        raise UserError(f"model.base: there is no folder {str(folder.absolute())!r}. {remedy}")
    else:
        try:
            index = Path(hf_hub_download(name, "model_index.json", revision=revision))
        except Exception as error:  # offline, unknown, gated, ...: the user's next step is the same
            reason = str(error).strip().split("\n")[0]
            raise UserError(
                f"model.base: {name!r} is neither a folder (tried {str(folder.absolute())!r}) nor "
                f"a hub id that can be reached ({type(error).__name__}: {reason}). {remedy} A hub "
                "id needs a network connection the first time, and sometimes `hf auth login`."
            ) from error
    try:
        return json.loads(index.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"model.base: {str(index)!r} is not valid JSON: {error}") from error


def _looks_like_path(name: str) -> bool:
    """Whether `name` can only be meant as a path: not `owner/name`, or `owner` is a folder here."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name):
        return True
    return Path(name).parent.is_dir() or name.endswith((".safetensors", ".ckpt"))
