"""Where an adapter comes from, a run or a LoRA file: its base, subject, settings and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from safetensors import SafetensorError, safe_open

from dreambooth_pl.adapters import (
    WEIGHTS_NAME,
    AdapterSettings,
    load_weighted_adapters,
    weights_in,
)
from dreambooth_pl.adapters.peft_folder import peft_base, peft_files
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.typed import Name, TypedReader, Words
from dreambooth_pl.runs.checkpoint_adapters import SUFFIX, adapter_file
from dreambooth_pl.runs.finished import final_weights, read_run, run_of_checkpoint
from dreambooth_pl.runs.folder import CONFIG
from dreambooth_pl.sampling.settings import LORA_SCALE, SamplingSettings

SCALES = ("lora_scale_unet", "lora_scale_text_encoder")
"""Settings of the run that exported files record, under `dreambooth_pl.SETTING`."""
_IDENTIFIER, _CLASS_NOUN = "dreambooth_pl.identifier", "dreambooth_pl.class_noun"
_BASE_KEYS = ("dreambooth_pl.base", "base_model", "ss_sd_model_name")  # of file metadata


@dataclass(frozen=True)
class AdapterSource:
    """An adapter to generate images with."""

    file: Path
    """File with the weights, checkpoint of training, or folder in PEFT's layout."""
    base_spec: BaseSpec | None
    """The adapter's base, as the run loaded it; None if the file does not name one."""
    identifier: str
    """The subject's identifier; empty if unknown."""
    class_noun: str
    """The subject's class noun; empty if unknown."""
    sampling: SamplingSettings
    """The run's sampler settings. For a LoRA file without a run, the defaults and the strengths
    that its header names."""


def read_source(path: Path) -> AdapterSource:
    """Read a run's folder, a checkpoint of training, a folder with LoRA weights, or a LoRA file.

    Args:
        path: the folder or the file. A file inside its run's folder counts as that run.

    Raises:
        UserError: `path` does not exist or contains no adapter.
    """
    if not path.exists():
        raise UserError(
            f"There is no run folder or LoRA file {path}. Runs lie in lightning_logs/NAME/version_N"
        )
    if not (path / CONFIG).is_file() and (files := peft_files(path)):
        base = peft_base(files[0])
        return AdapterSource(path, BaseSpec(base) if base else None, "", "", SamplingSettings())
    if path.is_dir() and not (path / CONFIG).is_file():
        if not weights_in(path).is_file():
            raise UserError(f"{path} is no run's folder (no {CONFIG}) and holds no {WEIGHTS_NAME}.")
        path = weights_in(path)
    if path.is_file() and path.suffix != SUFFIX:
        folder = path.absolute().parent.parent
        if not (final_weights(folder) == path.absolute() and (folder / CONFIG).is_file()):
            return _bare_file(path)
        path = path.parent.parent
    run = run_of_checkpoint(path) if path.suffix == SUFFIX else read_run(path)
    return AdapterSource(run.lora_file, run.base_spec, run.identifier, run.class_noun, run.sampling)


def load_sources(base: Base, files: Sequence[tuple[Path, float]]) -> list[AdapterSettings]:
    """Load the adapters of LoRA files and checkpoints into the base.

    Args:
        base: the base. Adapters that it already has are removed.
        files: each file with the weight that multiplies its strength. An empty sequence leaves the
            base without adapters.

    Returns:
        The settings of each file.

    Raises:
        UserError: the weights do not fit the base.
    """
    with TemporaryDirectory() as folder:
        plain = [
            (adapter_file(base, file, Path(folder, str(number))), weight)
            if file.suffix == SUFFIX
            else (file, weight)
            for number, (file, weight) in enumerate(files)
        ]
        return load_weighted_adapters(base, plain)


def _bare_file(path: Path) -> AdapterSource:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}") from error
    read = TypedReader(path, header, "The file's header was changed; name the base with --base.")
    key = next((key for key in _BASE_KEYS if header.get(key)), None)
    base = None if key is None else read.checked(key, header[key], Name)
    return AdapterSource(
        path,
        BaseSpec(base) if base else None,
        read.checked(_IDENTIFIER, header.get(_IDENTIFIER, ""), Words),
        read.checked(_CLASS_NOUN, header.get(_CLASS_NOUN, ""), Words),
        _sampling(read, header),
    )


def _sampling(read: TypedReader, header: Mapping[str, str]) -> SamplingSettings:
    """Return the settings of a file without a run: the run's strengths if its header has them.

    Raises:
        UserError: a strength is no number, or out of its bounds.
    """
    scales: dict[str, float] = {}
    for name in SCALES:
        key = f"dreambooth_pl.{name}"
        if key in header:
            try:
                value: float | str = float(header[key])
            except ValueError:
                value = header[key]
            scales[name] = read.checked(key, value, Annotated[float, LORA_SCALE])
    return SamplingSettings(**scales)
