"""What a setting's value may be: written once, in its type, for its check and its help.

A setting says `rank: Annotated[int, Bounds(1, 2048)] = 8`. `check_values` holds the values of a
settings class against all its types, and `explained` tells the bounds to the command line's help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from dreambooth_pl.errors import UserError

MAX_SEED = 2**63 - 1
Mistake = Callable[[Any, Any], str | None]
"""What is wrong with a value of a type; None if nothing is."""


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
        return f"{short(value)} {problem}.{f' {self.remedy}' if self.remedy else ''}"


Seed = Annotated[int, Bounds(0, MAX_SEED)]
"""A seed: whatever PyTorch's generators take that is not negative."""
Share = Annotated[float, Bounds(0, 1)]
"""A probability, or a weight against 1."""


@dataclass(frozen=True)
class Filled:
    """Text that must not be blank."""

    remedy: str
    """What to give, such as `a rare word, such as sks`."""

    def mistake(self, value: Any) -> str | None:
        """Return what is wrong with a value and what to do, as a sentence; None if it is fine."""
        if not isinstance(value, str):
            return f"{short(value)} is no text; give {self.remedy}."
        return None if value.strip() else f"is empty; give {self.remedy}."


def check_values(settings: type, values: Any, group: str) -> None:
    """Check all values of a settings class against the types of its fields.

    Args:
        settings: a dataclass.
        values: of its fields: a mapping, or an object with such attributes. Fields without a value
            are skipped.
        group: what messages put before a field's name, such as `data`.

    Raises:
        UserError: a number is outside its bounds, or a value is of another type; names its key.
    """
    values = values if isinstance(values, Mapping) else vars(values)
    for name, hint in field_types(settings).items():
        if name not in values:
            continue
        key, value = f"{group}.{name}", values[name]
        if is_dataclass(hint):
            if not is_dataclass(value):  # else it was checked when it was made
                check_values(hint, value, key)
            continue
        mistake = _mistake(value, hint)
        if mistake:
            raise UserError(f"{key}: {mistake}")


def explained(settings: type, group: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted key of each number in a settings class, with its interval in words."""
    for name, hint in field_types(settings).items():
        key, bounds = f"{group}.{name}", _bounds(hint)
        if is_dataclass(hint):
            yield from explained(hint, key)
        elif bounds is not None:
            yield key, str(bounds)


@cache
def field_types(settings: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields, bounds included."""
    hints = get_type_hints(settings, include_extras=True)
    return {field.name: hints[field.name] for field in fields(settings)}


def literal_mistake(value: Any, choices: Sequence[Any]) -> str | None:
    """Return what is wrong with a value that must be one of `choices`; None if it is one.

    True is not 1 here, nor is 1.0.
    """
    if any(type(value) is type(one) and value == one for one in choices):
        return None
    return f"{short(value)} is not one of {', '.join(map(str, choices))}."


def union_mistake(value: Any, kinds: Sequence[Any], mistake: Mistake) -> str | None:
    """Return what `mistake` says of the first of `kinds`; None if it accepts any of them.

    The first says more than the others, which are most often only null.
    """
    mistakes = [mistake(value, kind) for kind in kinds]
    return None if None in mistakes else mistakes[0]


def _bounds(hint: Any) -> Bounds | None:
    """Return the bounds in a type, the first if there are several."""
    if get_origin(hint) is Annotated:
        return next((note for note in get_args(hint) if isinstance(note, Bounds)), None)
    return next(filter(None, map(_bounds, get_args(hint))), None)


def _mistake(value: Any, hint: Any) -> str | None:
    """Return what is wrong with a value of a type; None if nothing, or if the type is another's."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated_mistake(parts[0], parts[1:], value)
    if origin in (Union, UnionType):
        return union_mistake(value, parts, _mistake)
    if origin is Literal:
        return literal_mistake(value, parts)
    if origin in (list, tuple):
        return _sequence_mistake(origin, parts, value)
    if hint is NoneType:
        return None if value is None else f"{short(value)} is not null."
    if hint is bool:
        return None if isinstance(value, bool) else f"{short(value)} is neither true nor false."
    if hint is str:
        return None if isinstance(value, str) else f"{short(value)} is no text."
    return None


def _annotated_mistake(kind: type, notes: Sequence[Any], value: Any) -> str | None:
    for note in notes:
        if isinstance(note, Bounds):
            return note.mistake(value, whole=kind is int)
        if isinstance(note, Filled):
            return note.mistake(value)
    return _mistake(value, kind)


def _sequence_mistake(origin: type, parts: Sequence[Any], value: Any) -> str | None:
    if not isinstance(value, (list, tuple)):
        return f"{short(value)} is no list."
    if not value:
        return "is an empty list."
    if origin is tuple and len(value) != len(parts):
        return f"{short(value)} is not a list of {len(parts)} values."
    hints = parts if origin is tuple else parts * len(value)
    return next(filter(None, map(_mistake, value, hints)), None)


def _plain(number: float) -> str:
    return "2**63 - 1" if number == MAX_SEED else f"{number:.10g}"


def short(value: Any) -> str:
    """Return a value in one short line, whatever it is."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except (ValueError, RecursionError):  # Python does not print numbers of very many digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
