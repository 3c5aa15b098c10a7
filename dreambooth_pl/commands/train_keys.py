"""The keys of `train.py`, group by group, as its help shows them, and what values they may have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from jsonargparse import SUPPRESS, ArgumentParser
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from dreambooth_pl.bounds import Seed, check_values, explained
from dreambooth_pl.commands.train_parser import DRY_RUN_FORMATS
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.data.settings import DataSettings
from dreambooth_pl.errors import UserError
from dreambooth_pl.metrics.encoders import EncoderSettings
from dreambooth_pl.runs.folder import RESUME
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.start import with_home
from dreambooth_pl.training.callbacks.checkpoints import CheckpointSettings
from dreambooth_pl.training.callbacks.evaluate_run import RunEvaluationSettings
from dreambooth_pl.training.callbacks.probes import ProbeSettings
from dreambooth_pl.training.callbacks.validation import ValidationSettings
from dreambooth_pl.training.module import DreamBooth
from dreambooth_pl.training.settings import ModelSettings
from dreambooth_pl.training.trainer_settings import (
    PRECISION_ALIASES,
    PRECISIONS,
    TRAINER_DEFAULTS,
    TRAINER_FIXED,
    TRAINER_HELP,
    TRAINER_HIDDEN,
    TrainerNumbers,
)

GROUPS: dict[str, type] = {
    "data": DataSettings,
    "model": ModelSettings,
    "sampling": SamplingSettings,
    "probe": ProbeSettings,
    "checkpoint": CheckpointSettings,
    "validation": ValidationSettings,
    "fidelity": EncoderSettings,
    "trainer": TrainerNumbers,
}
"""The settings class that holds the numbers of each group of keys."""
_PLAIN = ("sampling", "probe", "checkpoint", "validation", "fidelity")
"""Groups of plain values, whose settings can be made here and so are checked as a whole."""
SEED = "seed_everything"
SEED_BOUNDS = get_args(Seed)[1]
LIGHTNING_SEEDS = 2**32
"""Lightning seeds NumPy too, which takes no larger seeds."""


def check_seed(seed: Any) -> None:
    """Check the seed, which Lightning uses first of all.

    Raises:
        UserError: it is no whole number within its bounds.
    """
    SEED_BOUNDS.check(SEED, seed, whole=True)


def find_homes(config: Any) -> None:
    """Put the home folder in place of `~` in the paths of a parsed config."""
    for key, value in list(config.items()):
        if isinstance(value, str):
            config[key] = with_home(value)


def check_config_values(config: Any) -> None:
    """Check the values of a parsed config.

    Args:
        config: the keys of a subcommand, in groups.

    Raises:
        UserError: a value is none of its key's; names it.
    """
    for group, settings in GROUPS.items():
        values = _plain(config[group])
        if group in _PLAIN:
            settings(**values)
        else:
            check_values(settings, values, group)
    _check_trainer(config.trainer)


def _check_trainer(trainer: Any) -> None:
    """Check what the trainer itself takes at its word: a billion devices, no time at all."""
    devices = trainer.devices
    if isinstance(devices, str) and devices.strip().lstrip("-").isdigit():
        check_values(TrainerNumbers, {"devices": int(devices)}, "trainer")
    try:
        timer = None if trainer.max_time is None else Timer(trainer.max_time)
    except (TypeError, ValueError, OverflowError, MisconfigurationException) as error:
        raise UserError(f"trainer.max_time: {error}") from error
    if timer is not None and timer.time_remaining() <= 0:
        raise UserError(
            f"trainer.max_time: {trainer.max_time!r} leaves no time to train. Write DD:HH:MM:SS, "
            "such as 00:01:30:00 for an hour and a half, or null."
        )
    if trainer.precision not in PRECISION_ALIASES:
        raise UserError(
            f"trainer.precision: {trainer.precision!r} is not one of {', '.join(PRECISIONS)}. To "
            "hold the base's weights in half precision, set model.frozen_dtype."
        )


def explain_numbers(parser: ArgumentParser) -> None:
    """Add the bounds of numbers to the help of their keys."""
    words = dict(_all_bounds())
    for action in parser._actions:
        if action.dest in words and action.help:
            bounds = words[action.dest]
            action.help = f"{action.help.rstrip()} {bounds[0].upper()}{bounds[1:]}."


def _all_bounds() -> Iterator[tuple[str, str]]:
    yield SEED, str(SEED_BOUNDS)
    for group, settings in GROUPS.items():
        yield from explained(settings, group)


def _plain(group: Any) -> Mapping[str, Any]:
    return group if isinstance(group, Mapping) else vars(group)


DEFAULT_SEED = 42


def add_run_keys(parser: LightningArgumentParser) -> None:
    """Add the seed, and what a run goes on from."""
    parser.add_argument(
        "--seed_everything",
        type=int,
        default=DEFAULT_SEED,
        help="Seed of everything random: photos' order, noise, class images, probes.",
    )
    parser.add_argument(
        "--ckpt_path",
        type=str | None,
        default=None,
        help="Checkpoint to go on from, lightning_logs/NAME/version_N/checkpoints/last.ckpt, "
        "in a new folder; the config must be that of its run.",
    )
    if parser.command == "fit":
        parser.add_argument(
            f"--{RESUME}",
            type=str | None,
            default=None,
            help="Run to go on with in its own folder, lightning_logs/NAME/version_N, or last "
            "for the one that was at work last. Its own config holds; other keys come on top.",
        )
        parser.add_argument(
            "--dry-run",
            nargs="?",
            choices=DRY_RUN_FORMATS,
            default=SUPPRESS,  # no key of configs
            help="Check everything, say what would train, in what time and memory, and write "
            "nothing. json prints the report for programs.",
        )


def add_groups(parser: LightningArgumentParser) -> None:
    """Add the groups of settings: data, model, sampling, and so on; the trainer's come last."""
    parser.add_lightning_class_args(DreamBoothDataModule, "data")
    parser.add_lightning_class_args(DreamBooth, "model")
    parser.add_class_arguments(SamplingSettings, "sampling")
    parser.add_class_arguments(ProbeSettings, "probe")
    parser.add_class_arguments(CheckpointSettings, "checkpoint")
    parser.add_class_arguments(ValidationSettings, "validation")
    parser.add_class_arguments(EncoderSettings, "fidelity")
    if parser.command == "test":
        parser.add_class_arguments(RunEvaluationSettings, "test")
    parser.add_class_arguments(
        Trainer,
        "trainer",
        skip=TRAINER_HIDDEN | TRAINER_FIXED.keys(),
        fail_untyped=False,
        instantiate=False,
        sub_configs=True,
    )
    parser.set_defaults({f"trainer.{key}": value for key, value in TRAINER_DEFAULTS.items()})
    for action in parser._actions:
        name = action.dest.removeprefix("trainer.")
        action.help = TRAINER_HELP.get(name, action.help)
    explain_numbers(parser)
