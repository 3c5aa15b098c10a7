"""Reading and vetting photos as people have them: turned, transparent, many-paged, broken."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dreambooth_pl.data.photo_checks import LOOK_SIZE, Look, find_duplicates, look_at
from dreambooth_pl.data.sidecars import (
    hint_about_folders,
    reasons_not_photos,
    shown,
    visible_entries,
)
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.pictures import (
    UnreadablePicture,
    check_png,
    formats,
    once_per_file,
    open_picture,
)
from dreambooth_pl.files.upright_rgb import UprightPicture, to_upright_rgb, upright_size
from dreambooth_pl.progress import ProgressReporter

MANY = 20
"""From this many photos on, reading them shows its progress."""
_THREADS = min(4, os.cpu_count() or 1)
"""Pillow decodes without Python's lock, so that threads share the cores. Each may hold a photo."""


@dataclass(frozen=True)
class Note:
    """A remark about one file."""

    path: Path
    text: str


@dataclass(frozen=True)
class VettingReport:
    """What a folder of photos holds, in the order of the file names."""

    folder: Path
    used: tuple[Path, ...]
    """Photos that can be read, the fixed ones among them."""
    fixed: tuple[Note, ...]
    """Used photos that had to be changed in reading, and how. The files stay as they are."""
    refused: tuple[Note, ...]
    """Files that are left out, and why."""
    companions: tuple[Path, ...] = ()
    """Captions and masks that belong to photos: neither used as photos nor refused."""
    warned: tuple[Note, ...] = ()
    """What is probably not as the user means it, by file."""
    remarks: tuple[str, ...] = ()
    """Further lines about the folder as a whole."""

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        photos = "photo" if len(self.used) == 1 else "photos"
        lines = [f"{self.folder}: {len(self.used)} {photos} used"]
        for head, notes in (
            ("fixed   ", self.fixed),
            ("left out", self.refused),
            ("warning ", self.warned),
        ):
            lines += [f"  {head} {note.path.name}: {note.text}" for note in notes]
        return [shown(line) for line in (*lines, *(f"  {remark}" for remark in self.remarks))]


class Photos(Sequence[Image.Image]):
    """Photos that are read when they are asked for, and not kept: each may take 200 MB.

    Args:
        paths: the files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> Photos: ...

    def __getitem__(self, index: int | slice) -> Image.Image | Photos:
        if isinstance(index, slice):
            return Photos(self._paths[index])
        return read_photo(self._paths[index])


def read_photo(path: str | Path) -> Image.Image:
    """Read a photo as an upright 8-bit RGB image.

    EXIF orientation is applied; of a file with several pictures (MPO, GIF, TIFF) the first is
    taken; transparency is put on white; more than 8 bits a channel are scaled down, not clipped;
    colours of another profile, such as a phone's Display P3, become sRGB.

    Raises:
        UserError: no such file, or it cannot be read as a picture; says why and what to do.
    """
    return _read(Path(path)).image


def read_ahead(paths: Sequence[Path]) -> Iterator[Image.Image]:
    """Yield what `read_photo` returns for each path, in order.

    Threads read the next few photos while the caller uses one.

    Raises:
        UserError: as `read_photo`, when the photo's turn comes.
    """
    formats()  # prepares Pillow, which is not to be done by several threads at once
    pool = ThreadPoolExecutor(_THREADS)
    rest, reading = iter(paths), deque[Future[Image.Image]]()
    try:
        while True:
            for path in islice(rest, _THREADS - len(reading)):
                reading.append(pool.submit(read_photo, path))
            if not reading:
                return
            yield reading.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def vet_folder(
    folder: str | Path, key: str = "data.instance_dir", resolution: int | None = None
) -> VettingReport:
    """Read every file of a folder, not of its subfolders, and report what can be used.

    Hidden files (and Thumbs.db, desktop.ini) are passed over in silence, and so are the captions
    and masks of photos; see `sidecars`.

    Args:
        folder: where the photos lie.
        key: the config key that the folder came from, for error messages.
        resolution: side in pixels of the images to train on; warns of photos that are small,
            blurred, empty, of extreme shape or there twice. None for no warnings.

    Raises:
        UserError: there is no such folder, or no photo in it can be used.
    """
    folder = Path(folder)
    entries = visible_entries(folder, key)
    others = reasons_not_photos(entries)
    candidates = [path for path in entries if path not in others]
    found = dict(zip(candidates, _vet_all(candidates, resolution), strict=True))
    read = {path: vetted for path, vetted in found.items() if not isinstance(vetted, str)}
    refused = {path: reason for path, reason in (others | found).items() if isinstance(reason, str)}
    report = VettingReport(
        folder,
        used=tuple(read),
        fixed=tuple(Note(path, ", ".join(fixes)) for path, (fixes, _) in read.items() if fixes),
        refused=tuple(Note(path, refused[path]) for path in entries if path in refused),
        companions=tuple(path for path, reason in others.items() if reason is None),
        warned=_warnings({path: look for path, (_, look) in read.items() if look is not None}),
    )
    if not read:
        details = "".join(f"\n{line}" for line in report.lines()[1:]) or " It is empty."
        raise UserError(
            f"{key}: {str(folder)!r} holds no photo that can be used. Put JPEG or PNG photos of "
            f"the subject there, three to five are usual.{hint_about_folders(entries)}{details}"
        )
    return report


@once_per_file(4096)
def photo_size(path: Path) -> tuple[int, int]:
    """Return height and width in pixels of the upright photo; reads only the file's head."""
    with open_picture(path) as file:
        return upright_size(file)


def prepare(
    image: Image.Image,
    resolution: int | tuple[int, int],
    centering: tuple[float, float] = (0.5, 0.5),
) -> Image.Image:
    """Scale an image, antialiased, until it just covers the wanted size, and crop the rest.

    Args:
        image: what to scale.
        resolution: side of a square in pixels, or (height, width).
        centering: (x, y) in [0, 1], where in the overhang the crop lies: 0 left or top, 0.5 centre.
    """
    height, width = (resolution,) * 2 if isinstance(resolution, int) else resolution
    return ImageOps.fit(
        image, (width, height), method=Image.Resampling.LANCZOS, centering=centering
    )


def to_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as float32 [3, H, W] in [-1, 1]."""
    assert image.mode == "RGB", f"expected an RGB image, not {image.mode}"
    return torch.from_numpy(np.asarray(image, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


def _read(path: Path, at_least: int | None = None) -> UprightPicture:
    with open_picture(path) as file:
        if file.format == "PNG":
            check_png(path)
        return to_upright_rgb(file, at_least)


Vetted = tuple[list[str], Look | None]
"""What was done to a photo in reading it, and what it looks like if that is asked for."""


def _vet_all(paths: Sequence[Path], resolution: int | None) -> Iterator[Vetted | str]:
    """Yield what reading each file found, or the reason why it cannot be read."""
    formats()  # prepares Pillow, which is not to be done by several threads at once
    pool = ThreadPoolExecutor(_THREADS)
    try:
        results = pool.map(lambda path: _vet(path, resolution), paths)
        if len(paths) < MANY:
            yield from results
            return
        with ProgressReporter().task("reading photos", len(paths)) as task:
            for done, result in enumerate(results, start=1):
                yield result
                if task.due():
                    task.update(done)
    finally:
        pool.shutdown(cancel_futures=True)


def _vet(path: Path, resolution: int | None) -> Vetted | str:
    try:
        # Scaled down while it is decoded: every byte is read all the same, in less time and memory.
        image, fixes, size = _read(path, at_least=LOOK_SIZE)
        return fixes, None if resolution is None else look_at(image, size, resolution)
    except UnreadablePicture as error:
        return error.reason
    except MemoryError:
        return "too large for the memory that is free; scale it down"


def _warnings(looks: dict[Path, Look]) -> tuple[Note, ...]:
    paths = list(looks)
    found = [(n, text) for n, path in enumerate(paths) for text in looks[path].warnings]
    for later, earlier, how in find_duplicates(list(looks.values())):
        text = f"{how} {paths[earlier].name}; remove one, unless it is to weigh twice"
        found.append((later, text))
    return tuple(Note(paths[number], text) for number, text in sorted(found))
