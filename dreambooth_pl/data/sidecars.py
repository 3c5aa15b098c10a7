"""What lies beside photos: captions and masks, told by their names as the usual tools write them.

Captions are `NAME.txt` or `NAME.caption` (kohya, OneTrainer, ai-toolkit), or `NAME.jpg.txt`. Masks
are `NAME.mask.png`, `NAME-masklabel.png` (OneTrainer), `NAME-mask.png` or `NAME_mask.png`. Names
are compared in Unicode's composed form: a Mac writes an umlaut as two characters.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from dreambooth_pl.errors import UserError

CAPTION_SUFFIXES = (".txt", ".caption")
"""Of a photo's caption, the one that is preferred first."""
METADATA = "metadata.jsonl"
"""The captions of a folder in one file."""
MASK_ENDINGS = (".mask", "-masklabel", "-mask", "_mask")
"""What follows a photo's name in the name of its mask, before the suffix of a picture."""
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
"""Of generated pictures, and of nearly all photos."""

_MASK_SUFFIXES = PICTURE_SUFFIXES | {".bmp", ".tif", ".tiff", ".gif", ".avif"}
_CAPTION_LIKE = {".cap", ".captions", ".tags", ".prompt", ".prompts", ".text"}
_CAPTIONS_OF_FOLDERS = {
    *("metadata.csv", "metadata.json", "metadata.parquet", "captions.json", "captions.txt"),
    *("captions.csv", "captions.jsonl", "meta_cap.json", "meta_lat.json", "dataset.json"),
}
_OF_OTHER_PROGRAMS = {".aae", ".xmp", ".thm", ".json", ".npz", ".safetensors"}
_REPEATS = re.compile(r"\d+_.")
_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "__macosx"}
_HELD_BACK = re.compile(r"\.(?P<name>.+)\.icloud")


def nfc(name: str) -> str:
    """Return a name in the form in which names are compared."""
    return unicodedata.normalize("NFC", name)


def shown(name: str) -> str:
    r"""Return a file name as it can be printed anywhere, on one line.

    Bytes that are no UTF-8, line breaks and control characters are written as escapes.

    >>> shown("two\nlines"), shown("\udcff.jpg")
    ('two\\nlines', '\\udcff.jpg')
    """
    hidden = {"Cc", "Cs", "Zl", "Zp"}
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in hidden else c
        for c in name
    )


def visible_entries(folder: Path, key: str) -> list[Path]:
    """Return what lies in a folder, by name, without hidden and system files.

    Args:
        folder: where to look.
        key: the config key that the folder came from, for error messages.

    Raises:
        UserError: there is no such folder, or it cannot be read.
    """
    try:
        if folder.is_file():
            raise UserError(f"{key}: {str(folder)!r} is a file; give the folder of the photos.")
        if not folder.is_dir():
            raise UserError(
                f"{key}: there is no folder {str(folder)!r} "
                f"(looked for {str(folder.absolute())!r})."
            )
        found = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(
            f"{key}: the folder {str(folder)!r} cannot be read ({error.strerror or error})."
        ) from error
    return [
        path
        for path in found
        if path.name.lower() not in _SYSTEM_FILES
        and (not path.name.startswith(".") or _HELD_BACK.fullmatch(path.name))
    ]


def mask_owner(path: Path) -> str | None:
    """Return the name of the photo whose mask a file is by its own name; None for no mask.

    >>> mask_owner(Path("dog-masklabel.png")), mask_owner(Path("dog.png"))
    ('dog', None)
    """
    stem = path.stem.lower()
    if path.suffix.lower() in _MASK_SUFFIXES:
        for ending in MASK_ENDINGS:
            if stem.endswith(ending) and len(stem) > len(ending):
                return nfc(path.stem[: -len(ending)])
    return None


def is_picture(path: Path) -> bool:
    """Tell by its name whether a file is a picture, and not the mask of one."""
    return path.suffix.lower() in PICTURE_SUFFIXES and mask_owner(path) is None


def reasons_not_photos(entries: Sequence[Path]) -> dict[Path, str | None]:
    """Return which of a folder's files are no photos by their names, and why.

    The reason is None for what belongs to a photo: its caption, its mask, or METADATA.
    """
    owners = {name for path in entries if _may_be_photo(path) for name in _names(path)}
    found: dict[Path, str | None] = {}
    for path in entries:
        if not _may_be_photo(path):
            found[path] = _reason(path, owners)
    return found


def captions_beside(photos: Sequence[Path]) -> list[list[Path]]:
    """Return the caption files of each photo of one folder, the preferred one first."""
    beside: dict[str, list[Path]] = {}
    for path in _files_beside(photos):
        if path.suffix.lower() in CAPTION_SUFFIXES:
            beside.setdefault(nfc(path.stem), []).append(path)

    def order(path: Path) -> tuple[int, int, str]:
        return CAPTION_SUFFIXES.index(path.suffix.lower()), len(path.name), path.name

    return [
        sorted((path for name in _names(photo) for path in beside.get(name, ())), key=order)
        for photo in photos
    ]


def masks_beside(photos: Sequence[Path]) -> list[list[Path]]:
    """Return the masks of each photo of one folder, told by `MASK_ENDINGS`."""
    beside: dict[str, list[Path]] = {}
    for path in _files_beside(photos):
        if (owner := mask_owner(path)) is not None:
            beside.setdefault(owner, []).append(path)
    return [[mask for name in _names(photo) for mask in beside.get(name, ())] for photo in photos]


def masks_in(folder: Path, photos: Sequence[Path]) -> list[list[Path]]:
    """Return the masks of each photo in a folder of masks: of its name, `MASK_ENDINGS` or not."""
    named: dict[str, list[Path]] = {}
    plain: dict[str, list[Path]] = {}
    for path in visible_entries(folder, "data.mask_dir"):
        if (owner := mask_owner(path)) is not None:
            named.setdefault(owner, []).append(path)
        elif path.suffix.lower() in _MASK_SUFFIXES:
            plain.setdefault(nfc(path.stem), []).append(path)
    found = []
    for photo in photos:
        by_ending = [path for name in _names(photo) for path in named.get(name, ())]
        by_name = [path for name in _names(photo) for path in plain.get(name, ())]
        found.append(by_ending or by_name)
    return found


def hint_about_folders(entries: Iterable[Path]) -> str:
    """Return where photos seem to lie if not in a folder itself, as a sentence; or no text.

    Kohya's tools keep them one folder deeper, in `10_sks dog`.
    """
    counts: dict[Path, int] = {}
    for folder in (path for path in entries if os.path.isdir(path)):
        below = [path for path in _listing(folder) if os.path.isdir(path)]
        for place in (folder, *below):
            counts[place] = sum(is_picture(path) for path in _listing(place))
    best = max(counts, key=lambda f: (bool(_REPEATS.match(f.name)), counts[f]), default=None)
    if best is None or not counts[best]:
        return ""
    return f" There are photos in the folder {shown(str(best))!r}: give that one."


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _files_beside(photos: Sequence[Path]) -> list[Path]:
    folders = dict.fromkeys(photo.parent for photo in photos)
    return [path for folder in folders for path in _listing(folder) if os.path.isfile(path)]


def _names(photo: Path) -> tuple[str, str]:
    """Return how captions and masks may call a photo: without its suffix, or with it."""
    return nfc(photo.stem), nfc(photo.name)


def _may_be_photo(path: Path) -> bool:
    suffix, name = path.suffix.lower(), path.name.lower()
    return not (
        suffix in CAPTION_SUFFIXES
        or suffix in _CAPTION_LIKE
        or suffix in _OF_OTHER_PROGRAMS
        or name in (METADATA, *_CAPTIONS_OF_FOLDERS)
        or mask_owner(path) is not None
        or _HELD_BACK.fullmatch(path.name)
        or os.path.isdir(path)
    )


def _reason(path: Path, owners: set[str]) -> str | None:
    suffix, name = path.suffix.lower(), path.name.lower()
    if os.path.isdir(path):
        reason = "a folder; photos are read from the folder itself, not from folders in it"
        if "mask" in name:
            reason += f". If it holds masks, set data.mask_dir to {shown(str(path))}"
        return reason
    if path.name == METADATA:
        return None
    if held_back := _HELD_BACK.fullmatch(path.name):
        photo = shown(held_back["name"])
        return f"{photo} is in iCloud and not on this machine; download it there first"
    if name in (METADATA, *_CAPTIONS_OF_FOLDERS):
        return (
            f"looks like captions, not read; write them into {METADATA}, each line an object "
            "with file_name and text"
        )
    if suffix in _CAPTION_LIKE:
        return "looks like a caption, not read; call it NAME.txt or NAME.caption"
    if suffix in _OF_OTHER_PROGRAMS:
        return "not a picture; another program's remarks or data, not read"
    owner = mask_owner(path)
    if owner is not None:
        if owner in owners:
            return None
        return (
            f"named like the mask of a photo {shown(owner)}, which is not here; rename it if it "
            "is a photo, or remove it"
        )
    if nfc(path.stem) in owners:
        return None
    size = os.path.getsize(path) if os.path.isfile(path) else 0
    kind = "a caption" if 0 < size < 4096 else "text"
    return f"not a picture; looks like {kind}, but there is no photo {shown(path.stem)} here"
