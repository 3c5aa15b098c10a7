"""Numbers lie in the bounds that their types state; messages name the key and the interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Literal, get_args

import pytest

from dreambooth_pl.adapters.settings import AdapterSettings
from dreambooth_pl.bounds import MAX_SEED, Bounds, Filled, Seed, Share, check_values, explained
from dreambooth_pl.commands.train_keys import GROUPS
from dreambooth_pl.errors import UserError

RATE = Bounds(0, 10, open_low=True, remedy="Take 1e-4.")


@dataclass
class Inner:
    depth: Annotated[int, Bounds(1, 4, too_high="too many")] = 2


@dataclass
class Example:
    seed: Seed = 0
    share: Share | None = None
    size: Annotated[int, Bounds(1, 8)] | Literal["auto"] = "auto"
    rates: tuple[Annotated[float, RATE], Annotated[float, RATE]] = (1.0, 1.0)
    name: str = "free"
    word: Annotated[str, Filled("a word")] = "some"
    layers: list[Annotated[str, Filled("a name")]] | str = "all"
    flag: bool = False
    way: Literal["left", "right"] = "left"


@dataclass
class Outer:
    inner: Inner


GOOD = [
    {"seed": 6958252186108282},
    {"seed": MAX_SEED},
    {"share": None},
    {"share": 1},
    {"size": "auto"},
    {"size": 8},
    {"rates": [0.1, 10]},
    {"name": ""},
    {"layers": ["a", "b"]},
    {"layers": ""},
    {"way": "right"},
]
BAD = [
    ({"seed": -1}, "key.seed: -1 is too small; it must be from 0 to 2**63 - 1."),
    ({"seed": MAX_SEED + 1}, f"key.seed: {MAX_SEED + 1} is too large; it must be"),
    ({"seed": True}, "key.seed: True is no whole number from 0 to"),
    ({"seed": 1.0}, "key.seed: 1.0 is no whole number"),
    ({"seed": None}, "key.seed: None is no whole number"),
    ({"share": math.nan}, "key.share: nan is not between 0 and 1."),
    ({"share": "x" * 99}, "key.share: 'xxxx"),
    ({"size": 0}, "key.size: 0 is too small; it must be from 1 to 8."),
    ({"size": "many"}, "key.size: 'many' is no whole number"),
    ({"rates": (0.1, 0)}, "key.rates: 0 is not above 0 and at most 10. Take 1e-4."),
    ({"rates": (0.1, math.inf)}, "key.rates: inf is not above 0"),
    ({"rates": (0.1,)}, "key.rates: (0.1,) is not a list of 2 values"),
    ({"rates": 0.1}, "key.rates: 0.1 is no list"),
    ({"layers": []}, "key.layers: is an empty list"),
    ({"layers": ["a", " "]}, "key.layers: is empty; give a name."),
    ({"word": " "}, "key.word: is empty; give a word."),
    ({"word": None}, "key.word: None is no text; give a word."),
    ({"flag": None}, "key.flag: None is neither true nor false."),
    ({"flag": 1}, "key.flag: 1 is neither true nor false."),
    ({"way": "up"}, "key.way: 'up' is not one of left, right."),
    ({"way": None}, "key.way: None is not one of left, right."),
    ({"name": 7}, "key.name: 7 is no text."),
]


@pytest.mark.parametrize("values", GOOD, ids=str)
def test_what_lies_inside_is_taken(values) -> None:
    check_values(Example, values, "key")
    check_values(Example, Example(**values), "key")


@pytest.mark.parametrize(("values", "message"), BAD, ids=str)
def test_what_lies_outside_is_named(values, message) -> None:
    with pytest.raises(UserError) as told:
        check_values(Example, values, "key")
    assert str(told.value).startswith(message)
    assert len(str(told.value)) < 200


def test_settings_within_settings() -> None:
    with pytest.raises(UserError, match=r"key\.inner\.depth: 9 is too many; .* from 1 to 4"):
        check_values(Outer, {"inner": {"depth": 9}}, "key")
    assert dict(explained(Outer, "key")) == {"key.inner.depth": "from 1 to 4"}


@pytest.mark.parametrize("settings", [*GROUPS.values(), AdapterSettings], ids=lambda s: s.__name__)
def test_no_number_of_the_settings_is_without_bounds(settings) -> None:
    bounded = {key.split(".", maxsplit=1)[1] for key, _ in explained(settings, "key")}
    plain = {"int", "float", "int | None", "float | None", "tuple[float, float]"}
    for field in fields(settings):
        assert field.type not in plain, field.name
        if isinstance(field.default, (int, float)) and not isinstance(field.default, bool):
            assert field.name in bounded


def test_help_tells_the_bounds() -> None:
    words = dict(explained(AdapterSettings, "model.lora"))
    assert words["model.lora.rank"] == "from 1 to 2048"
    assert words["model.lora.dropout"] == "at least 0 and below 1"
    assert get_args(Seed)[1].mistake(0, whole=True) is None
