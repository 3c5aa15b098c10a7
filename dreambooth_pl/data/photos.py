"""Reading and vetting photos as people have them: turned, transparent, many-paged, broken."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from dreambooth_pl.errors import UserError

CAPTION_SUFFIX = ".txt"
"""`NAME.txt` beside a photo NAME.jpg is its caption."""
METADATA = "metadata.jsonl"
"""The captions of a folder in one file."""
MASK_SUFFIX = ".mask.png"
"""`NAME.mask.png` beside a photo NAME.jpg is its mask."""
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
"""Of drawn pictures, and of nearly all photos."""

_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}
_VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"}
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1"}
_DEEP_MODES = ("I", "F")  # and "I;16" with its byte orders: more than 8 bits a channel


def is_picture(path: Path) -> bool:
    """Tell by its name whether a file is a picture, and not the mask of one."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not _is_mask(path)


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
        lines += [f"  fixed    {note.path.name}: {note.text}" for note in self.fixed]
        lines += [f"  left out {note.path.name}: {note.text}" for note in self.refused]
        lines += [f"  warning  {note.path.name}: {note.text}" for note in self.warned]
        return lines + [f"  {remark}" for remark in self.remarks]


def read_photo(path: str | Path) -> Image.Image:
    """Read a photo as an upright 8-bit RGB image.

    EXIF orientation is applied; of a file with several pictures (MPO, GIF, TIFF) the first is
    taken; transparency is put on white; more than 8 bits a channel are scaled down, not clipped;
    colours of another profile, such as a phone's Display P3, become sRGB.

    Raises:
        UserError: no such file, or it cannot be read as a picture; says why and what to do.
    """
    return _read(Path(path))[0]


def vet_folder(folder: str | Path, key: str = "data.instance_dir") -> VettingReport:
    """Read every file of a folder, not of its subfolders, and report what can be used.

    Hidden files (and Thumbs.db, desktop.ini) are passed over in silence, and so are captions
    (`NAME.txt` beside a photo NAME, `metadata.jsonl`) and masks (`NAME.mask.png`).

    Args:
        folder: where the photos lie.
        key: the config key that the folder came from, for error messages.

    Raises:
        UserError: there is no such folder, or no photo in it can be used.
    """
    folder = Path(folder)
    used: list[Path] = []
    fixed: list[Note] = []
    refused: list[Note] = []
    companions: list[Path] = []
    entries = _visible_entries(folder, key)
    owners = {path.stem for path in entries if not _may_accompany(path)}
    for path in entries:
        if path.name == METADATA or (_may_accompany(path) and _owner(path) in owners):
            companions.append(path)
            continue
        try:
            fixes = _read(path)[1]
        except UserError as error:
            refused.append(Note(path, str(error).removeprefix(f"{path}: ")))
            continue
        used.append(path)
        if fixes:
            fixed.append(Note(path, ", ".join(fixes)))
    report = VettingReport(folder, tuple(used), tuple(fixed), tuple(refused), tuple(companions))
    if not used:
        found = "".join(f"\n{line}" for line in report.lines()[1:]) or " It is empty."
        raise UserError(
            f"{key}: {str(folder)!r} holds no photo that can be used. Put JPEG or PNG photos of "
            f"the subject there, three to five are usual.{found}"
        )
    return report


def photo_size(path: str | Path) -> tuple[int, int]:
    """Return height and width in pixels of the upright photo; reads only the file's head."""
    with Image.open(path) as file:
        width, height = file.size
        return (width, height) if _exif_orientation(file) in range(5, 9) else (height, width)


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


def _may_accompany(path: Path) -> bool:
    return path.suffix.lower() == CAPTION_SUFFIX or _is_mask(path)


def _is_mask(path: Path) -> bool:
    return path.name.lower().endswith(MASK_SUFFIX)


def _owner(path: Path) -> str:
    """Return the stem of the photo that a caption or mask would belong to."""
    if _is_mask(path):
        return path.name[: -len(MASK_SUFFIX)]
    return path.stem


def _visible_entries(folder: Path, key: str) -> Sequence[Path]:
    if folder.is_file():
        raise UserError(f"{key}: {str(folder)!r} is a file; give the folder that holds the photos.")
    if not folder.is_dir():
        raise UserError(
            f"{key}: there is no folder {str(folder)!r} (looked for {str(folder.absolute())!r})."
        )
    entries = (p for p in folder.iterdir() if not p.name.startswith("."))
    return sorted(p for p in entries if p.name.lower() not in _SYSTEM_FILES)


def _read(path: Path) -> tuple[Image.Image, list[str]]:
    """Return the photo as RGB and what was done to it, or raise UserError `PATH: reason`."""
    reason = _reason_not_to_try(path)
    if reason is None:
        try:
            with Image.open(path) as file:
                return _to_upright_rgb(file)
        except UnidentifiedImageError:
            reason = _reason_unidentified(path)
        except Image.DecompressionBombError:
            reason = "too many pixels; scale it down"
        except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
            reason = f"damaged or cut off ({error}); copy or export it again"
    raise UserError(f"{path}: {reason}")


def _reason_not_to_try(path: Path) -> str | None:
    if path.is_dir():
        return "a folder; photos are read from the folder itself, not from folders in it"
    if not path.is_file():
        return "there is no such file"
    if path.suffix.lower() in _VIDEO_SUFFIXES:
        return "a video; save some of its frames as JPEG or PNG"
    return None


def _reason_unidentified(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        return "an empty file; copy it again"
    is_heic = head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS
    if is_heic or path.suffix.lower() in (".heic", ".heif"):
        return (
            "a HEIC photo, which cannot be read here; convert it to JPEG or PNG (on an iPhone: "
            "Settings, Camera, Formats, Most Compatible)"
        )
    if path.suffix.lower() in Image.registered_extensions():
        return f"not a picture in spite of its name {path.suffix}; remove it or save it again"
    return "not a picture"


def _to_upright_rgb(file: Image.Image) -> tuple[Image.Image, list[str]]:
    fixes = []
    frames = getattr(file, "n_frames", 1)
    if frames > 1:
        fixes.append(f"took the first of {frames} pictures in the file")
        file.seek(0)
    image = file
    if _exif_orientation(file) in range(2, 9):
        image = ImageOps.exif_transpose(file)
        fixes.append("turned upright as its EXIF data says")
    if image.mode in _DEEP_MODES or image.mode.startswith("I;16"):
        image = to_eight_bits(image)
        fixes.append("reduced to 8 bits a channel")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if layer.getextrema()[3][0] < 255:
            fixes.append("put its transparent parts on white")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    elif image.mode not in ("RGB", "L", "P", "1"):
        fixes.append(f"converted from {image.mode} to RGB")
    image, name = _to_srgb(image if image.mode == "CMYK" else image.convert("RGB"), file)
    if name is not None:
        fixes.append(f"converted its colours from {name} to sRGB")
    return image.convert("RGB"), fixes


def _to_srgb(image: Image.Image, file: Image.Image) -> tuple[Image.Image, str | None]:
    """Return the image in sRGB and the name of the file's colour profile if that was another.

    Phones save in Display P3: the same numbers mean stronger colours there. A profile that cannot
    be read, or is of another kind of picture, is passed over, as viewers do.
    """
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(file.info["icc_profile"]))
        name = ImageCms.getProfileDescription(profile).strip() or "another profile"
        if "sRGB" in name:
            return image, None
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    except (KeyError, OSError, TypeError, ImageCms.PyCMSError):
        return image, None
    assert converted is not None, "only conversion in place returns nothing"
    return converted, name


def _exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where there is none or it cannot be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises many kinds for broken EXIF data; the picture may be sound
        return 1


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale a greyscale image of 16 bits, or of floats in [0, 1], to 8 bits."""
    values = np.asarray(image).astype(np.float64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its values are neither in [0, 1] nor 8 or 16 bits")
    if image.mode == "F":
        full = 1.0 if values.max() <= 1 else 255.0
    else:
        # Older Pillow reads 16-bit PNGs as "I", which TIFF uses for 32 bits: go by the values.
        full = 255.0 if image.mode == "I" and values.max() <= 255 else 65535.0
    return Image.fromarray(np.round(np.minimum(values / full, 1) * 255).astype(np.uint8))
