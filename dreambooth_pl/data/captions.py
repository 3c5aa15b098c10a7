"""Which prompt goes with which photo: one template for all, or captions that come with the photos.

`{identifier}` and `{class}` are filled into captions of every kind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dreambooth_pl.data.photos import CAPTION_SUFFIX, METADATA, Note, VettingReport
from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import fill

CaptionSource = Literal["template", "files", "metadata", "auto"]


def _choose_source(source: CaptionSource, photos: Sequence[Path]) -> CaptionSource:
    """Return what `auto` stands for: `metadata.jsonl` before caption files before the template."""
    if source != "auto":
        return source
    if any((photo.parent / METADATA).is_file() for photo in photos):
        return "metadata"
    return "files" if any(_caption_file(photo).is_file() for photo in photos) else "template"


def read_captions(
    source: CaptionSource,
    photos: Sequence[Path],
    template: str,
    identifier: str,
    class_noun: str,
) -> list[str]:
    """Return the prompt of each photo, identifier and class noun filled in.

    Args:
        source: `template`: the same for all; `files`: the text of NAME.txt beside each photo, its
            lines joined; `metadata`: metadata.jsonl beside the photos, on each line an object with
            `file_name` and `text`; `auto`: the first of metadata, files, template that is there.
        photos: in one folder.
        template: the prompt for `template`.
        identifier: rare word for the subject.
        class_noun: what the subject is.

    Raises:
        UserError: a caption is missing, empty, unreadable or has a placeholder that is neither
            `{identifier}` nor `{class}`; names its file.
    """
    source = _choose_source(source, photos)
    if source == "template":
        return [fill(template, identifier, class_noun)] * len(photos)
    if source == "files":
        sources = [_caption_file(photo) for photo in photos]
        texts = [_read_caption(photo) for photo in photos]
    else:
        sources = [photo.parent / METADATA for photo in photos]
        texts = _read_metadata(photos)
    filled = []
    for photo, path, text in zip(photos, sources, texts, strict=True):
        try:
            filled.append(fill(text, identifier, class_noun))
        except UserError as error:
            raise UserError(f"{path}: caption of {photo.name}: {error}") from error
    return filled


def warnings_about(
    source: CaptionSource,
    report: VettingReport,
    prompts: Sequence[str],
    identifier: str,
    class_noun: str,
) -> tuple[Note, ...]:
    """Return notes on captions without the identifier, and on caption files that are not read.

    Args:
        source, identifier, class_noun: as for `read_captions`.
        report: says which photos are used and which other files lie beside them.
        prompts: what `read_captions` returned for them.
    """
    if _choose_source(source, report.used) == "template":
        return tuple(
            Note(path, "is not read; set data.captions to auto for captions in such files")
            for path in report.companions
            if path.name == METADATA or path.suffix.lower() == CAPTION_SUFFIX
        )
    if not identifier.strip():
        return ()
    word = re.compile(rf"(?<!\w){re.escape(identifier.strip())}(?!\w)")
    return tuple(
        Note(
            photo,
            f"its caption {prompt!r} does not say {identifier!r}, which learns nothing from it; "
            f"write {{identifier}} {{class}} where it stands for {identifier} {class_noun}",
        )
        for photo, prompt in zip(report.used, prompts, strict=True)
        if not word.search(prompt)
    )


def _caption_file(photo: Path) -> Path:
    """Return where a photo's caption is, or is to be; its suffix may be in capitals."""
    path = photo.with_suffix(CAPTION_SUFFIX)
    capitals = photo.with_suffix(CAPTION_SUFFIX.upper())
    return capitals if capitals.is_file() and not path.is_file() else path


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text; save it again as plain text.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error


def _read_caption(photo: Path) -> str:
    path = _caption_file(photo)
    if not path.is_file():
        raise UserError(
            f"{path}: the caption of {photo.name} is missing. Write it there, or set data.captions "
            "to template for one caption for all photos."
        )
    text = " ".join(_read_text(path).split())
    if not text:
        raise UserError(
            f"{path}: the caption of {photo.name} is empty; write one, such as "
            "'a {identifier} {class} on the grass'."
        )
    return text


def _read_metadata(photos: Sequence[Path]) -> list[str]:
    path = photos[0].parent / METADATA
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file, which data.captions: metadata reads. Each of its "
            'lines is like {"file_name": "00.jpg", "text": "a {identifier} {class}"}.'
        )
    texts: dict[str, str] = {}
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, text = _parse_line(line, f"{path}, line {number}")
        if name in texts:
            raise UserError(f"{path}, line {number}: {name} has a caption already; remove one.")
        texts[name] = text
    missing = [photo.name for photo in photos if photo.name not in texts]
    if missing:
        raise UserError(
            f"{path}: holds no caption for {', '.join(missing)}; add a line for each photo."
        )
    return [texts[photo.name] for photo in photos]


def _parse_line(line: str, where: str) -> tuple[str, str]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: is not JSON ({error}).") from error
    if not isinstance(entry, dict):
        raise UserError(f"{where}: is not a JSON object with file_name and text.")
    for key in ("file_name", "text"):
        value = entry.get(key)
        if not isinstance(value, str) or not value.strip():
            found = ", ".join(entry) or "nothing"
            raise UserError(
                f"{where}: {key} must be text that is not empty (found the keys: {found})."
            )
    return entry["file_name"], " ".join(entry["text"].split())
