"""Subjects of the studio: a folder each, with the photos that were dropped into the page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

import dreambooth_pl
from dreambooth_pl.data.sidecars import CAPTION_SUFFIXES, PICTURE_SUFFIXES, mask_owner
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import copy_file, write_text
from dreambooth_pl.files.plain_yaml import read_yaml
from dreambooth_pl.studio.workspace import Workspace, safe_name

MAX_FILES = 200
"""Photos, captions and masks of one subject."""
MAX_BYTES = 60_000_000
"""Of one file."""
EXAMPLE = "sks_dog"

_WORDS = "subject.yaml"
_PHOTOS = "photos"
_SUFFIXES = PICTURE_SUFFIXES | {".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".mpo"}


@dataclass(frozen=True)
class Subject:
    """What is to be learnt."""

    name: str
    """One part of a path."""
    photos: Path
    """The folder of its photos."""
    class_noun: str = "dog"
    identifier: str = "sks"
    own: bool = True
    """Whether it may be changed here; not so the example."""


class Subjects:
    """The subjects of a workspace, and the example that the project comes with.

    Args:
        workspace: where they lie.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._folder = workspace.subjects

    def names(self) -> list[str]:
        """Return the names, the subject that was changed last first, the example last."""
        own = [path for path in self._folder.iterdir() if (path / _WORDS).is_file()]
        own.sort(key=lambda path: -(path / _WORDS).stat().st_mtime_ns)
        return [*(path.name for path in own), EXAMPLE]

    def get(self, name: str) -> Subject:
        """Return a subject.

        Raises:
            UserError: there is none of this name.
        """
        if name == EXAMPLE:
            photos = Path(dreambooth_pl.__file__).parents[1] / "data" / EXAMPLE
            return Subject(EXAMPLE, photos, own=False)
        if name not in self.names():
            raise UserError(f"There is no subject {name!r}.")
        folder = self._folder / name
        words = read_yaml(folder / _WORDS)
        words = words if isinstance(words, dict) else {}
        return Subject(
            name,
            folder / _PHOTOS,
            str(words.get("class_noun", "dog")),
            str(words.get("identifier", "sks")),
        )

    def set_words(self, name: str, class_noun: str, identifier: str) -> Subject:
        """Make a subject, or give one other words.

        Raises:
            UserError: nothing of the name can be part of a path, or a word is missing.
        """
        part = safe_name(name)
        if not part or part == EXAMPLE:
            raise UserError("Give the subject a name of letters or digits, such as Rex.")
        for what, word in (("class noun", class_noun), ("identifier", identifier)):
            if not word.strip():
                raise UserError(f"The {what} is empty; give one.")
        words = {"class_noun": class_noun.strip(), "identifier": identifier.strip()}
        (self._folder / part / _PHOTOS).mkdir(parents=True, exist_ok=True)
        write_text(self._folder / part / _WORDS, yaml.safe_dump(words, allow_unicode=True))
        return self.get(part)

    def add_files(self, subject: Subject, files: Sequence[Path]) -> list[str]:
        """Copy uploaded files into a subject's folder, under safe names.

        Returns:
            A line for each file that was not taken, with the reason.

        Raises:
            UserError: the subject is the example, or has too many files then.
        """
        _check_own(subject)
        there = len(os.listdir(subject.photos))
        if there + len(files) > MAX_FILES:
            raise UserError(
                f"{len(files)} files and the {there} that are there are more than {MAX_FILES}. "
                "Three to ten good photos are enough."
            )
        refused = []
        for file in files:
            name = stored_name(file.name)
            if name is None:
                refused.append(f"{file.name}: neither a photo nor a caption; it was left out")
            elif file.stat().st_size > MAX_BYTES:
                refused.append(f"{file.name}: larger than {MAX_BYTES // 1_000_000} MB")
            else:
                copy_file(file, _free(subject.photos / name))
        self._touch(subject)
        return refused

    def remove(self, subject: Subject, photo: str) -> None:
        """Remove one of a subject's photos, with its caption and mask.

        Raises:
            UserError: the subject is the example, or has no such photo.
        """
        _check_own(subject)
        path = self.photo(subject, photo)
        for other in subject.photos.iterdir():
            is_caption = other.suffix.lower() in CAPTION_SUFFIXES and other.stem == path.stem
            if is_caption or mask_owner(other) == path.stem:
                _unlink(subject, other)
        _unlink(subject, path)
        self._touch(subject)

    def caption(self, subject: Subject, photo: str, text: str) -> None:
        """Write a photo's caption; none for no text.

        Raises:
            UserError: the subject is the example, or has no such photo.
        """
        _check_own(subject)
        path = self.photo(subject, photo).with_suffix(CAPTION_SUFFIXES[0])
        if text.strip():
            write_text(path, text.strip() + "\n")
        else:
            path.unlink(missing_ok=True)

    def photo(self, subject: Subject, name: str) -> Path:
        """Return the file of a photo, by its name among those that are there.

        Raises:
            UserError: there is none.
        """
        for path in subject.photos.iterdir():
            if path.name == name and path.is_file():
                return path
        raise UserError(f"{subject.name} has no photo {name!r}.")

    def _touch(self, subject: Subject) -> None:
        os.utime(self._folder / subject.name / _WORDS)


def stored_name(name: str) -> str | None:
    """Return the name under which an uploaded file is kept; None if it is of no use.

    >>> stored_name("../../IMG 1.JPG"), stored_name("dog.mask.png"), stored_name("run.sh")
    ('IMG-1.jpg', 'dog.mask.png', None)
    """
    path = Path(name.replace("\\", "/")).name
    stem, suffix = os.path.splitext(path)
    suffix = suffix.lower()
    if suffix not in _SUFFIXES and suffix not in CAPTION_SUFFIXES:
        return None
    is_mask = stem.lower().endswith(".mask")
    part = safe_name(stem[: -len(".mask")] if is_mask else stem) or "photo"
    return f"{part}{'.mask' if is_mask else ''}{suffix}"


def original_of(subject: Subject, photo: Path) -> Path:
    """Return where the original of a cut photo is kept."""
    return subject.photos.with_name("originals") / photo.name


def _free(path: Path) -> Path:
    """Return the path, or one with a number if another file has it."""
    number = 2
    candidate = path
    while candidate.exists():
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate


def _unlink(subject: Subject, path: Path) -> None:
    original_of(subject, path).unlink(missing_ok=True)
    path.unlink()


def _check_own(subject: Subject) -> None:
    if not subject.own:
        raise UserError(f"{subject.name} is the example and stays as it is; make a subject first.")
