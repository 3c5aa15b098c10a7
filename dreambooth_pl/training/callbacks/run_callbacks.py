"""The callbacks and loggers that every run of `train.py fit` has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from dreambooth_pl.files.dotted_keys import flatten
from dreambooth_pl.metrics.encoders import Encoders, EncoderSettings, load_encoders
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.runs import folder as run_folder
from dreambooth_pl.runs.logs import own_loggers
from dreambooth_pl.training.callbacks.checkpoints import Checkpoints
from dreambooth_pl.training.callbacks.class_images import ClassImages
from dreambooth_pl.training.callbacks.export_lora import ExportLora
from dreambooth_pl.training.callbacks.fidelity import Fidelity
from dreambooth_pl.training.callbacks.hparams import HParams
from dreambooth_pl.training.callbacks.probes import Probes
from dreambooth_pl.training.callbacks.progress import TrainingProgress
from dreambooth_pl.training.callbacks.save_config import SaveConfig
from dreambooth_pl.training.callbacks.summary import Summary
from dreambooth_pl.training.callbacks.validation import Validation, curve_names, validation_prompts
from dreambooth_pl.training.finite import Finite
from dreambooth_pl.training.photo_record import PHOTOS_KEY
from dreambooth_pl.training.trainer_settings import COMPARED_TRAINER

_ENCODERS: ContextVar[dict[EncoderSettings, Encoders] | None] = ContextVar("encoders", default=None)


@contextmanager
def shared_encoders() -> Iterator[None]:
    """Let runs inside the context score their images with the same encoders in memory."""
    token = _ENCODERS.set({})
    try:
        yield
    finally:
        _ENCODERS.reset(token)


def _encoders(settings: EncoderSettings) -> Encoders:
    loaded = _ENCODERS.get()
    if loaded is None:
        return load_encoders(settings)
    if settings not in loaded:
        loaded[settings] = load_encoders(settings)
    return loaded[settings]


def run_callbacks(
    settings: Any,
    plain_config: Mapping[str, Any],
    folder: Path,
    config: SaveConfig,
    reporter: ProgressReporter,
    photos: Mapping[str, Any],
    resumed: bool = False,
) -> list[Callback]:
    """Return the callbacks of a run, in the order in which they take their turns.

    Args:
        settings: the parsed config, its classes instantiated.
        plain_config: the same as plain values, what checkpoints and TensorBoard record.
        folder: of the run.
        config: writes the run's config file.
        reporter: takes what the user is told.
        photos: record of the photos, which checkpoints keep.
        resumed: whether the run goes on in the folder of its checkpoint.
    """
    every_n_steps = settings.probe.every_n_steps
    validation, prompts = None, validation_prompts(settings.validation)
    hparams = {
        key: value
        for key, value in flatten(plain_config).items()
        if not key.startswith(("trainer.", "checkpoint.")) or key in COMPARED_TRAINER
    }
    own_steps = settings.checkpoint.every_n_steps
    callbacks: list[Callback] = [config, ClassImages(settings.sampling, reporter)]
    if every_n_steps:
        fidelity = Fidelity(_encoders(settings.fidelity))
        probes = Probes(
            settings.probe, settings.sampling, folder / run_folder.PROBES, reporter, fidelity
        )
        callbacks += [probes, fidelity]
        if prompts is not None:
            validation = Validation(
                settings.validation,
                prompts,
                every_n_steps,
                settings.sampling,
                folder / run_folder.VALIDATION,
                reporter,
                fidelity,
            )
            callbacks.append(validation)
    curves = ["train/loss", *(f"validation/{name}" for name in curve_names() if validation)]
    callbacks += [
        HParams(hparams, curves),
        Finite(),
        Checkpoints(
            folder / run_folder.CHECKPOINTS,
            every_n_steps if own_steps is None else own_steps,
            plain_config,
            validation,
            every_n_minutes=settings.checkpoint.every_n_minutes,
            extra={PHOTOS_KEY: photos},
            own_folder=resumed,
        ),
        ExportLora(folder),
        Summary(folder, reporter),
    ]
    if settings.trainer.enable_progress_bar is not False:
        callbacks.append(TrainingProgress(reporter))
    return callbacks


def run_loggers(own: Logger | Sequence[Logger] | bool | None, folder: Path) -> list[Logger]:
    """Return loggers into the run's folder, and the user's own; none for `false`."""
    if own is False:
        return []
    loggers = own_loggers(folder)
    if own is None or own is True:
        return loggers
    return loggers + (list(own) if isinstance(own, Sequence) else [own])
