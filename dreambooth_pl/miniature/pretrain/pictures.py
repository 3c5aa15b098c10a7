"""Stage `world`: the drawn training pictures and their captions, rendered once to disk.

There are two sets: captioned pictures, each of a subject of its own, and pictures of subjects that
are seen several times, for learning what makes a subject the same.
"""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dreambooth_pl.files.atomic import atomic_path, write_json
from dreambooth_pl.miniature import world
from dreambooth_pl.miniature.captions import caption
from dreambooth_pl.miniature.settings import SETTINGS as PLACES
from dreambooth_pl.randomness import stable_hash

SIZE = 128
"""Side of the drawn pictures, pixels."""
MASK_SIZE = 32
"""Side of the subjects' masks, for weighting what a picture is about."""
CAPTIONS_PER_PICTURE = 4
CHUNK = 2_000

NOUNS = ("dog",) * 7 + ("cat",) * 3 + tuple(world.CLASSES)
"""What captioned pictures show, repeated by weight: all classes, dogs and cats more often, because
they are the hardest to draw and what people try first."""
SETTINGS = tuple(PLACES)

VIEWS = 4
"""Pictures of each subject that is seen several times."""
SUBJECT_NOUNS = ("dog",) * 6 + ("cat",) * 3 + tuple(world.CLASSES)
"""What those subjects are."""


@dataclass(frozen=True)
class Pictures:
    """Rendered pictures, memory-mapped."""

    images: np.ndarray
    """[N, 128, 128, 3] uint8."""
    masks: np.ndarray
    """[N, 32, 32] uint8, 255 where the subject is seen."""
    captions: list[list[str]]
    """`CAPTIONS_PER_PICTURE` true captions of each picture."""

    def __len__(self) -> int:
        return len(self.captions)


def scene(seed: int, index: int) -> tuple[world.Scene, random.Random]:
    """Captioned scene `index`, and the generator that its captions go on with."""
    rng = random.Random(stable_hash(seed, "picture", index))
    return world.sample_scene(rng, NOUNS, SETTINGS), rng


def subject_scene(seed: int, index: int) -> tuple[world.Scene, random.Random]:
    """View `index % VIEWS` of subject `index // VIEWS`: new pose, place, clothing, style."""
    rng = random.Random(stable_hash(seed, "subject", index // VIEWS))
    subject = world.sample_scene(rng, SUBJECT_NOUNS)
    rng = random.Random(stable_hash(seed, "subject view", index))
    changes = world.sample_changes(rng, world.CLASSES[subject.noun])
    changes.pop("tint", None)  # it would be another subject
    plain = world.Scene(subject.noun, subject.look, subject.pose, rng.choice(tuple(PLACES)))
    return replace(world.sample_view(rng, plain), **changes), rng


SETS = {"world": scene, "subjects": subject_scene}
"""Folder of a set of pictures -> what draws its scenes."""


def _chunk(job: tuple[Path, int, int]) -> Path:
    folder, seed, start = job
    path = folder / f"{start:07d}.npy"
    if path.exists() and all(path.with_suffix(s).exists() for s in (".json", ".masks")):
        return path
    images = np.empty((CHUNK, SIZE, SIZE, 3), np.uint8)
    masks = np.empty((CHUNK, MASK_SIZE, MASK_SIZE), np.uint8)
    captions = []
    for i in range(CHUNK):
        drawn, rng = SETS[folder.name](seed, start + i)
        image, mask = world.draw_with_mask(drawn, SIZE)
        images[i] = np.asarray(image)
        masks[i] = np.asarray(mask.reduce(SIZE // MASK_SIZE))
        captions.append([caption(drawn, rng) for _ in range(CAPTIONS_PER_PICTURE)])
    write_json(path.with_suffix(".json"), captions)
    with atomic_path(path.with_suffix(".masks")) as temporary, temporary.open("wb") as file:
        np.save(file, masks)
    with atomic_path(path) as temporary:
        np.save(temporary, images)
    return path


def render(folder: Path, count: int, seed: int, processes: int) -> Iterator[int]:
    """Draw `count` pictures (rounded up to whole chunks) into `folder`; yields how many are done.

    The folder's name says of which of `SETS` they are.

    Chunks that are already there are kept, so an interrupted rendering goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(folder, seed, start) for start in range(0, count, CHUNK)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, _ in enumerate(pool.imap_unordered(_chunk, jobs), 1):
            yield done * CHUNK


def load(folder: Path, count: int | None = None) -> Pictures:
    """The rendered pictures, memory-mapped chunk by chunk and joined in order."""
    chunks = sorted(folder.glob("[!.]*.npy"))
    if count is not None:
        chunks = chunks[: -(-count // CHUNK)]
    if not chunks:
        raise FileNotFoundError(f"{folder} holds no pictures; run the stage `world` first")
    images = np.concatenate([np.load(p, mmap_mode="r") for p in chunks])
    captions = [c for p in chunks for c in json.loads(p.with_suffix(".json").read_text())]
    masks = np.concatenate([np.load(p.with_suffix(".masks")) for p in chunks])
    return Pictures(images, masks, captions)
