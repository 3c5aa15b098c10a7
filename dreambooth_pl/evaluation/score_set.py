"""Score tensors: the scores of a set of images of one subject, and of several sets together.

A score tensor is [subject, prompt, image] and is what is kept; every number of a table is computed
from it. Prompts may have different numbers of images: missing places are NaN.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ScoreSet:
    """The scores of one set of images of one subject."""

    subject: str
    """Name; equal names are one subject."""
    live: bool
    """Whether the subject takes the live prompts."""
    templates: tuple[str, ...]
    """P prompts with placeholders."""
    kinds: tuple[str, ...]
    """The sort of each prompt, such as `setting`; empty text for none."""
    scores: Mapping[str, Tensor]
    """Of the images of prompts, by the score's name: [P, K], NaN where a prompt has no such image;
    [P, 1] for scores of whole prompts."""
    class_scores: Mapping[str, Tensor] = field(default_factory=dict)
    """Of the images of the class, by the score's name: [C]."""

    @property
    def n_images(self) -> int:
        """How many images of prompts there are."""
        return max((int((~own.isnan()).sum()) for own in self.scores.values()), default=0)

    def of_kind(self, kind: str) -> ScoreSet:
        """Return the part that is about the prompts of a kind, without the class."""
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
    prompt_scores: Mapping[str, Mapping[str, float]] | None = None,
    class_scores: Mapping[str, Tensor] | None = None,
) -> ScoreSet:
    """Arrange the scores of N images by prompt.

    Args:
        subject: its name.
        live: whether it takes the live prompts.
        templates: N, one per image.
        kinds: N, one per image.
        scores: [N] by name.
        prompt_scores: by template, for each that has several images: numbers by name.
        class_scores: [C] by name.
    """
    rows = tuple(dict.fromkeys(templates))
    kind_of = dict(zip(templates, kinds, strict=True))
    tensors = {name: score_tensor(values, templates)[0] for name, values in scores.items()}
    of_prompts = prompt_scores or {}
    for name in dict.fromkeys(name for own in of_prompts.values() for name in own):
        values = [[of_prompts.get(template, {}).get(name, float("nan"))] for template in rows]
        tensors[name] = torch.tensor(values)
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


def stack_all(sets: Sequence[ScoreSet], names: Sequence[str]) -> dict[str, Tensor]:
    """Return those of the named scores that all sets have; see `stack`."""
    tensors = {name: stack(sets, name) for name in names}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def score_tensor(
    scores: Tensor, prompts: Sequence[Hashable], subjects: Sequence[Hashable] | None = None
) -> Tensor:
    """Arrange per-image scores [N] as [subject, prompt, image], NaN where there is no image.

    Args:
        scores: [N], finite.
        prompts: N keys; images with equal (subject, prompt) share a row, in the order given.
        subjects: N keys; None for a single subject.

    >>> score_tensor(torch.tensor([1.0, 2.0, 3.0]), ["a", "a", "b"])
    tensor([[[1., 2.],
             [3., nan]]])
    """
    subjects = ["subject"] * len(scores) if subjects is None else subjects
    assert len(scores) == len(prompts) == len(subjects) > 0, "one prompt and subject per score"
    assert torch.isfinite(scores).all(), "a score is missing"
    cells: dict[Hashable, dict[Hashable, list[float]]] = {}
    for score, prompt, subject in zip(scores.tolist(), prompts, subjects, strict=True):
        cells.setdefault(subject, {}).setdefault(prompt, []).append(score)
    rows = [list(by_prompt.values()) for by_prompt in cells.values()]
    n_prompts = max(len(row) for row in rows)
    n_images = max(len(images) for row in rows for images in row)
    tensor = torch.full((len(rows), n_prompts, n_images), float("nan"))
    for s, row in enumerate(rows):
        for p, images in enumerate(row):
            tensor[s, p, : len(images)] = torch.tensor(images)
    return tensor
