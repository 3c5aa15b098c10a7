"""The numbers of `train.py`'s keys: their bounds in the help, and their check before all else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from dreambooth_pl.bounds import Seed, check_values, explained
from dreambooth_pl.data.settings import DataSettings
from dreambooth_pl.errors import UserError
from dreambooth_pl.metrics.encoders import EncoderSettings
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.callbacks.probes import ProbeSettings
from dreambooth_pl.training.callbacks.validation import ValidationSettings
from dreambooth_pl.training.settings import ModelSettings
from dreambooth_pl.training.trainer_settings import TrainerNumbers

GROUPS: dict[str, type] = {
    "data": DataSettings,
    "model": ModelSettings,
    "sampling": SamplingSettings,
    "probe": ProbeSettings,
    "validation": ValidationSettings,
    "fidelity": EncoderSettings,
    "trainer": TrainerNumbers,
}
"""The settings class that holds the numbers of each group of keys."""
_PLAIN = ("sampling", "probe", "validation", "fidelity")
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
