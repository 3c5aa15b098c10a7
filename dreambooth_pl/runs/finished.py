"""Finished runs on disk: where they are and with what they were made."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dreambooth_pl.adapters import TUNED_NAME, WEIGHTS_NAME
from dreambooth_pl.bases.spec import BaseSpec, FrozenDtype
from dreambooth_pl.bounds import Seed
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.plain_yaml import read_yaml
from dreambooth_pl.files.typed import Name, TypedReader, Words
from dreambooth_pl.metrics.encoders import EncoderSettings
from dreambooth_pl.runs.checkpoint_adapters import read_checkpoint
from dreambooth_pl.runs.folder import CONFIG, LORA, TUNED, resume_command
from dreambooth_pl.sampling.settings import SamplingSettings

EVALUATION = "evaluation"  # in a run's folder


@dataclass(frozen=True)
class Run:
    """A finished run, as its own `config.yaml` describes it."""

    folder: Path
    """The run's folder."""
    base_spec: BaseSpec
    """The base it adapts."""
    instance_dir: Path
    """Folder of the subject's photos."""
    identifier: str
    class_noun: str
    seed: int
    """Seed of the run and of its probes."""
    sampling: SamplingSettings
    """How its probes were generated."""
    encoders: EncoderSettings
    """What its metrics were measured with."""
    adapter: Path | None = None
    """LoRA file to generate with in place of the run's final one."""
    scale: float | None = None
    """LoRA scale that was asked for in place of the run's own; see `at_scale`."""

    @property
    def lora_file(self) -> Path:
        """The trained adapter, or the trained networks."""
        return self.adapter or final_weights(self.folder)

    @property
    def name(self) -> str:
        """Config name and version, such as `sks/version_0`; for a file from elsewhere its own name.

        A scale that was asked for follows the name.
        """
        name = "/".join(self.folder.absolute().parts[-2:])
        if self.adapter is not None and self.folder / EVALUATION not in self.adapter.parents:
            name = self.adapter.stem
        return name if self.scale is None else f"{name}, scale {self.scale:g}"

    @property
    def evaluation(self) -> Path:
        """The folder of generated images and scores; for another adapter, beside its file."""
        folder = self.folder / EVALUATION
        if self.adapter is None:
            return folder
        if folder in self.adapter.parents:
            return self.adapter.parent
        return self.adapter.with_name(f"{self.adapter.stem}_{EVALUATION}")


def final_weights(folder: Path) -> Path:
    """Return where a run's training leaves its result: adapters, or whole networks if it has those.

    Whether or not it is there already.
    """
    tuned = folder / TUNED / TUNED_NAME
    return tuned if tuned.is_file() else folder / LORA / WEIGHTS_NAME


def at_scale(run: Run, scale: float) -> Run:
    """Return the run with its adapters at another strength, in UNet and text encoder alike."""
    sampling = replace(run.sampling, lora_scale_unet=scale, lora_scale_text_encoder=scale)
    return replace(run, sampling=sampling, scale=scale)


def with_autocast(run: Run, autocast: str) -> Run:
    """Return the run with its images generated under autocast in the type of that name."""
    return replace(run, sampling=replace(run.sampling, autocast=autocast))


def read_run(folder: Path) -> Run:
    """Read a run's folder.

    Raises:
        UserError: no folder, no run, or a run that did not get to its end.
    """
    path = folder / CONFIG
    if not folder.is_dir():
        raise UserError(
            f"There is no run folder {folder}. Runs lie in lightning_logs/NAME/version_N."
        )
    if not path.is_file():
        raise UserError(
            f"{folder} is no run's folder: it has no {CONFIG}. Give a folder such as "
            "lightning_logs/sks/version_0."
        )
    run = run_of_config(folder, read_yaml(path))
    if not run.lora_file.is_file():
        raise UserError(
            f"The run {folder} has no {LORA}/{WEIGHTS_NAME}: its training has not come to the end. "
            f"Finish it with: {resume_command(folder)}"
        )
    return run


def run_of_lora_file(adapter: Path, config: Path) -> Run:
    """Return the run that `config` describes, with a LoRA file from anywhere.

    Args:
        adapter: the LoRA file.
        config: a run's own `config.yaml`: base, photos, words, sampler and encoders.

    Raises:
        UserError: there is no such file, or the config is not a run's.
    """
    if not adapter.is_file():
        raise UserError(f"There is no LoRA file {adapter}.")
    return replace(run_of_config_file(config), adapter=adapter)


def run_of_checkpoint(path: Path) -> Run:
    """Return the run that a checkpoint of training is of, with the checkpoint's adapters.

    Raises:
        UserError: the file is no checkpoint of this project, or its config is not a run's.
    """
    run = run_of_config(path.absolute().parent.parent, read_checkpoint(path).config, path)
    return replace(run, adapter=path)


def run_without_config(adapter: Path, base: str | None, photos: Path, class_noun: str) -> Run:
    """Return a run of which nothing is left but its LoRA file: sampler and encoders by default.

    Raises:
        UserError: no base is given.
    """
    if not base:
        raise UserError(f"{adapter} is a file: which base belongs to it? Give --base.")
    return Run(
        folder=adapter.parent,
        base_spec=BaseSpec(base),
        instance_dir=photos,
        identifier="",
        class_noun=class_noun,
        seed=42,
        sampling=SamplingSettings(),
        encoders=EncoderSettings(),
        adapter=adapter,
    )


def run_of_config_file(path: Path) -> Run:
    """Return what a run's own `config.yaml` tells, whether or not the run has come to its end.

    Raises:
        UserError: there is no such file, or it is not a run's.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    return run_of_config(path.parent, read_yaml(path))


def run_of_config(folder: Path, config: Any, source: Path | None = None) -> Run:
    """Return the run in `folder` whose whole configuration, in plain types, is `config`.

    Args:
        folder: the run's folder.
        config: the configuration.
        source: where the configuration was read, for messages; None for the run's own file.

    Raises:
        UserError: a key is missing or no settings of ours.
    """
    path = source or folder / CONFIG
    read = TypedReader(
        path,
        config,
        remedy="Set the key to what train.py wrote there.",
        lacking=", so it is not a run's whole config.",
    )
    get = read.get
    return Run(
        folder=folder,
        base_spec=BaseSpec(
            get("model.base", Name),
            get("model.revision", Name | None, None),
            get("model.variant", Name | None, None),
            get("model.frozen_dtype", FrozenDtype, "float32"),
        ),
        instance_dir=Path(get("data.instance_dir", Name)),
        identifier=get("data.identifier", Words),
        class_noun=get("data.class_noun", Words),
        seed=get("seed_everything", Seed),
        sampling=read.settings(SamplingSettings, "sampling"),
        encoders=read.settings(EncoderSettings, "fidelity"),
    )


def find_runs(logs: Path, failed: Callable[[Path, UserError], None] | None = None) -> list[Run]:
    """Return every finished run below `logs`, by name and version number.

    Args:
        logs: where to look.
        failed: is told of run folders that cannot be read, which are left out; None to raise.

    Raises:
        UserError: there is none.
    """
    ends = (f"{LORA}/{WEIGHTS_NAME}", f"{TUNED}/{TUNED_NAME}")
    folders = [file.parent.parent for end in ends for file in logs.rglob(end)]
    runs = []
    for folder in folders:
        if (folder / CONFIG).is_file():
            try:
                runs.append(read_run(folder))
            except UserError as error:
                if failed is None:
                    raise
                failed(folder, error)
    if not runs:
        raise UserError(
            f"There is no finished run under {logs}. Train one first: python train.py fit --config "
            "configs/sks.yaml"
        )
    return sorted(runs, key=lambda run: _natural(str(run.folder)))


def _natural(text: str) -> list[tuple[int, str]]:
    """Sort key that puts version_2 before version_10."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
