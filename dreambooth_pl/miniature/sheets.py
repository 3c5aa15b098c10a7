"""Contact sheets of the embedded base: the world, the subjects and the autoencoder's output."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from dreambooth_pl.files.contact_sheet import contact_sheet, image_table
from dreambooth_pl.miniature import subjects, world
from dreambooth_pl.miniature.captions import caption
from dreambooth_pl.miniature.pretrain.pictures import scene
from dreambooth_pl.prompts import SUBJECTS


def world_sheet(seed: int, count: int = 40, columns: int = 8) -> Image.Image:
    """Return a sheet of a seed's first `count` pictures, each with a caption as in training."""
    images, captions = [], []
    for index in range(count):
        sampled, rng = scene(seed, index)
        images.append(world.render(sampled))
        captions.append(caption(sampled, rng))
    return contact_sheet(images, captions, columns, title="the picture-book world")


def subjects_sheet(names: Sequence[str] = tuple(SUBJECTS)) -> Image.Image:
    """Return a sheet with one row for each subject that shows all its photos."""
    rows = [[world.render(photo) for photo in subjects.photos(name)] for name in names]
    columns = [f"photo {n}" for n in range(len(rows[0]))]
    labels = [f"{name}\n({SUBJECTS[name]})" for name in names]
    return image_table(rows, labels, columns, title="the subjects")


def autoencoder_sheet(
    images: Sequence[Image.Image], decoded: Sequence[Image.Image], names: Sequence[str]
) -> Image.Image:
    """Return a sheet of pictures above the same pictures encoded and decoded."""
    labels = ["picture", "encoded and decoded"]
    return image_table([list(images), list(decoded)], labels, names, title="the autoencoder")
