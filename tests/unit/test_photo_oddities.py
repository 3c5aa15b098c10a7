"""A table of odd files as phones, browsers and other tools leave them, and what becomes of each."""

from __future__ import annotations

import os
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, features

from dreambooth_pl.data.photos import VettingReport, photo_size, read_photo, vet_folder
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.pictures import formats

RESOLUTION = 32
Make = Callable[[Path], Path]


def textured(width: int = 48, height: int = 36, seed: int = 1) -> Image.Image:
    """Coarse coloured patches, which a scaled copy keeps, under fine noise."""
    rng = np.random.default_rng(seed)
    patches = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    values = np.asarray(patches.resize((width, height), Image.Resampling.NEAREST), dtype=int)
    noise = rng.integers(-30, 31, (height, width, 1))
    return Image.fromarray(np.clip(values + noise, 0, 255).astype(np.uint8))


def save(name: str, image: Image.Image | None = None, **settings: object) -> Make:
    """Write a picture."""

    def make(folder: Path) -> Path:
        own = textured() if image is None else image.copy()
        # Copies, for saving leaves traces that the next format stumbles over.
        others = [other.copy() for other in settings.get("append_images", ())]
        own.save(folder / name, **settings | ({"append_images": others} if others else {}))
        return folder / name

    return make


def renamed(name: str, make: Make) -> Make:
    return lambda folder: make(folder).rename(folder / name)


def changed(make: Make, change: Callable[[bytes], bytes]) -> Make:
    """Write a picture and change its bytes."""

    def make_and_change(folder: Path) -> Path:
        path = make(folder)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make_and_change


def cut(make: Make, share: float = 0.5) -> Make:
    return changed(make, lambda data: data[: int(len(data) * share)])


def holds(name: str, data: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def beside(photo: str, name: str, data: bytes = b"a sks dog") -> Make:
    """Write a photo, and a file beside it."""

    def make(folder: Path) -> Path:
        if photo:
            textured(seed=3).save(folder / photo)
        return holds(name, data)(folder)

    return make


def mask(photo: str, name: str) -> Make:
    def make(folder: Path) -> Path:
        if photo:
            textured(seed=3).save(folder / photo)
        Image.new("L", (48, 36), 255).save(folder / name)
        return folder / name

    return make


def directory(name: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).mkdir()
        return folder / name

    return make


def png(*chunks: tuple[bytes, bytes], checksums: bool = True) -> bytes:
    found = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        checksum = zlib.crc32(kind + data) ^ (0 if checksums or kind != b"IDAT" else 1)
        found += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
    return found


def deep_png(values: np.ndarray, checksums: bool = True) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write in colour."""
    height, width = values.shape[:2]
    kind = 2 if values.ndim == 3 else 0
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return png(*parts, checksums=checksums)


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def link(target: str) -> Make:
    def make(folder: Path) -> Path:
        textured(seed=3).save(folder.parent / "elsewhere.png")
        (folder / "link.png").symlink_to(target)
        return folder / "link.png"

    return make


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.jpg")
    return folder / "pipe.jpg"


def copies(first: Image.Image, second: Image.Image) -> Make:
    def make(folder: Path) -> Path:
        first.save(folder / "1.png")
        second.save(folder / "2.png")
        return folder / "2.png"

    return make


def without_checksum(data: bytes) -> bytes:
    """Change a bit of the checksum of a PNG's last IDAT; IEND takes the last 12 bytes."""
    return data[:-13] + bytes([data[-13] ^ 1]) + data[-12:]


def with_bad_text(data: bytes) -> bytes:
    text = bytearray(png((b"tEXt", b"a\0b"))[8:])
    text[-1] ^= 1
    return data[:-12] + bytes(text) + data[-12:]


def of_kind(tag: int, value: int) -> Callable[[bytes], bytes]:
    """Change a tag of a little-endian TIFF."""

    def change(data: bytes) -> bytes:
        at = data.index(struct.pack("<HH", tag, 3), 8) + 8
        return data[:at] + struct.pack("<H", value) + data[at + 2 :]

    return change


GREYS = np.linspace(0, 65535, 48 * 36).astype(np.uint16)
GREYS = np.random.default_rng(0).permutation(GREYS).reshape(36, 48)
COLOURS = np.random.default_rng(0).integers(0, 65536, (36, 48, 3))
FLOATS = (GREYS / 65535).astype(np.float32)
ROWS = Image.fromarray(GREYS.astype(np.int32))
TWO = {"save_all": True, "append_images": [textured(seed=9)]}
COMPOSED, SPLIT = (unicodedata.normalize(form, "Hündin") for form in ("NFC", "NFD"))
TALL = textured(30, 120)
BOMB = png((b"IHDR", struct.pack(">IIBBBBB", 10**5, 10**5, 8, 2, 0, 0, 0)), (b"IDAT", b""))
BLURRED = textured(400, 300).filter(ImageFilter.GaussianBlur(60))

USED, FIXED, REFUSED, WARNED = "used", "fixed", "refused", "warned"
COMPANION, SILENT = "companion", "silent"

TABLE: dict[str, tuple[Make, str, str]] = {
    # what can be read as it is
    "JPEG": (save("a.jpg"), USED, ""),
    "progressive JPEG": (save("a.jpg", progressive=True), USED, ""),
    "grey JPEG": (save("a.jpg", textured().convert("L")), USED, ""),
    "suffix in capitals": (save("IMG_0001.JPG"), USED, ""),
    "suffix .jfif of browsers": (save("a.jfif", format="JPEG"), USED, ""),
    "no suffix": (save("a", format="PNG"), USED, ""),
    "PNG called JPEG": (renamed("a.jpg", save("a.png")), USED, ""),
    "palette": (save("a.png", textured().convert("P")), USED, ""),
    "one bit": (save("a.png", textured().convert("1")), USED, ""),
    "opaque alpha": (save("a.png", textured().convert("RGBA")), USED, ""),
    "WebP": (save("a.webp"), USED, ""),
    "lossless WebP": (save("a.webp", lossless=True), USED, ""),
    "BMP": (save("a.bmp"), USED, ""),
    "GIF": (save("a.gif"), USED, ""),
    "TIFF": (save("a.tif"), USED, ""),
    "compressed TIFF": (save("a.tif", compression="tiff_lzw"), USED, ""),
    "bytes after the end": (changed(save("a.jpg"), lambda d: d + b"more" * 50), USED, ""),
    "EXIF of nonsense": (save("a.jpg", exif=b"Exif\0\0" + b"\xff" * 40), USED, ""),
    "orientation 9": (save("a.jpg", exif=exif(9)), USED, ""),
    "profile of nonsense": (save("a.jpg", icc_profile=b"nonsense"), USED, ""),
    "a PNG's text with a wrong checksum": (changed(save("a.png"), with_bad_text), USED, ""),
    "link": (link("../elsewhere.png"), USED, ""),
    "name with a line break": (save("two\nlines.png"), USED, ""),
    "name with an emoji": (save("\U0001f436 dog.png"), USED, ""),
    "name that is no UTF-8": (save("dog\udcff.png"), USED, ""),
    "name of 250 letters": (save("a" * 246 + ".png"), USED, ""),
    # what is mended in reading
    "turned JPEG": (save("a.jpg", exif=exif(6)), FIXED, "turned upright"),
    "turned TIFF": (save("a.tif", exif=exif(6)), FIXED, "turned upright"),
    "turned PNG": (save("a.png", exif=exif(8)), FIXED, "turned upright"),
    "CMYK": (save("a.jpg", textured().convert("CMYK")), FIXED, "converted from CMYK to RGB"),
    "two pictures (MPO)": (save("a.jpg", format="MPO", **TWO), FIXED, "the first of 2"),
    "animated GIF": (save("a.gif", **TWO), FIXED, "the first of 2"),
    "animated WebP": (save("a.webp", **TWO), FIXED, "the first of 2"),
    "animated PNG": (save("a.png", **TWO), FIXED, "the first of 2"),
    "TIFF of two pages": (save("a.tif", **TWO), FIXED, "the first of 2"),
    "half transparent": (save("a.png", textured().convert("RGBA").rotate(45)), FIXED, "on white"),
    "16 bits grey": (save("a.png", Image.fromarray(GREYS)), FIXED, "reduced to 8 bits a channel"),
    "16 bits colour": (holds("a.png", deep_png(COLOURS)), FIXED, "reduced to 8 bits"),
    "12 bits in 16": (save("a.png", Image.fromarray(GREYS // 16)), FIXED, "at most 4095, for 12"),
    "10 bits in 16": (save("a.tif", Image.fromarray(GREYS // 64)), FIXED, "at most 1023, for 10"),
    "8 bits in 16": (save("a.png", Image.fromarray(GREYS // 257)), FIXED, "at most 255, for 8"),
    "floats in [0, 1]": (save("a.tif", Image.fromarray(FLOATS)), FIXED, "reduced to 8 bits"),
    "floats that are bytes": (
        save("a.tif", Image.fromarray(np.rint(FLOATS * 255))), FIXED, "at most 255, for 8 bits",
    ),
    "32 bits with 16 used": (save("a.tif", ROWS), FIXED, "reduced to 8 bits"),
    # pictures whose numbers mean nothing
    "12 bits in 16, colour": (holds("a.png", deep_png(COLOURS // 16)), REFUSED, "at most 12 bits"),
    "floats beyond 1": (save("a.tif", Image.fromarray(FLOATS * 1.7)), REFUSED, "from 0 to 1.7"),
    "negative floats": (save("a.tif", Image.fromarray(FLOATS - 0.5)), REFUSED, "from -0.5 to"),
    "not a number": (
        save("a.tif", Image.fromarray(np.where(FLOATS > 0.5, np.nan, FLOATS))),
        REFUSED, "no finite numbers",
    ),
    "infinite": (
        save("a.tif", Image.fromarray(np.where(FLOATS > 0.5, np.inf, FLOATS))),
        REFUSED, "no finite numbers",
    ),
    "negative integers": (
        save("a.tif", Image.fromarray(GREYS.astype(np.int32) - 9)), REFUSED, "holds values from -9",
    ),
    "integers beyond 16 bits": (
        save("a.tif", Image.fromarray(GREYS.astype(np.int32) * 9)), REFUSED, "holds values from 0",
    ),
    # damage
    "cut JPEG": (cut(save("a.jpg")), REFUSED, "damaged or cut off"),
    "head of a JPEG": (cut(save("a.jpg"), 0.01), REFUSED, "damaged or cut off"),
    "cut PNG": (cut(save("a.png")), REFUSED, "damaged or cut off"),
    "cut WebP": (cut(save("a.webp")), REFUSED, "damaged or cut off"),
    "cut GIF": (cut(save("a.gif")), REFUSED, "damaged or cut off"),
    "cut BMP": (cut(save("a.bmp")), REFUSED, "damaged or cut off"),
    "cut TIFF": (cut(save("a.tif")), REFUSED, "damaged or cut off"),
    "cut, compressed TIFF": (
        cut(save("a.tif", compression="tiff_lzw"), 0.8), REFUSED, "damaged or cut off",
    ),
    "PNG with a wrong checksum": (
        changed(save("a.png"), without_checksum), REFUSED, "the checksum of its IDAT is wrong",
    ),
    "16-bit PNG with a wrong checksum": (
        holds("a.png", deep_png(GREYS, checksums=False)), REFUSED, "checksum of its IDAT",
    ),
    "PNG with a broken head": (
        changed(save("a.png"), lambda d: d[:29] + bytes(4) + d[33:]), REFUSED, "damaged or cut off",
    ),
    "empty file": (holds("a.jpg", b""), REFUSED, "an empty file"),
    "zeros": (holds("a.jpg", bytes(5000)), REFUSED, "nothing but zeros"),
    "100,000 pixels square": (holds("a.png", BOMB), REFUSED, "too many pixels"),
    "70,000 pixels wide": (save("a.png", Image.new("1", (70_000, 2))), REFUSED, "no photo's"),
    "TIFF of an unknown kind": (
        changed(save("a.tif"), of_kind(262, 999)), REFUSED, "of a kind that cannot be read here",
    ),
    "TIFF with unknown compression": (
        changed(save("a.tif"), of_kind(259, 4242)), REFUSED, "",
    ),
    # what is no photo
    "HEIC": (
        holds("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0"),
        REFUSED, "damaged" if "HEIF" in formats() else 'pip install "dreambooth_pl[heif]"',
    ),
    "text called JPEG": (holds("a.jpg", b"no picture"), REFUSED, "in spite of its name .jpg"),
    "web page": (holds("a.jpg", b"<!DOCTYPE html><p>404"), REFUSED, "a web page"),
    "pointer of Git LFS": (
        holds("a.png", b"version https://git-lfs.github.com/spec/v1\n"), REFUSED, "git lfs pull",
    ),
    "video": (holds("a.mov", b"\0\0\0\x18ftypqt  "), REFUSED, "a video"),
    "video called JPEG": (holds("a.jpg", b"\0\0\0\x18ftypmp42" + bytes(9)), REFUSED, "a video"),
    "Photoshop": (holds("a.psd", b"8BPS\0\1" + bytes(40)), REFUSED, "a Photoshop file"),
    "PDF": (holds("a.pdf", b"%PDF-1.7\n"), REFUSED, "a PDF file"),
    "PostScript": (holds("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n"), REFUSED, "a PostScript file"),
    "SVG": (holds("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), REFUSED, "in XML"),
    "archive": (holds("a.zip", b"PK\x03\x04" + bytes(30)), REFUSED, "an archive; unpack it"),
    "JPEG XL": (holds("a.jxl", b"\xff\x0a" + bytes(30)), REFUSED, "a JPEG XL picture"),
    "JPEG 2000": (
        holds("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(30)), REFUSED, "a JPEG 2000 picture",
    ),
    "DDS": (save("a.dds"), REFUSED, "a DDS file, which is not read"),
    "BLP": (save("a.blp", textured().convert("P")), REFUSED, "a BLP file, which is not read"),
    "icon": (save("a.ico"), REFUSED, "ICO file, which is not read"),
    "raw file": (renamed("a.dng", save("a.tif")), REFUSED, "a camera's raw file"),
    "unfinished download": (renamed("a.jpg.part", save("a.jpg")), REFUSED, "has not finished"),
    "in iCloud": (holds(".IMG_1.HEIC.icloud", b"bplist00"), REFUSED, "IMG_1.HEIC is in iCloud"),
    "Apple's edits": (holds("IMG_1.AAE", b"<?xml ?>"), REFUSED, "another program's"),
    "XMP": (beside("a.png", "a.xmp"), REFUSED, "another program's"),
    "Google's remarks": (beside("a.png", "a.png.json", b"{}"), REFUSED, "another program's"),
    "folder": (directory("more"), REFUSED, "a folder; photos are read from the folder itself"),
    "folder of masks": (directory("masks"), REFUSED, "set data.mask_dir to"),
    "link to nothing": (link("gone.png"), REFUSED, "a link to gone.png, which is not there"),
    "pipe": (pipe, REFUSED, "not a plain file"),
    "hidden file": (holds(".hidden.png", b"no matter"), SILENT, ""),
    "a Mac's double": (holds("._a.png", b"no matter"), SILENT, ""),
    "Windows' thumbnails": (holds("Thumbs.db", b"no matter"), SILENT, ""),
    "a NAS's thumbnails": (directory("@eaDir"), SILENT, ""),
    # captions
    "caption": (beside("a.png", "a.txt"), COMPANION, ""),
    "kohya's caption": (beside("a.png", "a.caption"), COMPANION, ""),
    "caption in capitals": (beside("a.png", "a.TXT"), COMPANION, ""),
    "kohya's caption in capitals": (beside("a.png", "a.Caption"), COMPANION, ""),
    "caption of the whole name": (beside("a.png", "a.png.txt"), COMPANION, ""),
    "caption in the other form": (beside(f"{COMPOSED}.png", f"{SPLIT}.txt"), COMPANION, ""),
    "metadata.jsonl": (beside("a.png", "metadata.jsonl", b""), COMPANION, ""),
    "caption of no photo": (beside("", "b.txt"), REFUSED, "there is no photo b here"),
    "caption of a folder": (beside("", "b.caption"), REFUSED, "looks like a caption"),
    "caption with another suffix": (beside("a.png", "a.cap"), REFUSED, "a caption, not read"),
    "metadata in capitals": (beside("a.png", "METADATA.JSONL"), REFUSED, "captions, not read"),
    "metadata.csv": (beside("a.png", "metadata.csv"), REFUSED, "looks like captions, not read"),
    "kohya's meta_cap.json": (beside("a.png", "meta_cap.json"), REFUSED, "looks like captions"),
    # masks
    "mask": (mask("a.png", "a.mask.png"), COMPANION, ""),
    "OneTrainer's mask": (mask("a.png", "a-masklabel.png"), COMPANION, ""),
    "mask with a dash": (mask("a.png", "a-mask.png"), COMPANION, ""),
    "mask with a line": (mask("a.png", "a_mask.png"), COMPANION, ""),
    "mask in capitals": (mask("a.png", "a.MASK.PNG"), COMPANION, ""),
    "mask of the whole name": (mask("a.png", "a.png.mask.png"), COMPANION, ""),
    "mask as JPEG": (mask("a.png", "a_mask.jpg"), COMPANION, ""),
    "mask in the other form": (mask(f"{COMPOSED}.png", f"{SPLIT}.mask.png"), COMPANION, ""),
    "mask without photo": (mask("", "b.mask.png"), REFUSED, "mask of a photo b, which is not"),
    "OneTrainer's without photo": (mask("", "b-masklabel.png"), REFUSED, "of a photo b, which"),
    "dash without photo": (mask("", "b-mask.png"), REFUSED, "of a photo b, which is not here"),
    "line without photo": (mask("", "b_mask.png"), REFUSED, "of a photo b, which is not here"),
    # what is said before training
    "small": (save("a.png", textured(20, 15)), WARNED, "20 x 15 pixels, less than half"),
    "extreme shape": (save("a.png", TALL), WARNED, "30 x 120 pixels, a shape beyond 3 : 1"),
    "black": (save("a.png", Image.new("RGB", (48, 36), (5, 9, 7))), WARNED, "black all over"),
    "one colour": (save("a.jpg", Image.new("RGB", (48, 36), "red")), WARNED, "one colour"),
    "blurred": (save("a.png", BLURRED), WARNED, "blurred so much"),
    "the same pixels": (copies(textured(), textured()), WARNED, "shows the same picture as 1.png"),
    "nearly the same": (
        copies(textured(), textured().resize((96, 72), Image.Resampling.BICUBIC)),
        WARNED, "nearly the same picture as 1.png",
    ),
}  # fmt: skip


def outcomes(report: VettingReport, name: str) -> dict[str, str]:
    """What a report says of a file."""
    found = {
        kind: note.text
        for kind, notes in ((FIXED, report.fixed), (REFUSED, report.refused))
        for note in notes
        if note.path.name == name
    }
    warned = [note.text for note in report.warned if note.path.name == name]
    if warned:
        found[WARNED] = "; ".join(warned)
    if name in {path.name for path in report.used}:
        found[USED] = ""
    if name in {path.name for path in report.companions}:
        found[COMPANION] = ""
    return found or {SILENT: ""}


@pytest.mark.parametrize(("make", "outcome", "text"), TABLE.values(), ids=TABLE.keys())
def test_oddity(tmp_path: Path, make: Make, outcome: str, text: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    textured(seed=2).save(folder / "0.png")
    path = make(folder)
    report = vet_folder(folder, resolution=RESOLUTION)
    found = outcomes(report, path.name)
    assert outcome in found, found
    assert text in found[outcome]
    assert (USED in found) == (outcome in (USED, FIXED, WARNED))
    if outcome == USED:
        assert found.keys() == {USED}
    assert (path.name in {note.path.name for note in report.warned}) == (outcome == WARNED)
    if USED in found:
        assert read_photo(path).size[::-1] == photo_size(path)
    elif outcome == REFUSED and "mask" not in path.name:  # a lonely mask is a sound picture
        with pytest.raises(UserError):
            read_photo(path)
    for line in report.lines():
        assert "\n" not in line
        line.encode("utf-8")  # can be printed


def test_the_table_is_long() -> None:
    assert len(TABLE) >= 80


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
def test_avif(tmp_path: Path) -> None:
    textured().save(tmp_path / "a.avif")
    whole = (tmp_path / "a.avif").read_bytes()
    (tmp_path / "cut.avif").write_bytes(whole[: len(whole) // 2])
    report = vet_folder(tmp_path)
    assert [path.name for path in report.used] == ["a.avif"]
    assert report.refused[0].text.startswith("damaged or cut off")


def test_heic(tmp_path: Path) -> None:
    if "HEIF" not in formats():
        (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
        with pytest.raises(UserError, match=r'pip install "dreambooth_pl\[heif\]"'):
            read_photo(tmp_path / "a.heic")
        return
    textured().save(tmp_path / "a.heic", quality=-1)
    assert read_photo(tmp_path / "a.heic").size == (48, 36)
    whole = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "cut.heic").write_bytes(whole[: len(whole) // 2])
    assert [note.path.name for note in vet_folder(tmp_path).refused] == ["cut.heic"]


def test_what_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so that the refusal is played."""
    textured().save(tmp_path / "a.png")
    textured().save(tmp_path / "b.png")
    real = Image.open

    def may_not(path: Path, **settings: object) -> Image.Image:
        if Path(path).name == "b.png":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **settings)

    monkeypatch.setattr(Image, "open", may_not)
    (note,) = vet_folder(tmp_path).refused
    assert note.text == "may not be read; change its permissions"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("x"), "damaged or cut off"),
        (RecursionError(), "damaged or cut off"),
        (OSError("odd"), "damaged or cut off"),
        (OSError(22, "Invalid argument"), "damaged or cut off"),  # of seeking to nowhere
        (OSError(5, "Input/output error"), "cannot be read (Input/output error)"),
        (NotImplementedError("filter not implemented"), "of a kind that cannot be read here"),
        (MemoryError(), "too large for the memory"),
    ],
)
def test_whatever_pillow_raises_refuses_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    textured().save(tmp_path / "a.png")
    textured().save(tmp_path / "b.gif")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile.load_prepare", fail)
    (note,) = vet_folder(tmp_path).refused
    assert note.path.name == "b.gif"
    assert note.text.startswith(reason)


@pytest.mark.parametrize(
    ("values", "bits"), [(GREYS // 16, 12), (GREYS // 64, 10), (GREYS // 257, 8)]
)
def test_values_of_few_bits_are_spread(tmp_path: Path, values: np.ndarray, bits: int) -> None:
    Image.fromarray(values).save(tmp_path / "a.png")
    greys = np.asarray(read_photo(tmp_path / "a.png"))[..., 0]
    assert np.abs(greys - values / (2**bits - 1) * 255).max() <= 0.5


def test_a_turned_tiff_has_the_size_that_is_seen(tmp_path: Path) -> None:
    textured(48, 36).save(tmp_path / "a.tif", exif=exif(6))
    assert photo_size(tmp_path / "a.tif") == (48, 36)
    assert read_photo(tmp_path / "a.tif").size == (36, 48)
