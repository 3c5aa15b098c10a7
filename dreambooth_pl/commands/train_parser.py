"""Parser of `train.py`: LightningCLI's, with error messages for users."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from dreambooth_pl.commands.class_paths import check_config, check_words
from dreambooth_pl.commands.tested_run import DESCRIPTION as TEST_DESCRIPTION
from dreambooth_pl.commands.tested_run import USAGE as TEST_USAGE
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.plain_yaml import read_yaml
from dreambooth_pl.forecast.report import Forecast

_NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|-\.?(inf|nan)$")
_NO_TEXT = re.compile(r"True|False|-?[\d.]+([eE][+-]?\d+)?|nan|-?inf")
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
}
"""Python's types in words."""
DRY_RUN_FORMATS = ("text", "json")
_USAGE = "python train.py fit --config CONFIG [--config CONFIG ...] [--KEY VALUE ...]"
PARSER_SETTINGS: dict[str, Any] = {
    "usage": _USAGE,
    "description": "Train, see python train.py fit --help.",
    "test": {"command": "test", "usage": TEST_USAGE, "description": TEST_DESCRIPTION},
    "fit": {
        "command": "fit",
        "usage": _USAGE,
        "description": "Train adapters on the photos of a subject. All keys may stand in config "
        "files, on the command line, or both; what comes later holds.",
    },
}
"""Of the parser and its subcommands, for LightningCLI."""


class Parser(LightningArgumentParser):
    """LightningCLI's parser, which raises UserError instead of printing the usage and exiting.

    Args:
        command: the subcommand to parse; empty for the main parser.
    """

    def __init__(self, *args: Any, command: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.command = command
        self._negative_number_matcher = _NEGATIVE  # argparse takes -1e-4 for an option

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise UserError with a readable form of the parser's message."""
        if not self.exit_on_error:  # jsonargparse's own inner parsers expect its exception
            super().error(message, ex)
        if isinstance(ex, UserError):
            raise ex
        raise UserError(self._explain(message)) from ex

    def _explain(self, message: str) -> str:
        key = re.search(r'Parser key "([^"]+)"', message)
        package = re.search(r"No module named '([^']+)'", message)
        if key and package:
            return (
                f"{key[1]}: the package {package[1]} is not installed. Install it with pip install "
                f"{package[1]}, or choose another class."
            )
        absent = re.search(r"module '([^']+)' has no attribute '([^']+)'", message)
        if key and absent:
            return f"{key[1]}: {absent[1]} has no {absent[2]}. Is the class's name spelt right?"
        if key and (mistake := _type_mistake(message)):
            return f"{key[1]}: {mistake}"
        lacking = re.search(r"argument --(\S+): expected one argument", message)
        if lacking:
            return (
                f"{lacking[1]}: which? Give a value; one that begins with a dash is written "
                f"--{lacking[1]}=VALUE."
            )
        unknown = self._unknown_key(message)
        if unknown is None:
            return message.strip()
        known = [action.dest for action in self._actions if action.dest]
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else "See python train.py fit --help."
        return f"Unknown key {unknown}. {hint}"

    @staticmethod
    def _unknown_key(message: str) -> str | None:
        patterns = (r"Option '([^']+)' is not accepted", r"unrecognized arguments: --([^\s=]+)")
        for pattern in patterns:
            found = re.search(pattern, message)
            if found:
                return found[1]
        return None


def _type_mistake(message: str) -> str | None:
    """Return in our words that a value is of another type, if that is what the parser says."""
    expected = re.search(r"Expected a (<class .+?>|typing\.Literal\[.+?\])\. Got", message)
    expected = expected or re.search(r"Subtypes: \[(.+?)\]\n", message)
    value = re.search(r".*(?:Got|Given) value: (.*)\Z", message, re.DOTALL)
    if not expected or not value:
        return None
    types = re.findall(r"<class '(\w+)'>", expected[1])
    if any(kind not in _KINDS for kind in types):
        return None
    words = [word for part in re.findall(r"Literal\[(.+?)\]", expected[1]) for word in _words(part)]
    lists = ["a list"] if "list[" in expected[1] else []
    classes = ["the path of a class"] * bool(re.search(r"<class '\w+\.|Callable", expected[1]))
    wanted = ", ".join(dict.fromkeys([*(_KINDS[k] for k in types), *lists, *words, *classes]))
    given = value[1].strip()
    hint = ""
    if "str" in types and _NO_TEXT.fullmatch(given):
        hint = (
            " In a config file, put it in quotes: YAML reads no, yes, on and off as true or false, "
            "and what looks like a number or a time as a number."
        )
    return f"{given!r} is not allowed; it must be {'one of ' * bool(words)}{wanted}.{hint}"


def _words(literal: str) -> list[str]:
    return re.findall(r"'(.*?)'", literal) or literal.split(", ")


def check_config_files(arguments: Sequence[str]) -> None:
    """Check that the config files on the command line exist and contain YAML keys.

    The classes that the files and the command line name are checked as well: see `class_paths`.

    Args:
        arguments: command-line arguments, with `--config FILE`, `--config=FILE` or `-c FILE`.

    Raises:
        UserError: names the first config file that cannot be read or is not valid, or a class of
            a package that is not allowed.
    """
    words = [word for argument in arguments for word in argument.split("=", maxsplit=1)]
    for option, value in zip(words, words[1:], strict=False):
        is_config = len(option) > 3 and "--config".startswith(option)  # options may be cut short
        if not is_config and option != "-c":
            continue
        path = Path(value)
        content = read_yaml(path, f"--config: {value!r}")
        if not isinstance(content, dict):
            raise UserError(f"--config: {value!r} holds no keys, such as `data:` and `model:`.")
        check_config(path, content)
    check_words(arguments)


def take_dry_run(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the command line without `--dry-run [FORMAT]`, and the format; None without it.

    Raises:
        UserError: there is no such format.
    """
    left = list(arguments)
    places = [n for n, word in enumerate(left) if _dry_run_word(word)]
    form = None
    for place in reversed(places):
        _, equals, value = left.pop(place).partition("=")
        own = not equals and place < len(left) and not left[place].startswith("-")
        form = form or (value if equals else left[place] if own else DRY_RUN_FORMATS[0])
        if own:
            left.pop(place)
    if form not in (None, *DRY_RUN_FORMATS):
        raise UserError(f"--dry-run: {form!r} is not one of {', '.join(DRY_RUN_FORMATS)}.")
    return left, form


def check_dry_run(config: Any, form: str | None) -> None:
    """Check where `--dry-run` was given.

    Args:
        config: the parsed command line.
        form: what `take_dry_run` returned.

    Raises:
        UserError: with another subcommand than `fit`, or in a config file.
    """
    if form is not None and config.subcommand != "fit":
        raise UserError(f"--dry-run belongs to fit, not to {config.subcommand}.")
    if "dry_run" in config[config.subcommand]:
        raise UserError("dry_run stands in a config file; give --dry-run on the command line.")


def print_forecast(forecast: Forecast, form: str) -> None:
    """Print what a dry run has found, in a format of `DRY_RUN_FORMATS`."""
    print(json.dumps(forecast.plain(), indent=1) if form == "json" else "\n".join(forecast.lines()))


def _dry_run_word(word: str) -> bool:
    return word.partition("=")[0] in ("--dry-run", "--dry_run")
