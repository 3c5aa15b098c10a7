"""Bounds of numbers: written once, in a setting's type, for its check and its help.

A setting says `rank: Annotated[int, Bounds(1, 2048)] = 8`. `check_numbers` holds the values of a
settings class against all its bounds, and `explained` tells them to the command line's help.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from dreambooth_pl.errors import UserError

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Bounds:
    """The interval that a number lies in. It has two ends, so NaN and infinity are outside."""

    low: float
    high: float
    open_low: bool = False
    """Whether `low` itself is outside."""
    open_high: bool = False
    """Whether `high` itself is outside."""
    too_high: str = "too large"
    """What a whole number above `high` is; `too many` for a count."""
    remedy: str = ""
    """A sentence that says what to do instead."""

    def __contains__(self, value: float) -> bool:
        """Return whether a number is inside; NaN compares false, so it never is."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        """Return the interval in words.

        >>> str(Bounds(1, 64)), str(Bounds(0, 10, open_low=True))
        ('from 1 to 64', 'above 0 and at most 10')
        """
        if not (self.open_low or self.open_high):
            return f"from {_plain(self.low)} to {_plain(self.high)}"
        low = "above" if self.open_low else "at least"
        high = "below" if self.open_high else "at most"
        return f"{low} {_plain(self.low)} and {high} {_plain(self.high)}"

    def check(self, key: str, value: Any, whole: bool) -> None:
        """Check a value; `key` is its name for the message.

        Raises:
            UserError: see `mistake`.
        """
        mistake = self.mistake(value, whole)
        if mistake:
            raise UserError(f"{key}: {mistake}")

    def mistake(self, value: Any, whole: bool) -> str | None:
        """Return what is wrong with a value and what to do, as a sentence; None if it is fine.

        Args:
            value: of any type, as a file may have brought it.
            whole: whether it must be a whole number.
        """
        kinds = int if whole else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool):
            problem = f"is no {'whole number' if whole else 'number'} {self}"
        elif value in self:
            return None
        elif whole:
            wrong = "too small" if value < self.low else self.too_high
            problem = f"is {wrong}; it must be {self}"
        else:
            closed = not (self.open_low or self.open_high)
            between = f"between {_plain(self.low)} and {_plain(self.high)}"
            problem = f"is not {between if closed else self}"
        return f"{_short(value)} {problem}.{f' {self.remedy}' if self.remedy else ''}"


Seed = Annotated[int, Bounds(0, MAX_SEED)]
"""A seed: whatever PyTorch's generators take that is not negative."""
Share = Annotated[float, Bounds(0, 1)]
"""A probability, or a weight against 1."""


@dataclass(frozen=True)
class _Number:
    """A type with bounds: what `Annotated` says, and what may stand in the number's place."""

    whole: bool
    bounds: Bounds
    instead: tuple[Any, ...] = ()
    """Other values that are fine, such as None or `auto`."""
    length: int | None = None
    """Of a tuple of such numbers; None for one number."""

    def check(self, key: str, value: Any) -> None:
        if any(value is one or (isinstance(value, str) and value == one) for one in self.instead):
            return
        if self.length is None:
            return self.bounds.check(key, value, self.whole)
        if not isinstance(value, (list, tuple)) or len(value) != self.length:
            raise UserError(
                f"{key}: {_short(value)} is not a list of {self.length} numbers {self.bounds}."
            )
        for one in value:
            self.bounds.check(key, one, self.whole)
        return None


def check_numbers(settings: type, values: Any, group: str) -> None:
    """Check all numbers of a settings class.

    Args:
        settings: a dataclass.
        values: of its fields: a mapping, or an object with such attributes. Fields without a value
            are skipped.
        group: what messages put before a field's name, such as `data`.

    Raises:
        UserError: a value is outside its bounds; names its key.
    """
    values = values if isinstance(values, Mapping) else vars(values)
    for name, hint in _hints(settings).items():
        if name not in values:
            continue
        key, value = f"{group}.{name}", values[name]
        if is_dataclass(hint):
            if not is_dataclass(value):  # else it was checked when it was made
                check_numbers(hint, value, key)
            continue
        number = _number(hint)
        if number is not None:
            number.check(key, value)


def explained(settings: type, group: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted key of each number in a settings class, with its interval in words."""
    for name, hint in _hints(settings).items():
        key, number = f"{group}.{name}", _number(hint)
        if is_dataclass(hint):
            yield from explained(hint, key)
        elif number is not None:
            yield key, str(number.bounds)


@cache
def _hints(settings: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields, bounds included."""
    return get_type_hints(settings, include_extras=True)


def _number(hint: Any) -> _Number | None:
    """Return the number that a type stands for; None for a type without bounds."""
    origin = get_origin(hint)
    if origin is Annotated:
        kind, *notes = get_args(hint)
        bounds = next((note for note in notes if isinstance(note, Bounds)), None)
        return None if bounds is None else _Number(kind is int, bounds)
    if origin is tuple:
        first = _number(get_args(hint)[0])
        return first and _Number(first.whole, first.bounds, length=len(get_args(hint)))
    if origin in (Union, UnionType):
        parts = get_args(hint)
        number = next(filter(None, map(_number, parts)), None)
        words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
        nothing = [None] if NoneType in parts else []
        return number and _Number(number.whole, number.bounds, (*words, *nothing), number.length)
    return None


def _plain(number: float) -> str:
    return "2**63 - 1" if number == MAX_SEED else f"{number:.10g}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
