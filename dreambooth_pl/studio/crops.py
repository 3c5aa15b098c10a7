"""Moving the square of a photo that training sees: the photo is cut, and its original kept."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from dreambooth_pl.data.masks import find_masks, read_mask
from dreambooth_pl.data.photos import read_photo
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import atomic_path, copy_file
from dreambooth_pl.studio.subjects import Subject, original_of

MIDDLE = 0.5
"""Where the square lies by itself."""

_WRITTEN = {".jpg", ".jpeg", ".png", ".webp"}
_QUALITY = 95


def move_crop(subject: Subject, photo: Path, place: float) -> None:
    """Cut a photo, and its mask if it has one, to a square at a place along its longer side.

    Args:
        subject: whose photo.
        photo: the file.
        place: in [0, 1]: 0 is left or top. `MIDDLE` brings the original back.

    Raises:
        UserError: the subject is the example, or the photo is of a format that is not written.
    """
    if not subject.own:
        raise UserError(f"{subject.name} is the example and stays as it is; make a subject first.")
    if photo.suffix.lower() not in _WRITTEN:
        raise UserError(f"{photo.name}: save it as JPEG or PNG first, to move its crop.")
    (mask,) = find_masks([photo], None)
    paths = [photo, mask] if mask else [photo]
    for path in paths:
        if not original_of(subject, path).is_file():
            copy_file(path, original_of(subject, path))
    for path in paths:
        original = original_of(subject, path)
        if place == MIDDLE:
            copy_file(original, path)
            original.unlink()
            continue
        whole = original_of(subject, photo)
        image = read_photo(whole) if path == photo else read_mask(original, whole)
        options = {} if path.suffix.lower() == ".png" else {"quality": _QUALITY}
        with atomic_path(path) as temporary:
            _square(image, place).save(temporary, **options)


def _square(image: Image.Image, place: float) -> Image.Image:
    side = min(image.size)
    left, top = (round((length - side) * place) for length in image.size)
    return image.crop((left, top, left + side, top + side))
