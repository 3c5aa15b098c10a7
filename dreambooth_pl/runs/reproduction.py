"""Reproduction of an image from its metadata, and comparison with the original."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dreambooth_pl.adapters import remove_adapters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.plain_yaml import read_yaml
from dreambooth_pl.files.png_metadata import read_png_metadata
from dreambooth_pl.files.typed import TypedReader
from dreambooth_pl.runs.adapter_source import load_sources, read_source
from dreambooth_pl.runs.checkpoint_adapters import (
    SUFFIX,
    attach,
    fresh_adapters,
    read_checkpoint,
)
from dreambooth_pl.runs.finished import final_weights
from dreambooth_pl.runs.folder import CHECKPOINTS, CONFIG
from dreambooth_pl.sampling.generation import Progress, generate
from dreambooth_pl.sampling.image_metadata import (
    ADAPTER_WEIGHTS,
    ADAPTERS,
    NEEDED,
    PIXELS,
    adapter_weights_sha256,
    check_recorded,
    environment,
    pixel_hash,
    recorded_base,
    recorded_request,
    recorded_settings,
)
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings


@dataclass(frozen=True)
class Recorded:
    """An image with all the metadata that its reproduction needs."""

    path: Path
    """The image's file."""
    metadata: dict[str, Any]
    """The image's metadata."""
    image: Image.Image
    """The image, RGB."""
    request: ImageRequest
    """Its prompt and seed."""
    settings: SamplingSettings
    """Its sampler settings."""


@dataclass(frozen=True)
class Reproduction:
    """A reproduced image and how it differs from the original."""

    image: Image.Image
    """The reproduced image."""
    adapter: str
    """Where the adapter was found, in words."""
    max_difference: int
    """Largest difference of any channel value from the original, in [0, 255]."""
    notes: list[str] = field(default_factory=list)
    """Possible reasons for a difference."""


def read_recorded(path: Path) -> Recorded:
    """Read an image with its metadata.

    Raises:
        UserError: the image does not exist, or its metadata are not enough to reproduce it.
    """
    if not path.is_file():
        raise UserError(f"There is no image {path}.")
    metadata = {"autocast": None, **read_png_metadata(path)}  # missing in older images
    missing = sorted(NEEDED - metadata.keys())
    if missing:
        raise UserError(
            f"{path} cannot be reproduced: its metadata lack {', '.join(missing)}. Images from "
            "generate.py and probe images from training record them."
        )
    read = TypedReader(path, metadata, remedy="The image's metadata were changed or damaged.")
    check_recorded(read)
    request, settings = recorded_request(read), recorded_settings(read)
    with Image.open(path) as file:
        image = file.convert("RGB")
    return Recorded(path, metadata, image, request, settings)


def reproduce(
    recorded: Recorded,
    device: torch.device,
    base_name: str | None = None,
    places: list[Path] | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Generate a recorded image again.

    Args:
        recorded: the image.
        device: where to generate.
        base_name: where the base is now; None for the place that the metadata name.
        places: runs, LoRA files or checkpoints in which to look for the adapter. By default, the
            files that the metadata name and the run whose folder contains the image.
        progress: called when the image is generated.

    Raises:
        UserError: the base is a different one, or no adapter with the recorded weights is found.
    """
    metadata = recorded.metadata
    spec = recorded_base(TypedReader(recorded.path, metadata))
    if base_name is not None and base_name != spec.base:
        spec = BaseSpec(base_name, frozen_dtype=spec.frozen_dtype)
    base = load_base(spec).to(device)
    if base.fingerprint != metadata["base_fingerprint"]:
        raise UserError(
            f"{recorded.path} was generated with the base {metadata['base']!r} of fingerprint "
            f"{metadata['base_fingerprint']}; {base.name!r} has {base.fingerprint}. Give the same "
            "base with --base."
        )
    adapter = _load_recorded_adapter(base, recorded, places or [])
    base.to(device)
    (image,) = generate(base, [recorded.request], recorded.settings, progress)
    difference = _max_difference(image, recorded.image)
    return Reproduction(image, adapter, difference, _notes(recorded, base) if difference else [])


def _load_recorded_adapter(base: Base, recorded: Recorded, places: list[Path]) -> str:
    """Load the adapter whose weights have the recorded hash.

    Returns:
        Where it was found, in words.
    """
    wanted = recorded.metadata[ADAPTER_WEIGHTS]
    tried = []
    for name in _candidates(base, recorded, places):
        if adapter_weights_sha256(base) == wanted:
            return name
        tried.append(name)
    step = recorded.metadata.get("step")
    which = f"the adapter of step {step}" if step is not None else "its adapter"
    where = f"looked at: {', '.join(tried)}" if tried else "no run was found around the image"
    raise UserError(
        f"{recorded.path} cannot be reproduced: {which} is gone ({where}). A run keeps its last "
        "and its best step. Name a run, LoRA file or checkpoint that has it: generate.py PATH "
        f"--reproduce {recorded.path}; or train the run again from its {CONFIG}, to this step."
    )


def _candidates(base: Base, recorded: Recorded, places: list[Path]) -> Iterator[str]:
    """Load one candidate after the other into the base.

    Yields:
        Where the adapter that the base has now comes from, in words.
    """
    metadata = recorded.metadata
    if metadata[ADAPTER_WEIGHTS] is None:
        remove_adapters(base)
        yield "no adapter"
        return
    named = [(Path(one["file"]), one["weight"]) for one in metadata.get(ADAPTERS, ())]
    if not places:
        if named and all(file.exists() for file, _ in named):
            load_sources(base, named)
            yield " and ".join(str(file) for file, _ in named)
        places = [folder for folder in recorded.path.absolute().parents if _is_run(folder)][:1]
    elif len(named) > 1 and len(named) == len(places):
        files = [read_source(place).file for place in places]
        load_sources(base, list(zip(files, (weight for _, weight in named), strict=True)))
        yield " and ".join(map(str, files))
        return
    weight = named[0][1] if len(named) == 1 else 1.0
    for place in places:
        yield from _adapters_in(base, place, metadata.get("step"), weight)


def _adapters_in(base: Base, place: Path, step: int | None, weight: float) -> Iterator[str]:
    if not place.exists():
        raise UserError(f"There is no run, LoRA file or checkpoint {place}.")
    if place.suffix == SUFFIX:
        yield from _checkpoint(base, place)
    elif not _is_run(place):
        file = read_source(place).file
        load_sources(base, [(file, weight)])
        yield str(file)
    else:
        file = final_weights(place)
        if file.is_file():
            load_sources(base, [(file, weight)])
            yield str(file.parent)
        for path in sorted((place / CHECKPOINTS).glob("[!.]*.ckpt")):
            yield from _checkpoint(base, path)
        if step == 0:
            fresh_adapters(base, read_yaml(place / CONFIG), str(place / CONFIG))
            yield f"the start of {place}"


def _checkpoint(base: Base, path: Path) -> Iterator[str]:
    checkpoint = read_checkpoint(path)
    if checkpoint.fingerprint != base.fingerprint:
        return
    attach(base, checkpoint)
    yield f"{path} (step {checkpoint.step})"


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and (folder / CONFIG).is_file()


def _max_difference(image: Image.Image, other: Image.Image) -> int:
    if image.size != other.size:
        return 255
    first, second = (np.asarray(one, dtype=np.int16) for one in (image, other))
    return int(np.abs(first - second).max())


def _notes(recorded: Recorded, base: Base) -> list[str]:
    """Return what has changed since the image was generated."""
    metadata, notes = recorded.metadata, []
    if PIXELS in metadata and metadata[PIXELS] != pixel_hash(recorded.image):
        notes.append("the given image was changed after it was drawn")
    for key, now in environment(base).items():
        if key in metadata and metadata[key] != now:
            notes.append(f"{key} is {now} now, was {metadata[key]}")
    return notes
