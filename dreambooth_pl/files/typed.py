"""Typed reading of mappings from outside: run configs, metadata of images, headers of files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from dreambooth_pl.bounds import Bounds, field_types, literal_mistake, short, union_mistake
from dreambooth_pl.errors import UserError

Settings = TypeVar("Settings")
_REQUIRED: Any = object()
_MAX_BITS = 1024  # of whole numbers; Python refuses to print those of more than 4300 digits
_MAX_PART = 255  # bytes of a file name, on all common file systems


@dataclass(frozen=True)
class Text:
    """What a text may be, as a note of `Annotated`."""

    longest: int
    """Largest number of characters."""
    empty: bool = True
    """Whether it may be empty."""
    name: bool = False
    """Whether it names a file, a folder or a model. No part of a path has more than 255 bytes."""

    def mistake(self, value: str) -> str | None:
        """Return what is wrong with a text; None if it is fine."""
        if not value and not self.empty:
            return "is empty"
        if len(value) > self.longest:
            return f"has {len(value)} characters; at most {self.longest} are possible"
        if any("\ud800" <= character <= "\udfff" or character == "\0" for character in value):
            return "holds characters that are no text"
        if self.name and any(len(part.encode()) > _MAX_PART for part in value.split("/")):
            return "is too long for a path"
        return None


Name = Annotated[str, Text(4096, empty=False, name=True)]
"""Name of a file, a folder or a model."""
Words = Annotated[str, Text(1000)]
"""A few words, such as an identifier."""
_ANY_TEXT = Text(100_000)


class TypedReader:
    """Reads values of a mapping under dotted keys, and refuses those of a wrong type.

    Args:
        source: name of the file, for messages.
        mapping: the mapping, or whatever was found in its place.
        remedy: a sentence that says what to do about a wrong value.
        lacking: end of the message about a missing key, after `FILE has no key KEY`.
    """

    def __init__(
        self, source: str | Path, mapping: Any, remedy: str = "", lacking: str = "."
    ) -> None:
        self._source = source
        self._mapping = mapping
        self._remedy = f" {remedy}" if remedy else ""
        self._lacking = lacking

    def get(self, key: str, kind: Any, default: Any = _REQUIRED) -> Any:
        """Return the value under a dotted key.

        Args:
            key: such as `model.base`.
            kind: the type, as for an annotation. `Bounds` and `Text` limit it.
            default: what a missing key means. Without it, a missing key is refused.

        Raises:
            UserError: the key is missing, or its value is of another type or out of its bounds.
        """
        value = self._mapping
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                if default is not _REQUIRED:
                    return default
                raise UserError(f"{self._source} has no key {key}{self._lacking}")
            value = value[part]
        return self.checked(key, value, kind)

    def checked(self, key: str, value: Any, kind: Any) -> Any:
        """Return a value of the mapping if it is of a type; `key` names it in messages.

        Raises:
            UserError: it is not.
        """
        wrong = mistake(value, kind)
        if wrong:
            raise UserError(f"{self._source}: {key}: {wrong}{self._remedy}")
        return value

    def settings(
        self,
        kind: type[Settings],
        key: str,
        names: Mapping[str, str] | None = None,
    ) -> Settings:
        """Return a dataclass whose fields are read from the mapping.

        Missing fields have their defaults, and keys that are no fields are skipped.

        Args:
            kind: the dataclass.
            key: dotted key of the mapping with the fields; empty for the whole.
            names: keys of the fields, by field, where they are not the fields' own names.

        Raises:
            UserError: as for `get`, or the dataclass refuses the values.
        """
        values: Any = self.get(key, dict) if key else self._mapping
        start, given = f"{key}." if key else "", {}
        for field, hint in field_types(kind).items():
            name = (names or {}).get(field, field)
            if name in values:
                given[field] = self.checked(f"{start}{name}", values[name], hint)
        try:
            return kind(**given)
        except (UserError, TypeError) as error:
            raise UserError(f"{self._source}: {error}{self._remedy}") from error


def mistake(value: Any, kind: Any) -> str | None:
    """Return what is wrong with a value of a type, for after the key; None if it is fine.

    Args:
        value: of any type.
        kind: the type that it should have: `str`, `int`, `float`, `bool`, `list`, `dict`, `None`,
            `Any`, or a `Literal`, union or `Annotated` of these.
    """
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        return "the number is too large."
    origin = get_origin(kind)
    if kind is Any:
        return None
    if origin is Annotated:
        return _annotated(value, *get_args(kind))
    if origin in (Union, UnionType):
        return union_mistake(value, get_args(kind), mistake)
    if origin is Literal:
        return literal_mistake(value, get_args(kind))
    if kind in (None, NoneType):
        return None if value is None else f"{short(value)} is not null."
    if kind is str:
        return _annotated(value, str, _ANY_TEXT)
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if number and math.isfinite(value) else f"{short(value)} is no number."
    if origin in (list, dict):
        return _of_items(value, origin, get_args(kind))
    assert isinstance(kind, type), kind
    fine = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    return None if fine else f"{short(value)} is no {_WORDS.get(kind, kind.__name__)}."


_WORDS = {int: "whole number", bool: "true or false", list: "list", dict: "group of keys"}


def _annotated(value: Any, kind: Any, *notes: Any) -> str | None:
    for note in notes:
        if isinstance(note, Bounds):
            return note.mistake(value, whole=kind is int)
        if isinstance(note, Text):
            if not isinstance(value, str):
                return f"{short(value)} is no text."
            wrong = note.mistake(value)
            return wrong and f"{short(value)} {wrong}."
    return mistake(value, kind)


def _of_items(value: Any, kind: type, kinds: tuple[Any, ...]) -> str | None:
    if not isinstance(value, kind):
        return f"{short(value)} is no {_WORDS[kind]}."
    if kind is list:
        return next(filter(None, (mistake(one, kinds[0]) for one in value)), None)
    pairs = ((one, part) for item in value.items() for one, part in zip(item, kinds, strict=True))
    return next(filter(None, (mistake(one, part) for one, part in pairs)), None)
