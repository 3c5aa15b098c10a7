"""What the studio says, a file per language in `languages/`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from dreambooth_pl.files.dotted_keys import flatten

LANGUAGES = {"en": "English", "ru": "Русский"}
"""Names of the languages, each in itself. A new one is a file and an entry."""


class Texts:
    """The texts of a language.

    Args:
        language: one of `LANGUAGES`.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self.all = read_language(language)

    def __call__(self, key: str, **values: Any) -> str:
        """Return the text of a key, such as `train.start`, with the values filled in."""
        text = self.all[key]
        return text.format(**values) if values else text


@cache
def read_language(language: str) -> dict[str, str]:
    """Return the texts of a language by their dotted keys."""
    path = files("dreambooth_pl").joinpath("studio", "languages", f"{language}.yaml")
    return flatten(yaml.safe_load(path.read_text(encoding="utf-8")))


def preferred_language(accepted: str) -> str:
    """Return the language that a browser prefers, of those that there are.

    Args:
        accepted: its header Accept-Language.

    >>> preferred_language("fr-CH, fr;q=0.9, ru;q=0.8, en;q=0.7"), preferred_language("de")
    ('ru', 'en')
    """
    return next((one for one in _by_quality(accepted) if one in LANGUAGES), "en")


def _by_quality(accepted: str) -> Iterable[str]:
    entries = []
    for part in accepted.split(","):
        name, _, quality = part.strip().partition(";q=")
        try:
            entries.append((-float(quality or 1), name.partition("-")[0].lower()))
        except ValueError:
            continue
    return [name for _, name in sorted(entries, key=lambda entry: entry[0])]
