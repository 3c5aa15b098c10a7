"""Opening picture files, whoever wrote them: which formats are read, and why a file cannot be."""

from __future__ import annotations

import errno
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from dreambooth_pl.errors import UserError

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
"""What is opened, by Pillow's names. HEIF needs the package pillow-heif."""
RAW_SUFFIXES = {".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"}
"""Of cameras' raw files. Many are TIFF files, of which Pillow would read the small preview."""

MAX_SIDE = 65_535
"""Of a picture in pixels, as JPEG has it. A few damaged bytes make a file say millions."""

_VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".3gp", ".mts"}
_UNFINISHED_SUFFIXES = {".crdownload", ".part", ".partial", ".download", ".tmp"}
_SAVE_AGAIN = "save it as JPEG or PNG"
_HEIC = (
    'a HEIC photo; install what reads it (pip install "dreambooth_pl[heif]"), or convert it to '
    "JPEG or PNG (on an iPhone: Settings, Camera, Formats, Most Compatible)"
)
_AVIF = (
    f"an AVIF picture, which Pillow reads from 11.3 on (pip install -U pillow); or {_SAVE_AGAIN}"
)
_WEB_PAGE = "a web page that was saved in place of a picture; download the picture itself"
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}

_BEGINNINGS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_OTHERS = (
    ((b"8BPS",), f"a Photoshop file; {_SAVE_AGAIN}"),
    ((b"%PDF",), f"a PDF file; save its picture and {_SAVE_AGAIN}"),
    ((b"%!PS", b"\xc5\xd0\xd3\xc6"), f"a PostScript file; {_SAVE_AGAIN}"),
    ((b"\xff\x0a", b"\0\0\0\x0cJXL "), f"a JPEG XL picture, which is not read; {_SAVE_AGAIN}"),
    ((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), f"a JPEG 2000 picture; {_SAVE_AGAIN}"),
    ((b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf"), "an archive; unpack it into the folder"),
    ((b"version https://git-lfs",), "a pointer of Git LFS; fetch the picture with git lfs pull"),
    ((b"<!doctype html", b"<html"), _WEB_PAGE),
    ((b"<svg", b"<?xml"), f"a drawing or text in XML; {_SAVE_AGAIN} if it is a picture"),
)
_UNSUPPORTED = re.compile(
    r"unknown|unsupported|not supported|cannot handle|unrecognized|not available|not implemented",
    re.IGNORECASE,
)

_T = TypeVar("_T")


class UnreadablePicture(UserError):
    """A file that cannot be read as a picture; `reason` says why and what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


class Unsuitable(Exception):
    """Raised in the block of `open_picture`: the file is sound, but no picture to be used."""


@lru_cache
def formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that can be opened here."""
    try:
        from pillow_heif import register_heif_opener  # the optional extra `heif`
    except ImportError:
        pass
    else:
        register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture for the length of the block, as `PIL.Image.open` does.

    Whatever Pillow raises in the block, also while it decodes, comes out as `UnreadablePicture`.

    Raises:
        UnreadablePicture: the file is none of `FORMATS`, damaged, not to be had or too large.
    """
    try:
        reason = _reason_not_to_try(path)
        if reason is None:
            with Image.open(path, formats=formats()) as file:
                if max(file.size) > MAX_SIDE:
                    width, height = file.size
                    raise Unsuitable(f"{width} x {height} pixels are no photo's; cut it down")
                yield file
            return
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise a dozen types for broken files
        cause = error
        reason = _reason_of(error, path)
    else:
        cause = None
    raise UnreadablePicture(path, reason) from cause


def check_png(path: Path) -> None:
    """Compare the checksums of a PNG's pixel data, which Pillow does not.

    Raises:
        ValueError: one is wrong.
    """
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            length = int.from_bytes(head[:4], "big")
            if head[4] & 0x20:  # a lower-case letter: this chunk is of no importance
                file.seek(length + 4, os.SEEK_CUR)
                continue
            checksum = zlib.crc32(file.read(length), zlib.crc32(head[4:]))
            stored = file.read(4)
            if len(stored) == 4 and int.from_bytes(stored, "big") != checksum:
                raise ValueError(f"the checksum of its {head[4:].decode('latin-1')} is wrong")


def once_per_file(size: int) -> Callable[[Callable[..., _T]], Callable[..., _T]]:
    """Keep a function's last `size` results, by its paths and their files' times and sizes."""

    def decorate(function: Callable[..., _T]) -> Callable[..., _T]:
        @lru_cache(maxsize=size)
        def remembered(versions: tuple[object, ...], *paths: Path) -> _T:
            return function(*paths)

        @wraps(function)
        def call(*paths: str | Path) -> _T:
            own = tuple(Path(path) for path in paths)
            return remembered(tuple(map(_version, own)), *own)

        return call

    return decorate


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _reason_not_to_try(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if path.is_dir():
        return "a folder; photos are read from the folder itself, not from folders in it"
    if path.is_symlink() and not path.exists():
        return f"a link to {os.readlink(path)}, which is not there; copy the photo itself"
    if not path.exists():
        return "there is no such file"
    if not path.is_file():
        return "not a plain file"
    if suffix in _VIDEO_SUFFIXES:
        return "a video; save some of its frames as JPEG or PNG"
    if suffix in RAW_SUFFIXES:
        return "a camera's raw file; export it as JPEG or PNG"
    if suffix in _UNFINISHED_SUFFIXES:
        return "a download that has not finished; download it again"
    return None


def _reason_of(error: Exception, path: Path) -> str:
    if isinstance(error, Unsuitable):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels; scale it down"
    if isinstance(error, MemoryError):
        return "too large for the memory that is free; scale it down"
    if isinstance(error, PermissionError):
        return "may not be read; change its permissions"
    # "Invalid argument" comes of seeking where damaged numbers point.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return f"cannot be read ({error.strerror}); copy it to this machine's disk"
    if isinstance(error, UnidentifiedImageError):
        try:
            return _reason_unidentified(path)
        except OSError as again:
            return f"cannot be read ({again.strerror})"
    return _kind_of_damage(str(error) or type(error).__name__)


def _kind_of_damage(said: str) -> str:
    said = " ".join(said.split())[:120]
    if _UNSUPPORTED.search(said):
        return f"of a kind that cannot be read here ({said}); save it as 8-bit JPEG or PNG"
    return f"damaged or cut off ({said}); copy or export it again"


def _reason_unidentified(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(64)
    suffix = path.suffix.lower()
    if not head:
        return "an empty file; copy it again"
    if not head.strip(b"\0"):
        return "damaged: it begins with nothing but zeros; copy it again"
    name = _format_of(head)
    if name in formats():
        return _kind_of_damage(_what_its_reader_says(path, name))
    if name == "HEIF" or (name is None and suffix in (".heic", ".heif", ".hif")):
        return _HEIC if "HEIF" not in formats() else _kind_of_damage("it is no HEIC file inside")
    if name == "AVIF":
        return _AVIF
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginnings, reason in _OTHERS:
        if head.startswith(beginnings) or start.startswith(beginnings):
            return reason
    if head[4:8] == b"ftyp":
        return "a video; save some of its frames as JPEG or PNG"
    known = Image.registered_extensions().get(suffix)
    if known in FORMATS:
        return f"not a picture in spite of its name {suffix}; remove it or save it again"
    if known is not None:
        return f"a {known} file, which is not read; {_SAVE_AGAIN} if it is a picture"
    return "not a picture"


def _format_of(head: bytes) -> str | None:
    """Return the format that a file's first bytes promise, one of `FORMATS`."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in (b"avif", b"avis"):
            return "AVIF"
        return "HEIF" if brand in _HEIC_BRANDS else None
    return next((name for name, starts in _BEGINNINGS.items() if head.startswith(starts)), None)


def _what_its_reader_says(path: Path, name: str) -> str:
    """Return the message that Pillow keeps to itself where it cannot identify a file."""
    try:
        with path.open("rb") as file:
            Image.OPEN[name][0](file, os.fspath(path))
    except Exception as error:
        return str(error) or type(error).__name__
    return "it cannot be identified"
