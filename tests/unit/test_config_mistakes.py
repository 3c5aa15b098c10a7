"""Every key times every kind of bad value: one message that names the key, and no traceback.

The cases are generated from the settings' own fields, so that a new key is tested as it is added.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from dreambooth_pl.bounds import MAX_SEED, Bounds, Filled, check_values
from dreambooth_pl.commands import train
from dreambooth_pl.commands.train_keys import GROUPS, check_config_values, check_seed
from dreambooth_pl.commands.train_parser import Parser
from dreambooth_pl.data.settings import DataSettings
from dreambooth_pl.errors import UserError

NUMBERS = [math.nan, math.inf, -math.inf, -1, 0, 10**12, -(10**12), 1e300]
NO_NUMBERS = ["x", "", [1], {"a": 1}, True]
NO_TEXT = [7, [1], {"a": 1}, True, None]
NO_BOOL = ["maybe", "", 3, math.nan, [], None]
NO_WORD = ["nonsense", "", 7, [], True, None]
SECONDS = 20


@dataclass(frozen=True)
class Mistake:
    """A bad value of a key."""

    group: str
    key: str
    """Below the group, dotted."""
    value: Any

    def __str__(self) -> str:
        return f"{self.group}.{self.key}={self.value!r}"

    @property
    def config(self) -> dict[str, Any]:
        """The group's part of a config that makes this mistake."""
        value = self.value
        for part in reversed(self.key.split(".")):
            value = {part: value}
        return {self.group: value}


def bad_values(hint: Any) -> list[Any] | None:
    """Values that a type does not take; None for a type that is not ours to check."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated and isinstance(parts[1], Bounds):
        fractions = [1.5] if parts[0] is int else []
        numbers = [n for n in NUMBERS if n not in parts[1]]
        return [*numbers, *fractions, *NO_NUMBERS, None]
    if origin is Annotated and isinstance(parts[1], Filled):
        return ["", "  ", *NO_TEXT]
    if origin is Literal:
        return NO_WORD
    if origin is tuple:
        return [*([bad] * len(parts) for bad in bad_values(parts[0]) or ()), [], [0.5], None]
    if origin is list:
        return [*([bad] for bad in bad_values(parts[0]) or ()), []]
    if origin in (Union, UnionType):
        return bad_values_of_all(parts)
    return {bool: NO_BOOL, str: NO_TEXT}.get(hint)


def bad_values_of_all(parts: tuple[Any, ...]) -> list[Any] | None:
    """Values that are bad for each of several types, of which the first has most to say."""
    bad = [bad_values(part) for part in parts if part not in (NoneType, str)]
    if None in bad:
        return None
    numbers = get_origin(parts[0]) is Annotated
    found = bad[0] if numbers else [value for values in bad for value in values]
    takes_text = any(part is str or (bad_values(part) or [1])[0] == "" for part in parts)
    return [
        value
        for number, value in enumerate(found)
        if repr(value) not in map(repr, found[:number])  # NaN is not itself
        and not (NoneType in parts and value is None)
        and not (takes_text and isinstance(value, str) and value.strip())
    ]


def mistakes(settings: type, group: str, prefix: str = "") -> Iterator[Mistake]:
    for name, hint in get_type_hints(settings, include_extras=True).items():
        if is_dataclass(hint):
            yield from mistakes(hint, group, f"{prefix}{name}.")
        for value in bad_values(hint) or () if not is_dataclass(hint) else ():
            yield Mistake(group, prefix + name, value)


OWN = [group for group in GROUPS if group != "trainer"]
ALL = [mistake for group in OWN for mistake in mistakes(GROUPS[group], group)]
# Devices and folders are of types that Lightning takes in many ways; they have cases of their own.
OF_TRAINER = [
    mistake
    for mistake in mistakes(GROUPS["trainer"], "trainer")
    if mistake.key not in ("devices", "default_root_dir")
] + [
    *(Mistake("trainer", "devices", value) for value in (10**12, -2, "10000000000", [])),
    *(Mistake("trainer", "max_time", value) for value in ("", "soon", "00:00:00:00", {"days": -1})),
    *(Mistake("trainer", "max_time", value) for value in ({"lightyears": 1}, "99999999999:0:0:0")),
    *(Mistake("trainer", "default_root_dir", value) for value in ("", " ")),
]


class _Built(Exception):
    """The command line's parser is there; nothing is run."""


class _ParserOnly(train.DreamBoothCLI):
    def parse_arguments(self, parser: Parser, args: list[str] | None) -> None:
        self.built = parser
        raise _Built


@pytest.fixture(scope="module")
def whole_parser() -> Parser:
    """The parser of `train.py fit`."""
    command = _ParserOnly.__new__(_ParserOnly)
    with pytest.raises(_Built):
        command.__init__([])
    return command._subcommand_parsers["fit"]


def test_no_group_of_keys_is_left_unchecked(whole_parser) -> None:
    keys = [action.dest for action in whole_parser._actions]
    assert {key.split(".")[0] for key in keys if "." in key} == set(GROUPS)


@pytest.fixture(scope="module")
def parsers() -> dict[str, Parser]:
    """A parser for each group alone, which is faster."""
    made = {}
    for group in OWN:
        made[group] = Parser()
        made[group].add_class_arguments(GROUPS[group], group)
    return made


def told(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert len(message) < 700, message
    assert "Traceback" not in message and "<class" not in message, message
    return message


def test_there_are_many_and_they_are_of_every_key() -> None:
    assert len(ALL) + len(OF_TRAINER) >= 250
    assert len({str(mistake) for mistake in ALL}) == len(ALL)
    keys = {f"{mistake.group}.{mistake.key}" for mistake in ALL}
    unchecked = {"model.optimizer"}  # a class and its arguments: the parser makes it
    for group in OWN:
        for name, hint in get_type_hints(GROUPS[group]).items():
            if not is_dataclass(hint):
                assert f"{group}.{name}" in keys | unchecked, name


@pytest.mark.parametrize("group", OWN)
def test_a_bad_value_of_our_own_keys_is_named(parsers, group) -> None:
    start = time.process_time()
    own = [mistake for mistake in ALL if mistake.group == group]
    assert own
    for mistake in own:
        with pytest.raises(UserError) as error:  # and nothing else
            config = parsers[group].parse_object(mistake.config)
            check_values(GROUPS[group], vars(config[group]), group)
            raise AssertionError(f"{mistake} is accepted")
        assert f"{group}.{mistake.key.split('.')[0]}" in told(error), mistake
        assert mistake.key.split(".")[-1] in told(error), mistake
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("mistake", OF_TRAINER, ids=str)
def test_a_bad_value_of_the_trainers_keys_is_named(whole_parser, mistake) -> None:
    with pytest.raises(UserError) as error:
        check_config_values(whole_parser.parse_object(mistake.config))
        raise AssertionError("it is accepted")
    assert f"trainer.{mistake.key}" in told(error)


@pytest.mark.parametrize(
    "seed", [-1, MAX_SEED + 1, 10**30, 1.5, math.nan, "x", "", None, True, [1]]
)
def test_a_bad_seed_is_named(whole_parser, seed) -> None:
    with pytest.raises(UserError, match="seed_everything") as error:
        check_seed(whole_parser.parse_object({"seed_everything": seed}).seed_everything)
    told(error)


@pytest.mark.parametrize("seed", [0, 42, 2**32, 6958252186108282, MAX_SEED])
def test_a_good_seed_is_kept_whole(whole_parser, seed) -> None:
    config = whole_parser.parse_object({"seed_everything": seed})
    check_seed(config.seed_everything)
    check_config_values(config)
    assert config.seed_everything == seed


def test_the_defaults_and_the_configs_are_fine(whole_parser) -> None:
    root = Path(train.__file__).parents[2] / "configs"
    for path in [*root.glob("*.yaml"), *root.glob("options/*.yaml"), *root.glob("base/*.yaml")]:
        config = whole_parser.parse_path(str(path))
        check_config_values(config)
        DataSettings(**config.data)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model.learning_rate", ".nan", "nan is not above 0 and at most 10"),
        ("data.batch_size", "100000", "too large; it must be from 1 to 512. For larger steps"),
        ("trainer.accumulate_grad_batches", "0", "too small; it must be from 1 to"),
        ("model.lora.rank", "10000", "too large; it must be from 1 to 2048"),
        ("data.identifier", "", "is empty; give a rare word, such as sks"),
        ("trainer.max_time", "soon", "DD:HH:MM:SS"),
        ("seed_everything", "-1", "too small; it must be from 0 to 2**63 - 1"),
    ],
)
def test_the_command_tells_it_before_anything_is_written(
    tmp_path, monkeypatch, capsys, key, value, words
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(["fit", f"--{key}={value}", "--trainer.accelerator=cpu"]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: {key}: ") and words in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {identifier: no}", "data.identifier: 'False' .*put it in quotes: YAML reads no"),
        ("data: {class_noun: 1e3}", "data.class_noun: '1000.0' .*quotes.*number"),
        ("data: {class_noun: 1:30}", "data.class_noun: '90' .*quotes.*time"),
    ],
)
def test_what_yaml_makes_of_words_is_told(whole_parser, text, words) -> None:
    with pytest.raises(UserError, match=words):
        whole_parser.parse_string(text)


@pytest.mark.parametrize("value", ["-1e-4", "-1E-4", "-.5", "-2.5e+3", "-1"])
def test_a_negative_number_is_no_option(whole_parser, value) -> None:
    config = whole_parser.parse_args(["--model.learning_rate", value])
    assert config.model.learning_rate == float(value)
    with pytest.raises(UserError, match="model.learning_rate: .*is not above 0"):
        check_config_values(config)


@pytest.mark.parametrize("following", [[], ["--model.base=x"], ["-x"]])
def test_a_value_that_is_missing_is_told(whole_parser, following) -> None:
    with pytest.raises(UserError, match="model.learning_rate: which.*--model.learning_rate=VALUE"):
        whole_parser.parse_args(["--model.learning_rate", *following])


@pytest.mark.parametrize(
    ("key", "value", "choice"),
    [
        ("trainer.precision", "fp8", "bf16-mixed, 32-true"),
        ("model.adapter", "lorra", "lora, lokr, loha"),
        ("trainer.logger", "Nonsense", "the path of a class"),
        ("trainer.callbacks", "Nonsense", "the path of a class"),
        ("model.optimizer", "Nonsense", "the path of a class"),
    ],
)
def test_choices_are_listed_and_no_types(whole_parser, key, value, choice) -> None:
    with pytest.raises(UserError, match=f"{key}: '{value}' is not allowed") as error:
        whole_parser.parse_args([f"--{key}={value}"])
    message = told(error)
    assert choice in message and "Union" not in message and "Literal" not in message
    listed = message.split("must be ")[1].removesuffix(".").split(", ")
    assert len(listed) == len(set(listed))
