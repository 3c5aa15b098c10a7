"""A subject's score tensors, and how rows of a table are computed from those of several subjects.

Every number of a table comes from here, hence from the tensors, which are what is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dreambooth_pl.evaluation.intervals import Interval, Row, interval, score_tensor

PROMPT_SCORES = ("dino", "clip_i", "clip_t", "clip_t_identifier", "copy", "div")
"""Scores of the images of prompts: [prompt, image]; ``div`` has one value per prompt."""
CLASS_SCORES = ("pres", "pres_base", "pres_change", "drift")
"""Scores of the images of the class: one value per image."""
LIVE, OBJECT = "live", "object"


@dataclass(frozen=True, eq=False)
class ScoreSet:
    """The scores of one set of images of one subject.

    Attributes:
        subject: its name; equal names are one subject.
        live: whether the subject takes the live prompts.
        templates: P prompts with placeholders.
        kinds: of each, such as ``setting``; empty text for none.
        scores: by the names of ``PROMPT_SCORES``: [P, K], NaN where a prompt has no such image.
        class_scores: by the names of ``CLASS_SCORES``: [C].
    """

    subject: str
    live: bool
    templates: tuple[str, ...]
    kinds: tuple[str, ...]
    scores: Mapping[str, Tensor]
    class_scores: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def n_images(self) -> int:
        """How many images of prompts there are."""
        return int((~self.scores["dino"].isnan()).sum())

    def of_kind(self, kind: str) -> ScoreSet:
        """The part that is about the prompts of a kind; without the class."""
        rows = [row for row, own in enumerate(self.kinds) if own == kind]
        return replace(
            self,
            templates=tuple(self.templates[row] for row in rows),
            kinds=(kind,) * len(rows),
            scores={name: tensor[rows] for name, tensor in self.scores.items()},
            class_scores={},
        )


def score_set(
    subject: str,
    live: bool,
    templates: Sequence[str],
    kinds: Sequence[str],
    scores: Mapping[str, Tensor],
    diversity: Mapping[str, float] | None = None,
    class_scores: Mapping[str, Tensor] | None = None,
) -> ScoreSet:
    """Arrange the scores of N images by prompt.

    Args:
        subject, live: as in ``ScoreSet``.
        templates, kinds: N, one per image.
        scores: [N] by name.
        diversity: of each template that has several images.
        class_scores: [C] by name.
    """
    rows = tuple(dict.fromkeys(templates))
    kind_of = dict(zip(templates, kinds, strict=True))
    tensors = {name: score_tensor(values, templates)[0] for name, values in scores.items()}
    if diversity:
        values = [[diversity.get(template, float("nan"))] for template in rows]
        tensors["div"] = torch.tensor(values)
    kinds = tuple(kind_of[template] for template in rows)
    return ScoreSet(subject, live, rows, kinds, tensors, dict(class_scores or {}))


def stack(sets: Sequence[ScoreSet], name: str) -> Tensor | None:
    """Return a score of several sets as [subject, prompt, image]; None where a set lacks it.

    Sets of one subject become one: images of equal templates are images of one prompt. Prompts
    without images are left out.
    """
    values: list[float] = []
    prompts: list[str] = []
    subjects: list[str] = []
    for own in sets:
        if name in own.class_scores:
            rows = [(name, own.class_scores[name])]
        elif name in own.scores:
            rows = list(zip(own.templates, own.scores[name], strict=True))
        else:
            return None
        for template, row in rows:
            present = row[~row.isnan()].tolist()
            values += present
            prompts += [template] * len(present)
            subjects += [own.subject] * len(present)
    return score_tensor(torch.tensor(values), prompts, subjects) if values else None


def row_of(name: str, protocol: str, sets: Sequence[ScoreSet], n_images: int | None = None) -> Row:
    """Compute a table's row from the score sets of one or several subjects.

    Args:
        name, protocol: what the row is called.
        sets: at least one.
        n_images: to show; None for the number of the prompts' images.
    """
    found = intervals(sets, (*PROMPT_SCORES, *CLASS_SCORES))
    scores = {name: found.get(name) for name in (*PROMPT_SCORES, *CLASS_SCORES)}
    count = sum(own.n_images for own in sets) if n_images is None else n_images
    return Row(run=name, protocol=protocol, n_images=count, **scores, groups=_groups(sets) or None)


def intervals(
    sets: Sequence[ScoreSet],
    names: Sequence[str],
    summary: Callable[[Tensor], Interval] = interval,
) -> dict[str, Interval]:
    """Return mean and interval of each of the scores that all sets have."""
    tensors = {name: stack(sets, name) for name in names}
    return {name: summary(tensor) for name, tensor in tensors.items() if tensor is not None}


def _groups(sets: Sequence[ScoreSet]) -> dict[str, dict[str, Interval]]:
    """Scores of live and of object subjects, if there are both, and of each kind of prompt.

    A kind of a single prompt is none: its score says nothing about a kind.
    """
    groups = {}
    if len({own.live for own in sets}) > 1:
        for name, live in ((LIVE, True), (OBJECT, False)):
            groups[name] = intervals(
                [own for own in sets if own.live == live], (*PROMPT_SCORES, *CLASS_SCORES)
            )
    prompts = {row for own in sets for row in zip(own.kinds, own.templates, strict=True)}
    counts = Counter(kind for kind, _ in prompts)
    kinds = dict.fromkeys(kind for own in sets for kind in own.kinds if kind and counts[kind] > 1)
    if len(kinds) > 1:
        for kind in kinds:
            parts = [own.of_kind(kind) for own in sets if kind in own.kinds]
            groups[kind] = intervals(parts, PROMPT_SCORES)
    return groups
