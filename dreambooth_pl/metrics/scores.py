"""The table of scores: one entry each, from which everything else about a score follows.

Score tensors, rows of tables, CSV, JSON, LaTeX, contact sheets and curves in TensorBoard read
`SCORES` when they are made, in its order. To add a score, add an entry to `_BUILT_IN`, or call
`register` from outside; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from PIL import Image
from torch import Tensor

from dreambooth_pl.metrics.distances import PairwiseDistance
from dreambooth_pl.metrics.functional import (
    copy_scores,
    diversity_score,
    drift_scores,
    preservation_scores,
    prompt_fidelity_scores,
    subject_fidelity_scores,
)

Table = Literal["fidelity", "preservation", "variety"]


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """N images and their features; all feature rows have unit length."""

    images: Sequence[Image.Image]
    """RGB, any size."""
    dino: Tensor
    """float32 [N, d1]."""
    clip: Tensor
    """float32 [N, d2]."""

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: Sequence[int]) -> EncodedImages:
        """Return the images at the given places."""
        rows = list(rows)
        return EncodedImages(_Selected(self.images, rows), self.dino[rows], self.clip[rows])


class _Selected(Sequence):
    """Some of the images, read when they are asked for."""

    def __init__(self, images: Sequence[Image.Image], rows: Sequence[int]) -> None:
        self._images, self._rows = images, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | slice) -> Image.Image | _Selected:
        if isinstance(index, slice):
            return _Selected(self._images, self._rows[index])
        return self._images[self._rows[index]]


@dataclass(frozen=True, eq=False)
class EncodedTexts:
    """The texts of N images and their CLIP features; all feature rows have unit length."""

    class_texts: Sequence[str]
    """Without the identifier, such as "A dog in the forest."."""
    prompts: Sequence[str]
    """As the images were generated from them, identifier included."""
    clip_of_class_texts: Tensor
    """float32 [N, d2]."""
    clip_of_prompts: Tensor
    """float32 [N, d2]."""


class Scope(Enum):
    """What a score is about, and with it the arguments of its function.

    Tables show their columns in this order.
    """

    PROMPT = "prompt"
    """All images of a prompt, two or more: `function(images, distance)` returns a scalar."""
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
    table: Table | None = "variety"
    """Where its column stands. A column of `fidelity` is always there, others where a row has the
    score. None: in files only."""
    curve: bool = False
    """Whether training logs it for probes and validation images, beside floor and ceiling. Only
    IMAGE and TEXT have curves."""


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


def _dino(images: EncodedImages, photos: EncodedImages) -> Tensor:
    return subject_fidelity_scores(images.dino, photos.dino)


def _clip_i(images: EncodedImages, photos: EncodedImages) -> Tensor:
    return subject_fidelity_scores(images.clip, photos.clip)


def _clip_t(images: EncodedImages, texts: EncodedTexts) -> Tensor:
    return prompt_fidelity_scores(images.clip, texts.clip_of_class_texts)


def _clip_t_identifier(images: EncodedImages, texts: EncodedTexts) -> Tensor:
    return prompt_fidelity_scores(images.clip, texts.clip_of_prompts)


def _copy(images: EncodedImages, photos: EncodedImages) -> Tensor:
    return copy_scores(images.dino, photos.dino)


def _div(images: EncodedImages, distance: PairwiseDistance) -> Tensor:
    return diversity_score(distance(images.images))


def _pres(images: EncodedImages, photos: EncodedImages) -> Tensor:
    return preservation_scores(images.dino, photos.dino)


def _pres_base(images: EncodedImages, base: EncodedImages, photos: EncodedImages) -> Tensor:
    return _pres(base, photos)


def _pres_change(images: EncodedImages, base: EncodedImages, photos: EncodedImages) -> Tensor:
    return _pres(images, photos) - _pres(base, photos)


def _drift(images: EncodedImages, base: EncodedImages, photos: EncodedImages) -> Tensor:
    return drift_scores(base.dino, images.dino)


_BUILT_IN = (
    Score("dino", "DINO", True, _dino, Scope.IMAGE, "fidelity", curve=True),
    Score("clip_i", "CLIP-I", True, _clip_i, Scope.IMAGE, "fidelity", curve=True),
    Score("clip_t", "CLIP-T", True, _clip_t, Scope.TEXT, "fidelity", curve=True),
    Score("clip_t_identifier", "CLIP-T with [V]", True, _clip_t_identifier, Scope.TEXT),
    Score("pres", "PRES", False, _pres, Scope.CLASS, "preservation"),
    # The floor's row has it as its PRES, so that it needs no column of a table.
    Score("pres_base", "PRES of the base", False, _pres_base, Scope.CLASS_PAIR, table=None),
    Score("pres_change", "PRES change", False, _pres_change, Scope.CLASS_PAIR, "preservation"),
    Score("div", "DIV", True, _div, Scope.PROMPT),
    Score("copy", "copy", False, _copy, Scope.IMAGE),
    Score("drift", "drift", False, _drift, Scope.CLASS_PAIR, "preservation"),
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
