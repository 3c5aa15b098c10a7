"""Identifiers, class nouns, subjects and sets of prompts, read from `facts/*.yaml`.

A prompt template contains `{identifier}` and `{class}`, which `fill` replaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from dreambooth_pl.bounds import Bounds
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.plain_yaml import read_yaml

FACTS = files("dreambooth_pl").joinpath("facts")
"""Folder of the YAML files."""


def read_facts(name: str) -> dict[str, Any]:
    """Return what `facts/NAME.yaml` says."""
    return yaml.safe_load(FACTS.joinpath(f"{name}.yaml").read_text(encoding="utf-8"))


_SUBJECT_FACTS = read_facts("subjects")

IDENTIFIERS: tuple[str, ...] = tuple(read_facts("identifiers")["identifiers"])
"""Rare tokens that name the subject in the project's experiments."""
SUBJECTS: dict[str, str] = _SUBJECT_FACTS["subjects"]
"""The 30 subjects of the DreamBooth dataset with their class nouns."""
OWN_SUBJECTS: dict[str, str] = _SUBJECT_FACTS["own_subjects"]
"""The project's own subjects with their class nouns."""
CLASS_NOUNS: tuple[str, ...] = tuple(dict.fromkeys(SUBJECTS.values()))
"""The 15 class nouns of the DreamBooth dataset."""
FIRST_IMAGE = "A {identifier} {class}"
"""Template of the plainest image of the subject."""
IMAGES_PER_PROMPT = 4
"""Images per subject and prompt in the paper."""
_IMAGES = Bounds(1, 1000, too_high="too many", remedy=f"The paper has {IMAGES_PER_PROMPT}.")
PROMPT_SETS = ("probes", "dreambench_live", "dreambench_object", "validation")
"""Names that `prompt_set` knows. It takes any other name for the path of a YAML file."""

_LIVE_NOUNS = frozenset(_SUBJECT_FACTS["live"] + _SUBJECT_FACTS["also_live"])
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True)
class PromptSet:
    """A named set of prompt templates."""

    name: str
    """Name of the set."""
    prompts: tuple[str, ...]
    """The templates."""
    labels: tuple[str, ...]
    """Short description of each template."""
    kinds: tuple[str, ...] = ()
    """Kind of each template, such as `setting`; empty text if the set gives none."""
    images_per_prompt: int = IMAGES_PER_PROMPT
    """Images that an evaluation generates per prompt."""


def is_live(class_noun: str) -> bool:
    """Return whether a noun gets the live list of prompts (with clothes), not the object list.

    >>> is_live("dog"), is_live("teapot")
    (True, False)
    """
    return class_noun.strip().lower() in _LIVE_NOUNS


def fill(template: str, identifier: str | None, class_noun: str) -> str:
    """Fill identifier and class noun into a template.

    Args:
        template: the template.
        identifier: the identifier; `None` or empty text removes it and the space next to it.
        class_noun: the class noun.

    Raises:
        UserError: the template has a placeholder other than `{identifier}` and `{class}`.

    >>> fill("a {identifier} {class} in the snow", "sks", "dog")
    'a sks dog in the snow'
    >>> fill("a {identifier} {class} in the snow", None, "dog")
    'a dog in the snow'
    """
    check_template(template)
    if not identifier:
        template = re.sub(r"\{identifier\}\s+|\s*\{identifier\}", "", template)
    values = {"{identifier}": identifier or "", "{class}": class_noun}
    return _PLACEHOLDER.sub(lambda found: values[found[0]], template)


def says_word(text: str, word: str) -> bool:
    """Return whether a text holds a word, as CLIP's tokenizer reads them: in any case.

    >>> says_word("a photo of SKS dog", "sks"), says_word("a sksdog", "sks")
    (True, False)
    """
    pattern = rf"(?<!\w){re.escape(word.strip().casefold())}(?!\w)"
    return re.search(pattern, text.casefold()) is not None


def check_template(template: str) -> None:
    """Check the placeholders of a template.

    Raises:
        UserError: a placeholder is neither `{identifier}` nor `{class}`, or a brace is alone.
    """
    if set("{}") & set(_PLACEHOLDER.sub("", template)):
        raise UserError(
            f"the prompt {template!r} holds a brace without its partner; write {{identifier}} and "
            "{class}, each with both braces"
        )
    unknown = set(_PLACEHOLDER.findall(template)) - {"{identifier}", "{class}"}
    if unknown:
        raise UserError(
            f"the prompt {template!r} holds {', '.join(sorted(unknown))}; only {{identifier}} and "
            "{class} are filled in"
        )


def prompt_set(name: str | Path) -> PromptSet:
    """Load a set of prompt templates.

    A YAML file contains a list of templates, a mapping of labels to templates, or a mapping of
    kinds (`setting`, `property`, ...) to lists of templates. They are at the top level or under the
    key `prompts`, next to an optional `name` and `images_per_prompt`.

    Args:
        name: one of `PROMPT_SETS`, or the path of a YAML file.

    Raises:
        UserError: the set or file does not exist, or the file has another format.

    >>> prompt_set("probes").labels
    ('clothing', 'style', 'place', 'action')
    """
    if str(name) in PROMPT_SETS:
        return _parse_prompt_set(read_facts(str(name)), str(name), str(name))
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"{str(name)!r} is neither a set of prompts ({', '.join(PROMPT_SETS)}) nor a file. "
            "Give one of these names or the path of a YAML file with a list of prompts."
        )
    return _parse_prompt_set(read_yaml(path), path.stem, str(path))


def _parse_prompt_set(content: Any, name: str, source: str) -> PromptSet:
    images, prompts = IMAGES_PER_PROMPT, content
    if isinstance(content, dict) and "prompts" in content:
        name, prompts = str(content.get("name", name)), content["prompts"]
        images = content.get("images_per_prompt", images)
    _IMAGES.check(f"{source}: images_per_prompt", images, whole=True)
    entries = _entries(prompts)
    if not entries:
        raise UserError(
            f"{source}: needs a list of prompts, such as `- a {{identifier}} {{class}}`"
        )
    for _, _, template in entries:
        if not isinstance(template, str):
            raise UserError(f"{source}: {template!r} is not text; put quotes around the prompt")
        try:
            check_template(template)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
    labels, kinds, templates = zip(*entries, strict=True)
    twice = [template for template in dict.fromkeys(templates) if templates.count(template) > 1]
    if twice:
        raise UserError(f"{source}: holds the prompt {twice[0]!r} twice; leave one out")
    return PromptSet(name, templates, labels, kinds, images)


def _entries(prompts: Any) -> list[tuple[str, str, Any]]:
    """Return label, kind and template of each prompt; nothing if `prompts` has another format."""
    if isinstance(prompts, list):
        return [(_label(template), "", template) for template in prompts]
    if not isinstance(prompts, dict):
        return []
    found = []
    for key, value in prompts.items():
        of_kind = isinstance(value, list)
        found += [(_label(t), str(key), t) for t in value] if of_kind else [(str(key), "", value)]
    return found


def _label(template: Any) -> str:
    """Return a template without "a {identifier} {class}".

    >>> _label("a {identifier} {class} in the snow"), _label("a red {identifier} {class}")
    ('in the snow', 'red')
    """
    words = _PLACEHOLDER.sub("", str(template)).split()
    if words and words[0].lower() in ("a", "an"):
        words = words[1:]
    return " ".join(words) or "plain"
