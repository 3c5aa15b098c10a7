"""Contact sheets of the embedded base: the world, the subjects, what the autoencoder keeps."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from dreambooth_pl.files.contact_sheet import contact_sheet, image_table
from dreambooth_pl.miniature import subjects, world
from dreambooth_pl.miniature.captions import caption
from dreambooth_pl.miniature.pretrain.pictures import scene
from dreambooth_pl.prompts import SUBJECTS


def world_sheet(seed: int, count: int = 40, columns: int = 8) -> Image.Image:
    """The first `count` pictures of a seed, each with a caption as training sees it."""
    images, captions = [], []
    for index in range(count):
        drawn, rng = scene(seed, index)
        images.append(world.render(drawn))
        captions.append(caption(drawn, rng))
    return contact_sheet(images, captions, columns, title="the drawn world")


def subjects_sheet(names: Sequence[str] = tuple(SUBJECTS)) -> Image.Image:
    """All photos of each subject, a row a subject."""
    rows = [[world.render(photo) for photo in subjects.photos(name)] for name in names]
    columns = [f"photo {n}" for n in range(len(rows[0]))]
    labels = [f"{name}\n({SUBJECTS[name]})" for name in names]
    return image_table(rows, labels, columns, title="the subjects")


def autoencoder_sheet(
    images: Sequence[Image.Image], decoded: Sequence[Image.Image], names: Sequence[str]
) -> Image.Image:
    """Pictures above, and what the autoencoder makes of them below."""
    labels = ["picture", "encoded and decoded"]
    return image_table([list(images), list(decoded)], labels, names, title="the autoencoder")
