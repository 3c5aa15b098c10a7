"""The keys of `train.py fit` as a form needs them: `python -m dreambooth_pl.studio.setting_keys`.

They come from the settings' own types, bounds and help. Importing these takes longer than the rest
of the studio, so that another process does it and writes them as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dreambooth_pl.bounds import field_types

OWN_KEYS = {"data.identifier", "data.class_noun", "model.base"}
"""What the page asks for elsewhere."""
GROUPS = (
    "seed_everything",
    "data",
    "model",
    "sampling",
    "probe",
    "checkpoint",
    "validation",
    "trainer",
)


@dataclass(frozen=True)
class SettingKey:
    """A key with what a form needs."""

    key: str
    kind: Literal["flag", "choice", "whole", "real", "text"]
    help: str
    default: Any
    choices: tuple[str, ...] = ()
    optional: bool = False
    """Whether it may be null."""


def setting_keys() -> list[SettingKey]:
    """Return the keys that have plain values, in the order of the command line's help."""
    from jsonargparse import set_parsing_settings

    from dreambooth_pl.commands.train_keys import add_groups, add_run_keys
    from dreambooth_pl.commands.train_parser import Parser

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = Parser(command="fit")
    add_run_keys(parser)
    add_groups(parser)
    return list(_plain_keys(parser))


def _plain_keys(parser: Any) -> Iterator[SettingKey]:
    for action in parser._actions:
        key, hint = action.dest, getattr(action, "_typehint", None)
        if not _is_offered(key) or hint is None:
            continue
        found = _kind(hint)
        if found is not None and action.help:
            kind, choices, optional = found
            default = parser.get_defaults().get(key)
            words = " ".join(str(action.help).split())
            yield SettingKey(key, kind, words, _plain(default), choices, optional)


def _is_offered(key: str) -> bool:
    from dreambooth_pl.training.trainer_settings import TRAINER_HELP, TrainerNumbers

    group, _, name = key.partition(".")
    if key in OWN_KEYS or name.endswith("_dir") or key.endswith(".seed"):
        return False  # folders are the studio's, and there is one seed for all
    if group == "trainer":
        return name in TRAINER_HELP or name in field_types(TrainerNumbers)
    return group in GROUPS


def _kind(hint: Any) -> tuple[Any, tuple[str, ...], bool] | None:
    """Return kind, choices and whether null is allowed; None for what has no plain value."""
    if get_origin(hint) is Annotated:
        return _kind(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return "choice", tuple(map(str, get_args(hint))), False
    if get_origin(hint) in (Union, UnionType):
        parts = [part for part in get_args(hint) if part is not NoneType]
        found = _kind(parts[0]) if len(parts) == 1 else None
        return found and (found[0], found[1], len(parts) < len(get_args(hint)))
    kinds = {bool: "flag", int: "whole", float: "real", str: "text"}
    return (kinds[hint], (), False) if hint in kinds else None


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, NoneType)) else str(value)


if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(key) for key in setting_keys()]) + "\n")
