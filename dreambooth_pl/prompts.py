"""Identifiers, class nouns, subjects and sets of prompts: facts read from `facts/*.yaml`.

A prompt template holds `{identifier}` and `{class}`, which `fill` replaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from dreambooth_pl.errors import UserError

FACTS = files("dreambooth_pl").joinpath("facts")
"""Folder of the YAML files."""


def read_facts(name: str) -> dict[str, Any]:
    """Return what `facts/NAME.yaml` says."""
    return yaml.safe_load(FACTS.joinpath(f"{name}.yaml").read_text(encoding="utf-8"))


_SUBJECT_FACTS = read_facts("subjects")

IDENTIFIERS: tuple[str, ...] = tuple(read_facts("identifiers")["identifiers"])
"""Rare tokens that the project's experiments use for the subject."""
SUBJECTS: dict[str, str] = _SUBJECT_FACTS["subjects"]
"""The DreamBooth dataset's 30 subjects, each with its class noun."""
OWN_SUBJECTS: dict[str, str] = _SUBJECT_FACTS["own_subjects"]
"""Subjects of this project, each with its class noun."""
CLASS_NOUNS: tuple[str, ...] = tuple(dict.fromkeys(SUBJECTS.values()))
"""The dataset's 15 class nouns."""
FIRST_IMAGE = "A {identifier} {class}"
"""Template of the plainest picture of the subject."""
IMAGES_PER_PROMPT = 4
"""The paper's number of images per subject and prompt."""
PROMPT_SETS = ("probes", "dreambench_live", "dreambench_object", "validation")
"""Names that `prompt_set` knows; any other is taken for the path of a YAML file."""

_LIVE_NOUNS = frozenset(_SUBJECT_FACTS["live"] + _SUBJECT_FACTS["also_live"])
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True)
class PromptSet:
    """Prompt templates with a name.

    Attributes:
        name: of the set.
        prompts: templates.
        labels: what each template says, in a word or a few.
        kinds: the sort of each template, such as `setting`; empty text where none is given.
        images_per_prompt: how many images of each an evaluation draws.
    """

    name: str
    prompts: tuple[str, ...]
    labels: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    images_per_prompt: int = IMAGES_PER_PROMPT


def is_live(class_noun: str) -> bool:
    """Whether the noun takes the live list of prompts (with clothes) or the object list.

    >>> is_live("dog"), is_live("teapot")
    (True, False)
    """
    return class_noun.strip().lower() in _LIVE_NOUNS


def fill(template: str, identifier: str | None, class_noun: str) -> str:
    """Put identifier and class noun into a template; without identifier, its space goes, too.

    Raises:
        UserError: the template has another placeholder than `{identifier}` and `{class}`.

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


def check_template(template: str) -> None:
    """Raise UserError if a template has other placeholders than `{identifier}` and `{class}`."""
    unknown = set(_PLACEHOLDER.findall(template)) - {"{identifier}", "{class}"}
    if unknown:
        raise UserError(
            f"the prompt {template!r} holds {', '.join(sorted(unknown))}; only {{identifier}} and "
            "{class} are filled in"
        )


def prompt_set(name: str | Path) -> PromptSet:
    """Return a set of prompt templates by its name (see `PROMPT_SETS`) or from a YAML file.

    A file holds a list of templates, a mapping of labels to templates, or a mapping of kinds
    (`setting`, `property`, ...) to lists of templates; either at the top or under the key
    `prompts`, beside an optional `name` and `images_per_prompt`.

    Raises:
        UserError: no such set or file, or a file that does not read as one.

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
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a YAML file: {error}") from error
    return _parse_prompt_set(content, path.stem, str(path))


def _parse_prompt_set(content: Any, name: str, source: str) -> PromptSet:
    images, prompts = IMAGES_PER_PROMPT, content
    if isinstance(content, dict) and "prompts" in content:
        name, prompts = str(content.get("name", name)), content["prompts"]
        images = content.get("images_per_prompt", images)
    if not isinstance(images, int) or isinstance(images, bool) or images < 1:
        raise UserError(f"{source}: images_per_prompt is {images!r}; it must be a number from 1 on")
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
    """Return label, kind and template of each prompt; nothing for what is no list of prompts."""
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
    """Return what a template says besides "a {identifier} {class}".

    >>> _label("a {identifier} {class} in the snow"), _label("a red {identifier} {class}")
    ('in the snow', 'red')
    """
    words = _PLACEHOLDER.sub("", str(template)).split()
    if words and words[0].lower() in ("a", "an"):
        words = words[1:]
    return " ".join(words) or "plain"
