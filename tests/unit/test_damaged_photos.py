"""Files with random damage: each is read, or refused with a reason; nothing else may come of it.

`MUTANTS=50000 pytest -s tests/unit/test_damaged_photos.py` tries more of them.
"""

from __future__ import annotations

import io
import os
import random
import re
import resource
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from dreambooth_pl.data.masks import read_mask
from dreambooth_pl.data.photos import photo_size, read_photo, vet_folder
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.pictures import formats

MUTANTS = int(os.environ.get("MUTANTS", "400"))
BATCH = 50
SECONDS_A_BATCH = 60.0
MEGABYTES = 2000  # one picture of the most pixels that Pillow takes, twice


def textured(width: int = 24, height: int = 16) -> Image.Image:
    rng = np.random.default_rng(7)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def sound_files() -> dict[str, bytes]:
    """A small file of each kind that is opened, and two of kinds that are not."""
    picture = textured()
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    deep = Image.fromarray(np.linspace(0, 65535, 24 * 16).reshape(16, 24).astype(np.uint16))
    floats = Image.fromarray(np.linspace(0, 1, 24 * 16).reshape(16, 24).astype(np.float32))
    animated = {"save_all": True}
    wanted: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "baseline.JPEG": (picture, {"exif": exif, "icc_profile": profile}),
        "progressive.JPEG": (picture, {"progressive": True}),
        "cmyk.JPEG": (picture.convert("CMYK"), {}),
        "two.MPO": (picture, animated),
        "colour.PNG": (picture, {"exif": exif, "icc_profile": profile}),
        "palette.PNG": (picture.convert("P"), {"transparency": 3}),
        "deep.PNG": (deep, {}),
        "animated.PNG": (picture, animated),
        "still.GIF": (picture, {}),
        "animated.GIF": (picture, animated),
        "plain.BMP": (picture, {}),
        "palette.BMP": (picture.convert("P"), {}),
        "plain.TIFF": (picture, {"exif": exif}),
        "lzw.TIFF": (picture, {"compression": "tiff_lzw"}),
        "deflate.TIFF": (picture, {"compression": "tiff_adobe_deflate"}),
        "jpeg.TIFF": (picture, {"compression": "jpeg"}),
        "floats.TIFF": (floats, {}),
        "pages.TIFF": (picture, animated),
        "lossy.WEBP": (picture, {"exif": exif}),
        "lossless.WEBP": (picture.convert("RGBA"), {"lossless": True}),
        "animated.WEBP": (picture, animated),
        "file.DDS": (picture, {}),
        "file.BLP": (picture.convert("P"), {}),
    }
    if features.check("avif"):
        wanted["still.AVIF"] = (picture, {"exif": exif})
        wanted["animated.AVIF"] = (picture, animated)
    if "HEIF" in formats():
        wanted["still.HEIF"] = (picture, {})
    found = {}
    for name, (image, settings) in wanted.items():
        file = io.BytesIO()
        if "save_all" in settings:
            second = textured().transpose(Image.Transpose.ROTATE_180)
            settings = {**settings, "append_images": [second]}
        image.copy().save(file, format=name.split(".")[1], **settings)  # saving leaves traces
        found[name] = file.getvalue()
    return found


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Change a file in one to four places; half of the changes are in its first 64 bytes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        end = len(changed) if rng.random() < 0.5 else min(64, len(changed))
        at = rng.randrange(max(end, 1))
        match rng.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                changed[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
            case 2:
                del changed[at:]
            case 3:
                del changed[at : at + rng.randint(1, 16)]
            case 4:
                changed[at:at] = rng.randbytes(rng.randint(1, 16))
            case _:
                if changed[at : at + 1]:
                    changed[at] ^= 1 << rng.randrange(8)
        if not changed:
            break
    return bytes(changed)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_damage_is_refused_with_a_reason(tmp_path: Path) -> None:
    sound = list(sound_files().items())
    rng = random.Random(42)
    photo = tmp_path / "photo.png"
    textured().save(photo)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts: Counter[str] = Counter()
    slowest = 0.0
    for first in range(0, MUTANTS, BATCH):
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "0.png").write_bytes(photo.read_bytes())
        for number in range(first, min(first + BATCH, MUTANTS)):
            name, data = sound[number % len(sound)]
            suffix = name.split(".")[1].lower()
            (folder / f"{number}.{suffix}").write_bytes(damaged(data, rng))
        started = time.monotonic()
        report = vet_folder(folder, resolution=32)
        for path in report.used:
            image = read_photo(path)
            assert image.size[::-1] == photo_size(path), path
            assert image.mode == "RGB"
        for note in report.refused:
            with pytest.raises(UserError) as refusal:
                read_photo(note.path)
            assert str(refusal.value) == f"{note.path}: {note.text}"
            counts[re.sub(r"-?\d\S*", "#", re.split(r"[(;,]", note.text)[0]).strip()] += 1
        for path in (*report.used, *(note.path for note in report.refused)):
            try:
                read_mask(path, photo)
            except UserError:
                counts["as a mask: refused"] += 1
        counts["used"] += len(report.used) - 1
        slowest = max(slowest, time.monotonic() - started)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    print(f"\n{MUTANTS} mutants of {len(sound)} files, {grown:.0f} MB more, "
          f"slowest {BATCH}: {slowest:.1f} s")  # fmt: skip
    for what, count in counts.most_common():
        print(f"{count:6d} {what}")
    assert sum(counts.values()) - counts["as a mask: refused"] == MUTANTS
    assert slowest < SECONDS_A_BATCH
    assert grown < MEGABYTES
