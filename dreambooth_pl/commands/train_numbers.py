"""The numbers of `train.py`'s keys: their bounds in the help, and their check before all else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from jsonargparse import ArgumentParser

from dreambooth_pl.bounds import Seed, check_numbers, explained
from dreambooth_pl.data.settings import DataSettings
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
    "trainer": TrainerNumbers,
}
"""The settings class that holds the numbers of each group of keys."""
_PLAIN = ("sampling", "probe", "validation")
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


def check_config_numbers(config: Any) -> None:
    """Check all numbers of a parsed config.

    Args:
        config: the keys of a subcommand, in groups.

    Raises:
        UserError: a number is out of its bounds; names its key.
    """
    for group, settings in GROUPS.items():
        values = _plain(config[group])
        if group in _PLAIN:
            settings(**values)
        else:
            check_numbers(settings, values, group)


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
