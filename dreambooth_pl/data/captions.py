"""Which prompt goes with which photo: one template for all, or captions that come with the photos.

`{identifier}` and `{class}` are filled into captions of every kind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

from dreambooth_pl.data.photos import Note, VettingReport
from dreambooth_pl.data.sidecars import CAPTION_SUFFIXES, METADATA, captions_beside, nfc, shown
from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import fill, says_word

CaptionSource = Literal["template", "files", "metadata", "auto"]

MAX_BYTES = 100_000
"""Of one caption file. A prompt has a few hundred; a longer file is something else."""


def _choose_source(source: CaptionSource, photos: Sequence[Path]) -> CaptionSource:
    """Return what `auto` stands for: `metadata.jsonl` before caption files before the template."""
    if source != "auto":
        return source
    if any((photo.parent / METADATA).is_file() for photo in photos):
        return "metadata"
    return "files" if any(captions_beside(photos)) else "template"


def read_captions(
    source: CaptionSource,
    photos: Sequence[Path],
    template: str,
    identifier: str,
    class_noun: str,
) -> list[str]:
    """Return the prompt of each photo, identifier and class noun filled in.

    Args:
        source: `template`: the same for all; `files`: the text of NAME.txt or NAME.caption beside
            each photo, its lines joined; `metadata`: metadata.jsonl beside the photos, on each
            line an object with `file_name` and `text`; `auto`: the first of metadata, files,
            template that is there.
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
        sources = [
            _only_caption(photo, found)
            for photo, found in zip(photos, captions_beside(photos), strict=True)
        ]
        texts = [_read_caption(*pair) for pair in zip(photos, sources, strict=True)]
    else:
        sources = [photo.parent / METADATA for photo in photos]
        texts = _read_metadata(photos)
    filled = []
    for photo, path, text in zip(photos, sources, texts, strict=True):
        try:
            filled.append(fill(text, identifier, class_noun))
        except UserError as error:
            raise UserError(f"{path}: caption of {shown(photo.name)}: {error}") from error
    return filled


def remarks_about(source: CaptionSource, photos: Sequence[Path]) -> tuple[str, ...]:
    """Return a line that says what `auto` chose; no line where nothing was left to it."""
    if source != "auto":
        return ()
    what = {
        "metadata": f"from {METADATA}",
        "files": "from a text file beside each photo",
        "template": "data.instance_prompt for all, for there are no others",
    }
    return (f"captions (auto): {what[_choose_source(source, photos)]}",)


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
    chosen = _choose_source(source, report.used)
    if chosen == "template":
        return tuple(
            Note(path, "is not read; set data.captions to auto for captions in such files")
            for path in report.companions
            if path.name == METADATA or path.suffix.lower() in CAPTION_SUFFIXES
        )
    unread = _unread(report) if chosen == "files" else ()
    if not identifier.strip():
        return unread
    return unread + tuple(
        Note(
            photo,
            f"its caption {prompt!r} does not say {identifier!r}, which learns nothing from it; "
            f"write {{identifier}} {{class}} where it stands for {identifier} {class_noun}",
        )
        for photo, prompt in zip(report.used, prompts, strict=True)
        if not says_word(prompt, identifier)
    )


def _unread(report: VettingReport) -> tuple[Note, ...]:
    """Return notes on a photo's further caption files."""
    return tuple(
        Note(path, f"is not read; {shown(read.name)} is the caption of {shown(photo.name)}")
        for photo, (read, *others) in zip(report.used, captions_beside(report.used), strict=True)
        for path in others
    )


def _only_caption(photo: Path, found: Sequence[Path]) -> Path:
    if found:
        return found[0]
    path = photo.with_suffix(CAPTION_SUFFIXES[0])
    raise UserError(
        f"{path}: the caption of {shown(photo.name)} is missing. Write it there, or set "
        "data.captions to template for one caption for all photos."
    )


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # Windows PowerShell's
        text = data.decode("utf-16" if utf_16 else "utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text; save it again as plain text.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error


def _read_caption(photo: Path, path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(f"{path}: has {size} bytes, too many for the caption of a photo.")
    text = " ".join(_read_text(path).split())
    if not text:
        raise UserError(
            f"{path}: the caption of {shown(photo.name)} is empty; write one, such as "
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
    # Not splitlines: it would also cut at what JSON allows in a text, such as U+2028.
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        file_name, text = _parse_line(line, where)
        name = _name_in(path.parent, file_name, where)
        if name in texts:
            raise UserError(f"{where}: {shown(name)} has a caption already; remove one.")
        texts[name] = text
    missing = [shown(photo.name) for photo in photos if nfc(photo.name) not in texts]
    if missing:
        raise UserError(
            f"{path}: holds no caption for {', '.join(missing)}; add a line for each photo."
        )
    return [texts[nfc(photo.name)] for photo in photos]


def _name_in(folder: Path, file_name: str, where: str) -> str:
    """Return the name by which a photo of the folder is looked up; refuse what lies outside."""
    windows = PureWindowsPath(file_name)
    name = file_name if os.path.isfile(folder / file_name) else windows.as_posix()
    parts = PurePosixPath(name).parts
    if name.startswith("/") or windows.drive or ".." in parts:
        raise UserError(
            f"{where}: {shown(file_name)!r} leads out of the folder; give the names of the photos "
            "that lie in it, such as 00.jpg."
        )
    path = folder.joinpath(*parts)
    if os.path.islink(path) and not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{where}: {shown(file_name)!r} is a link out of the folder; copy the photo into it."
        )
    return nfc(PurePosixPath(*parts).as_posix())


def _parse_line(line: str, where: str) -> tuple[str, str]:
    try:
        entry = json.loads(line, strict=False)  # a tab in a text harms nobody
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not JSON ({error}).") from error
    if not isinstance(entry, dict):
        raise UserError(f"{where}: is not a JSON object with file_name and text.")
    for key in ("file_name", "text"):
        value = entry.get(key)
        if not isinstance(value, str) or not value.strip():
            found = shown(", ".join(entry)) or "nothing"
            raise UserError(
                f"{where}: {key} must be text that is not empty (found the keys: {found})."
            )
    return entry["file_name"], " ".join(entry["text"].split())
