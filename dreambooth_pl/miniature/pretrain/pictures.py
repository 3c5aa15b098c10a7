"""Stage `world`: the training pictures and their captions, rendered once to disk.

There are two sets: pictures of a different subject each, and several pictures of each subject, from
which DINO learns to recognise a subject.
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
"""Side of the pictures in pixels."""
MASK_SIZE = 32
"""Side of the subjects' masks, which weight the losses."""
CAPTIONS_PER_PICTURE = 4
CHUNK = 2_000
"""Pictures per file."""

NOUNS = ("dog",) * 7 + ("cat",) * 3 + tuple(world.CLASSES)
"""Class nouns of the captioned pictures, repeated by weight: all classes, but more dogs and cats,
which are the hardest to generate and what users try first."""
SETTINGS = tuple(PLACES)
"""Settings of the captioned pictures."""

VIEWS = 4
"""Pictures of each subject in the set `subjects`."""
SUBJECT_NOUNS = ("dog",) * 6 + ("cat",) * 3 + tuple(world.CLASSES)
"""Class nouns of these subjects, repeated by weight."""


@dataclass(frozen=True)
class Pictures:
    """Rendered pictures with masks and captions."""

    images: np.ndarray
    """[N, 128, 128, 3] uint8."""
    masks: np.ndarray
    """[N, 32, 32] uint8, 255 where the subject is visible."""
    captions: list[list[str]]
    """`CAPTIONS_PER_PICTURE` true captions of each picture."""

    def __len__(self) -> int:
        return len(self.captions)


def scene(seed: int, index: int) -> tuple[world.Scene, random.Random]:
    """Sample captioned scene `index`. Return it with the generator that samples its captions."""
    rng = random.Random(stable_hash(seed, "picture", index))
    return world.sample_scene(rng, NOUNS, SETTINGS), rng


def subject_scene(seed: int, index: int) -> tuple[world.Scene, random.Random]:
    """Sample view `index % VIEWS` of subject `index // VIEWS`.

    Views of a subject differ in pose, place, clothing and style.

    Returns:
        The scene and the generator that samples its captions.
    """
    rng = random.Random(stable_hash(seed, "subject", index // VIEWS))
    subject = world.sample_scene(rng, SUBJECT_NOUNS)
    rng = random.Random(stable_hash(seed, "subject view", index))
    changes = world.sample_changes(rng, world.CLASSES[subject.noun])
    changes.pop("tint", None)  # a tint would make it another subject
    plain = world.Scene(subject.noun, subject.look, subject.pose, rng.choice(tuple(PLACES)))
    return replace(world.sample_view(rng, plain), **changes), rng


SETS = {"world": scene, "subjects": subject_scene}
"""Name of a set of pictures and its folder -> the function that samples its scenes."""


def _chunk(job: tuple[Path, int, int]) -> Path:
    folder, seed, start = job
    path = folder / f"{start:07d}.npy"
    if path.exists() and all(path.with_suffix(s).exists() for s in (".json", ".masks")):
        return path
    images = np.empty((CHUNK, SIZE, SIZE, 3), np.uint8)
    masks = np.empty((CHUNK, MASK_SIZE, MASK_SIZE), np.uint8)
    captions = []
    for i in range(CHUNK):
        sampled, rng = SETS[folder.name](seed, start + i)
        image, mask = world.render_with_mask(sampled, SIZE)
        images[i] = np.asarray(image)
        masks[i] = np.asarray(mask.reduce(SIZE // MASK_SIZE))
        captions.append([caption(sampled, rng) for _ in range(CAPTIONS_PER_PICTURE)])
    write_json(path.with_suffix(".json"), captions)
    with atomic_path(path.with_suffix(".masks")) as temporary, temporary.open("wb") as file:
        np.save(file, masks)
    with atomic_path(path) as temporary:
        np.save(temporary, images)
    return path


def render(folder: Path, count: int, seed: int, processes: int) -> Iterator[int]:
    """Render pictures into a folder. Existing chunks are kept, so a second call resumes.

    Args:
        folder: output folder. Its name is that of one of `SETS`.
        count: number of pictures, rounded up to whole chunks.
        seed: seed of all randomness.
        processes: number of worker processes.

    Yields:
        The number of pictures that are done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(folder, seed, start) for start in range(0, count, CHUNK)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, _ in enumerate(pool.imap_unordered(_chunk, jobs), 1):
            yield done * CHUNK


def load(folder: Path, count: int | None = None) -> Pictures:
    """Load rendered pictures.

    Args:
        folder: a folder that `render` filled.
        count: number of pictures, rounded up to whole chunks; all by default.

    Raises:
        FileNotFoundError: the folder holds no pictures.
    """
    chunks = sorted(folder.glob("[!.]*.npy"))
    if count is not None:
        chunks = chunks[: -(-count // CHUNK)]
    if not chunks:
        raise FileNotFoundError(f"{folder} holds no pictures; run the stage `world` first")
    images = np.concatenate([np.load(p, mmap_mode="r") for p in chunks])
    captions = [c for p in chunks for c in json.loads(p.with_suffix(".json").read_text())]
    masks = np.concatenate([np.load(p.with_suffix(".masks")) for p in chunks])
    return Pictures(images, masks, captions)
