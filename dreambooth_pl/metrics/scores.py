"""The table of scores: one entry each, from which everything else about a score follows.

Score tensors, rows of tables, CSV, JSON, LaTeX, contact sheets and curves in TensorBoard read
`SCORES` when they are made, in its order. Whoever adds a score adds an entry to `_BUILT_IN`, or
calls `register` from outside, and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from dreambooth_pl.metrics.functional import (
    copy_scores,
    diversity_score,
    drift_scores,
    preservation_scores,
    prompt_fidelity_scores,
    subject_fidelity_scores,
)
from dreambooth_pl.metrics.measure import EncodedImages, EncodedTexts

Distance = Callable[[Sequence[Image.Image]], Tensor]
"""Distances between K images: [K, K]."""
Table = Literal["fidelity", "preservation", "variety"]


class Scope(Enum):
    """What a score is about, and with it the arguments of its function.

    Tables show their columns in this order.
    """

    PROMPT = "prompt"
    """All images of a prompt: `function(images, distance)` returns a scalar. `images` are two or
    more."""
    IMAGE = "image"
    """Each image and the subject's photos: `function(images, photos)` returns [N]. For the ceiling,
    each photo takes the place of an image beside the other photos."""
    TEXT = "text"
    """Each image and its own text: `function(images, texts)` returns [N]. Photos have none."""
    CLASS = "class"
    """Each image of "a CLASS", as IMAGE: `function(images, photos)` returns [C]."""
    CLASS_PAIR = "class pair"
    """The same beside the untuned base's on the same seeds: `function(images, base, photos)`
    returns [C]."""


@dataclass(frozen=True)
class Score:
    """One kind of score of images."""

    name: str
    """In files and TensorBoard tags, such as `clip_t`."""
    heading: str
    """Of its columns, such as `CLIP-T`."""
    higher_is_better: bool
    """Decides the arrow beside the heading."""
    function: Callable[..., Tensor]
    """Pure; its arguments are those of the scope."""
    scope: Scope
    """What it is about."""
    table: Table | None = "variety"
    """Where its column stands. A column of `fidelity` is always there, others where a row has the
    score. None: in files only."""
    curve: bool = False
    """Whether training logs it of probes and validation images, beside floor and ceiling. Only for
    IMAGE and TEXT."""


SCORES: dict[str, Score] = {}
"""All scores by name, in the order of columns in files."""


def register(score: Score) -> None:
    """Add a score to `SCORES`.

    >>> register(Score("red", "redness", True, lambda images, photos: images.dino, Scope.IMAGE))
    >>> SCORES.pop("red").heading
    'redness'
    """
    assert score.name.isidentifier(), "names of files' keys are joined by dots"
    assert score.name not in SCORES, f"there is a score {score.name}"
    assert not score.curve or score.scope in (Scope.IMAGE, Scope.TEXT), "a curve of single images"
    SCORES[score.name] = score


_BUILT_IN = (
    Score(
        "dino",
        "DINO",
        True,
        lambda images, photos: subject_fidelity_scores(images.dino, photos.dino),
        Scope.IMAGE,
        "fidelity",
        curve=True,
    ),
    Score(
        "clip_i",
        "CLIP-I",
        True,
        lambda images, photos: subject_fidelity_scores(images.clip, photos.clip),
        Scope.IMAGE,
        "fidelity",
        curve=True,
    ),
    Score(
        "clip_t",
        "CLIP-T",
        True,
        lambda images, texts: prompt_fidelity_scores(images.clip, texts.clip_of_class_texts),
        Scope.TEXT,
        "fidelity",
        curve=True,
    ),
    Score(
        "clip_t_identifier",
        "CLIP-T with [V]",
        True,
        lambda images, texts: prompt_fidelity_scores(images.clip, texts.clip_of_prompts),
        Scope.TEXT,
    ),
    Score(
        "pres",
        "PRES",
        False,
        lambda images, photos: preservation_scores(images.dino, photos.dino),
        Scope.CLASS,
        "preservation",
    ),
    Score(
        "pres_base",
        "PRES of the base",
        False,
        lambda images, base, photos: preservation_scores(base.dino, photos.dino),
        Scope.CLASS_PAIR,
        table=None,  # the floor's row has it as its PRES
    ),
    Score(
        "pres_change",
        "PRES change",
        False,
        lambda images, base, photos: (
            preservation_scores(images.dino, photos.dino)
            - preservation_scores(base.dino, photos.dino)
        ),
        Scope.CLASS_PAIR,
        "preservation",
    ),
    Score(
        "div",
        "DIV",
        True,
        lambda images, distance: diversity_score(distance(images.images)),
        Scope.PROMPT,
    ),
    Score(
        "copy",
        "copy",
        False,
        lambda images, photos: copy_scores(images.dino, photos.dino),
        Scope.IMAGE,
    ),
    Score(
        "drift",
        "drift",
        False,
        lambda images, base, photos: drift_scores(base.dino, images.dino),
        Scope.CLASS_PAIR,
        "preservation",
    ),
)
for _score in _BUILT_IN:
    register(_score)


def curve_scores() -> list[Score]:
    """Return the scores that training logs."""
    return [score for score in SCORES.values() if score.curve]


def table_scores(table: Table) -> list[Score]:
    """Return the scores of a table, in the order of its columns.

    >>> [score.heading for score in table_scores("variety")]
    ['DIV', 'copy', 'CLIP-T with [V]']
    """
    order = list(Scope)
    own = (score for score in SCORES.values() if score.table == table)
    return sorted(own, key=lambda score: order.index(score.scope))


def image_scores(
    images: EncodedImages,
    photos: EncodedImages,
    texts: EncodedTexts,
    scores: Iterable[Score] | None = None,
) -> dict[str, Tensor]:
    """Score each of N generated images.

    Args:
        images: N generated images.
        photos: the subject's photos.
        texts: N, one per image.
        scores: which; those of other scopes are left out. None for all.

    Returns:
        [N] by name.
    """
    partners = {Scope.IMAGE: photos, Scope.TEXT: texts}
    return {
        score.name: score.function(images, partners[score.scope])
        for score in (SCORES.values() if scores is None else scores)
        if score.scope in partners
    }


def photo_scores(
    photos: EncodedImages, scores: Iterable[Score] | None = None
) -> dict[str, Tensor] | None:
    """Score each of M photos against the others: what a generator could reach, the ceiling.

    A photo with itself is left out. So the mean of DINO is the off-diagonal mean of R R^T: as true
    to the photos as they are to each other.

    Args:
        photos: the subject's.
        scores: which; those of other scopes are left out. None for all.

    Returns:
        [M] by name; None for a single photo, which has no ceiling.
    """
    if len(photos) < 2:
        return None
    every = range(len(photos))
    pairs = [
        (photos.part([row]), photos.part([other for other in every if other != row]))
        for row in every
    ]
    return {
        score.name: torch.cat([score.function(photo, others) for photo, others in pairs])
        for score in (SCORES.values() if scores is None else scores)
        if score.scope is Scope.IMAGE
    }


def prompt_scores(images: EncodedImages, distance: Distance) -> dict[str, float]:
    """Score the images of one prompt together, at least two.

    Returns:
        A number by name.
    """
    return {
        score.name: score.function(images, distance).item()
        for score in SCORES.values()
        if score.scope is Scope.PROMPT
    }


def class_scores(
    images: EncodedImages, base: EncodedImages | None, photos: EncodedImages
) -> dict[str, Tensor]:
    """Score each of C images of "a CLASS".

    Args:
        images: by what is scored.
        base: by the untuned base on the same seeds; None to leave out what needs them.
        photos: the subject's photos.

    Returns:
        [C] by name.
    """
    arguments = {Scope.CLASS: (images, photos)}
    if base is not None:
        arguments[Scope.CLASS_PAIR] = (images, base, photos)
    return {
        score.name: score.function(*arguments[score.scope])
        for score in SCORES.values()
        if score.scope in arguments
    }
