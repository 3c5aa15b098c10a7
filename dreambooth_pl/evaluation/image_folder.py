"""A folder of images and the prompts that they were generated from: ours, or another tool's.

Which image belongs to which prompt is said in one of two ways:

- `metadata.jsonl` in the folder, a line of JSON per image: `{"file_name": "a.png", "prompt":
  "a sks dog in the snow"}`. Optional keys: `class_text`, the prompt without the identifier,
  which CLIP-T compares with; `template`, equal for images of the same prompt; `kind`, such as
  `setting`; `label` and `seed`. Our own evaluations write it with all of them.
- file names, beside a file of prompts: `P_K.png` or `P/K.png`, where P is the number of the
  prompt in that file, counted from 0, and K that of the image, with any number of leading zeros.

Every prompt must have an image, and every image file of the folder must belong to a prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth_pl.data.photos import read_photo
from dreambooth_pl.data.sidecars import PICTURE_SUFFIXES
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.image_store import is_black
from dreambooth_pl.evaluation.protocols import ImagePlan, make_plan
from dreambooth_pl.files.atomic import write_text
from dreambooth_pl.sampling.requests import ImageRequest

INDEX = "metadata.jsonl"
UNKNOWN_SEED = -1  # of images that nobody says the seed of
_NAME = re.compile(r"(\d+)[_/](\d+)")


@dataclass(frozen=True)
class Words:
    """What a folder's prompts are, where it does not say so itself."""

    prompts: str | None = None
    """`probes`, `dreambench` or the path of a YAML file; None to go by the folder."""
    identifier: str | None = None
    """As it stands in the prompts; None for none."""
    class_noun: str | None = None
    """Fills the prompts' `{class}`."""


def write_index(folder: Path, names: Sequence[str], plan: ImagePlan) -> None:
    """Write `metadata.jsonl`: what each image of `plan` in `folder` was generated from."""
    lines = [
        json.dumps(
            {
                "file_name": name,
                "prompt": request.prompt,
                "class_text": class_text,
                "template": template,
                "kind": kind,
                "label": label,
                "seed": request.seed,
            }
        )
        for name, request, class_text, template, kind, label in zip(
            names,
            plan.requests,
            plan.class_texts,
            plan.templates,
            plan.kinds,
            plan.labels,
            strict=True,
        )
    ]
    write_text(folder / INDEX, "\n".join(lines) + "\n")


def read_image_folder(folder: Path, words: Words) -> tuple[ImagePlan, list[Image.Image]]:
    """Read a folder's images and what they were generated from, in the order of prompts.

    Raises:
        UserError: no such folder; an image that is missing, black, unreadable or of no prompt.
    """
    entries = _entries(folder, words)
    plan = ImagePlan(
        labels=tuple(entry["label"] for _, entry in entries),
        requests=tuple(ImageRequest(entry["prompt"], entry["seed"]) for _, entry in entries),
        class_texts=tuple(entry["class_text"] for _, entry in entries),
        templates=tuple(entry["template"] for _, entry in entries),
        kinds=tuple(entry["kind"] for _, entry in entries),
    )
    return plan, [read_generated(path) for path, _ in entries]


def image_paths(folder: Path, words: Words) -> list[Path]:
    """Return the files of the images that `read_image_folder` reads, in its order."""
    return [path for path, _ in _entries(folder, words)]


def listed_files(folder: Path) -> list[str]:
    """Return the files that a folder's `metadata.jsonl` lists, in its order.

    Raises:
        UserError: a line of it is not as it should be.
    """
    return [name for name, _ in _index_entries(folder / INDEX, Words())]


def read_plain_folder(folder: Path) -> dict[str, Image.Image]:
    """Read the images of a folder by the stem of their names, in the order of names.

    All, or where there is a `metadata.jsonl` those that it lists: there may be more from before.

    Raises:
        UserError: there is none, or one is missing, black or unreadable.
    """
    paths = _image_files(folder)
    if (folder / INDEX).is_file():
        paths = [folder / name for name in listed_files(folder)]
    images = {path.stem: read_generated(path) for path in paths}
    if not images:
        raise UserError(f"{folder} holds no image.")
    return images


def read_generated(path: Path) -> Image.Image:
    """Read a generated image as RGB.

    Raises:
        UserError: it is missing, cannot be read or is black.
    """
    image = read_photo(path)
    if is_black(image):
        raise UserError(
            f"{path} is black. Generate it again; nothing is left out of an evaluation."
        )
    return image


def _prompts(words: Words) -> list[dict[str, Any]] | None:
    """Return the wanted prompts, each once and in order."""
    if words.prompts is None:
        return None
    plan = make_plan(words.prompts, words.identifier or "", words.class_noun or "", 0, "")
    if words.class_noun is None and any("{class}" in template for template in plan.templates):
        raise UserError(f"The prompts of {words.prompts} hold {{class}}: give --class-noun.")
    found = {
        template: {
            "prompt": request.prompt,
            "class_text": class_text,
            "template": template,
            "kind": kind,
        }
        for template, request, class_text, kind in zip(
            plan.templates, plan.requests, plan.class_texts, plan.kinds, strict=True
        )
    }
    return list(found.values())


def _entries(folder: Path, words: Words) -> list[tuple[Path, dict[str, Any]]]:
    """Return the image files of a folder, each with what is known of it."""
    if not folder.is_dir():
        raise UserError(f"There is no folder of images {folder}.")
    prompts = _prompts(words)
    if (folder / INDEX).is_file():
        return _read_index(folder, words, prompts)
    if prompts is None:
        raise UserError(
            f"{folder} has no {INDEX} that says what its images were generated from. Write one, "
            "or name the images PROMPT_NUMBER.png and give --prompts, the file of the prompts."
        )
    return _by_name(folder, prompts)


def _read_index(
    folder: Path, words: Words, prompts: list[dict[str, Any]] | None
) -> list[tuple[Path, dict[str, Any]]]:
    index = folder / INDEX
    found = _index_entries(index, words)
    listed = [name for name, _ in found]
    files = (path.relative_to(folder).as_posix() for path in _image_files(folder))
    unlisted = [name for name in files if name not in listed]
    if unlisted:
        raise UserError(f"{folder}: {unlisted[0]} is not in {INDEX}. Add it there or remove it.")
    if prompts is not None:
        of_text = {own["prompt"]: own for own in prompts}
        for name, entry in found:
            if entry["prompt"] not in of_text:
                raise UserError(
                    f"{index}: the prompt {entry['prompt']!r} of {name} is none of --prompts "
                    f"{words.prompts}, whose first is {prompts[0]['prompt']!r}."
                )
            entry |= of_text[entry["prompt"]]
        _check_all_there(folder, prompts, {entry["template"] for _, entry in found})
    return [(folder / name, entry) for name, entry in found]


def _index_entries(index: Path, words: Words) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for number, line in enumerate(index.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            found.append(_entry(f"{index}, line {number}", line, words))
    listed = [name for name, _ in found]
    if not found or len(set(listed)) < len(listed):
        raise UserError(f"{index} lists no image, or one of them twice.")
    return found


def _entry(where: str, line: str, words: Words) -> tuple[str, dict[str, Any]]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{where} is no JSON object with file_name and prompt.")
    for key in ("file_name", "prompt"):
        if not isinstance(values.get(key), str) or not values[key]:
            raise UserError(f"{where} has no {key}.")
    prompt = values["prompt"]
    plain = values.get("class_text") or _without(prompt, words.identifier)
    return values["file_name"], {
        "prompt": prompt,
        "class_text": plain,
        "template": values.get("template") or plain,
        "kind": values.get("kind") or "",
        "label": values.get("label") or plain,
        "seed": values.get("seed", UNKNOWN_SEED),
    }


def _without(prompt: str, identifier: str | None) -> str:
    """Return the prompt without the identifier.

    >>> _without("a sks dog", "sks"), _without("a dog", "sks")
    ('a dog', 'a dog')
    """
    if not identifier:
        return prompt
    return " ".join(word for word in prompt.split() if word != identifier)


def _by_name(folder: Path, prompts: list[dict[str, Any]]) -> list[tuple[Path, dict[str, Any]]]:
    found: dict[tuple[int, int], Path] = {}
    for path in _image_files(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        match = _NAME.fullmatch(name)
        if match is None:
            raise UserError(
                f"{path}: which prompt is this of? Name images PROMPT_NUMBER.png, such as 0_0.png, "
                f"or write {INDEX}."
            )
        place = (int(match[1]), int(match[2]))
        if place[0] >= len(prompts):
            raise UserError(
                f"{path} is of prompt {place[0]}, but there are {len(prompts)} prompts; they "
                "count from 0."
            )
        if place in found:
            raise UserError(f"{path} and {found[place]} are the same image by name.")
        found[place] = path
    present = {prompts[prompt]["template"] for prompt, _ in found}
    _check_all_there(folder, prompts, present)
    return [
        (path, {**prompts[p], "label": f"{prompts[p]['class_text']} {k}", "seed": UNKNOWN_SEED})
        for (p, k), path in sorted(found.items())
    ]


def _check_all_there(folder: Path, prompts: list[dict[str, Any]], present: set[str]) -> None:
    for number, prompt in enumerate(prompts):
        if prompt["template"] not in present:
            raise UserError(
                f"{folder} has no image of prompt {number}, {prompt['prompt']!r}. Generate it; "
                "nothing is left out of an evaluation."
            )


def _image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder and in folders in it; hidden ones are passed over."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PICTURE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
