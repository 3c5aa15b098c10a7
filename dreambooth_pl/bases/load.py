"""Loading of a base from a folder, a file or the Hugging Face Hub."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.checks.schedule import check_schedule
from dreambooth_pl.bases.checks.tokenizer import check_tokenizer
from dreambooth_pl.bases.fingerprint import fingerprint
from dreambooth_pl.bases.folder import Parts, read_folder
from dreambooth_pl.bases.objectives import Objective, read_objective
from dreambooth_pl.bases.single_file import read_checkpoint
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.errors import UserError

_LOADED: ContextVar[dict[BaseSpec, Base] | None] = ContextVar("loaded bases", default=None)


@contextmanager
def shared_weights() -> Iterator[None]:
    """Let bases that are loaded from one place inside the context share their frozen weights."""
    token = _LOADED.set({})
    try:
        yield
    finally:
        _LOADED.reset(token)


def replica(base: Base) -> Base:
    """Return a base with the same weights in memory and modules of its own, for other adapters.

    The VAE, the tokenizers and the objective are the same objects.
    """

    def copied(module: nn.Module) -> nn.Module:
        tensors = (*module.parameters(), *module.buffers())
        return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})

    text_encoders = [copied(module) for module in base.text_encoders]
    return replace(base, denoiser=copied(base.denoiser), text_encoders=text_encoders)


def load_base(spec: BaseSpec | str) -> Base:
    """Load a base from a diffusers folder, a checkpoint file or, if neither exists, the hub.

    Inside `shared_weights`, a base that was loaded before is returned as a `replica`.

    Args:
        spec: the base. A string stands for `BaseSpec(string)`. A name that looks like a path is
            never looked up on the hub.

    Raises:
        UserError: the folder, file or hub id does not exist, its family or noise schedule is not
            known, weights are missing, or a tokenizer does not belong to the base.
    """
    spec = BaseSpec(spec) if isinstance(spec, str) else spec
    loaded = _LOADED.get()
    if loaded is None:
        return _load(spec)
    if spec not in loaded:
        loaded[spec] = _load(spec)
    return replica(loaded[spec])


def _load(spec: BaseSpec) -> Base:
    name = spec.base
    dtype = getattr(torch, spec.frozen_dtype)
    as_stored = dtype != torch.float32  # then cast below: less memory for half-precision files
    path = Path(name)
    if path.is_file():
        parts = read_checkpoint(path, as_stored)
    else:
        parts = read_folder(name, spec.revision, spec.variant, as_stored)
    check_schedule(parts.scheduler_config, name)
    objective = read_objective(parts.scheduler_config, parts.family.objectives, name)
    channels = parts.denoiser.config.in_channels
    if channels != parts.vae.config.latent_channels:
        raise UserError(
            f"model.base: {name!r} is for inpainting or editing: its {parts.family.denoiser_class} "
            f"reads {channels} channels. Take the text-to-image version."
        )
    if getattr(parts.denoiser.config, "time_cond_proj_dim", None):
        raise UserError(
            f"model.base: {name!r} is distilled: its {parts.family.denoiser_class} is told the "
            "guidance (time_cond_proj_dim). Take the model that it was distilled from."
        )
    pairs = zip(parts.family.tokenizers, parts.tokenizers, parts.text_encoders, strict=True)
    for component, tokenizer, text_encoder in pairs:
        check_tokenizer(tokenizer, text_encoder, component, name)
    base = _assemble(name, parts, objective)
    for module in (base.denoiser, *base.text_encoders):
        nn.Module.to(module, dtype)  # diffusers' own `to` warns about an empty list of exceptions
    return base


def _assemble(name: str, parts: Parts, objective: Objective) -> Base:
    for module in (parts.vae, parts.denoiser, *parts.text_encoders):
        module.requires_grad_(False).eval()
    base = Base(
        name=name,
        rules=parts.family,
        objective=objective,
        vae=parts.vae,
        denoiser=parts.denoiser,
        text_encoders=parts.text_encoders,
        tokenizers=parts.tokenizers,
        fingerprint="",
        zeros_for_empty_prompt=parts.zeros_for_empty_prompt,
    )
    base.fingerprint = fingerprint(
        base.family,
        base.modules,
        base.tokenizers,
        base.vae.config.scaling_factor,
        base.objective.facts,
    )
    return base
