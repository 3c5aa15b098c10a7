"""From scores per image to a table's rows: score tensors, means and bootstrap intervals.

A score tensor is [subject, prompt, image] and is what is kept; every number of a table is computed
from it. Prompts may have different numbers of images: missing places are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BOOTSTRAP_DRAWS = 10_000
BOOTSTRAP_SEED = 0
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Interval:
    """A mean with its 95 % interval; the ends are NaN where a single unit allows none."""

    mean: float
    low: float
    high: float

    def __eq__(self, other: object) -> bool:
        """Whether the numbers are equal; NaN equals NaN."""
        return isinstance(other, Interval) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash(tuple(self.as_dict().values()))

    def as_dict(self) -> dict[str, float | None]:
        """``{"mean", "low", "high"}``; NaN becomes None, for JSON knows no NaN."""
        values = {"mean": self.mean, "low": self.low, "high": self.high}
        return {key: None if math.isnan(value) else value for key, value in values.items()}


@dataclass(frozen=True)
class Row:
    """One line of a results table. A score that makes no sense for the line is None.

    Attributes:
        run: what the line is about: a run's name, ``real photos`` or ``base``.
        protocol: name of the set of prompts and seeds.
        n_images: how many images (or photos) the scores are about.
        dino, clip_i: subject fidelity; clip_t: prompt fidelity, of the text without identifier;
        clip_t_identifier: the same of the text with the identifier kept.
        pres: likeness of "a CLASS" to the subject, lower is better; pres_base: the untuned base's
        on the same seeds; pres_change: their difference, image by image.
        div: distance between the images of a prompt, higher is more diverse.
        copy: likeness to the nearest photo. drift: change of the class, 0 is unchanged.
        groups: scores over part of the images, by the group's name: ``live``, ``object``, or a kind
        of prompt such as ``setting``; each by the name of the score.
    """

    run: str
    protocol: str
    n_images: int
    dino: Interval | None
    clip_i: Interval | None
    clip_t: Interval | None
    clip_t_identifier: Interval | None = None
    pres: Interval | None = None
    pres_base: Interval | None = None
    pres_change: Interval | None = None
    div: Interval | None = None
    copy: Interval | None = None
    drift: Interval | None = None
    groups: Mapping[str, Mapping[str, Interval]] | None = None


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


def interval(scores: Tensor, seed: int = BOOTSTRAP_SEED) -> Interval:
    """Mean and bootstrap interval of a score tensor [subject, prompt, image].

    The mean is over a subject's images, then over subjects (macro). The bootstrap resamples
    subjects; with one subject its prompts, each with all of its images; with one prompt its images.
    ``seed`` is the bootstrap's.
    """
    assert scores.ndim == 3, "a score tensor is [subject, prompt, image]"
    present = ~scores.isnan()
    values = scores.double().nan_to_num(0.0)
    n_subjects, n_prompts, _ = scores.shape
    if n_subjects > 1:
        totals, counts = values.sum(dim=(1, 2)), present.sum(dim=(1, 2))
        return bootstrap_interval(totals / counts, seed=seed)
    if n_prompts > 1:
        return bootstrap_interval(values[0].sum(dim=1), present[0].sum(dim=1), seed)
    return bootstrap_interval(values[0, 0][present[0, 0]], seed=seed)


def bootstrap_interval(
    totals: Tensor, counts: Tensor | None = None, seed: int = BOOTSTRAP_SEED
) -> Interval:
    """Percentile bootstrap (Efron 1979) of ``sum(totals) / sum(counts)`` over units.

    Args:
        totals: [n] sum of each unit's scores.
        counts: [n] how many scores each sum holds, at least 1; None for 1 each, a plain mean.
        seed: of the resamplings.

    Returns:
        The value on all units, and the 2.5 % and 97.5 % quantiles over 10,000 resamplings of the
        units with a fixed seed: the same numbers every time. One unit has no interval.
    """
    totals = totals.double()
    counts = torch.ones_like(totals) if counts is None else counts.double()
    assert totals.ndim == 1 and totals.shape == counts.shape and len(totals) > 0
    assert (counts > 0).all(), "a unit without scores"
    mean = (totals.sum() / counts.sum()).item()
    if len(totals) == 1:
        return Interval(mean, float("nan"), float("nan"))
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(totals), (BOOTSTRAP_DRAWS, len(totals)), generator=generator)
    means = totals[draws].sum(dim=1) / counts[draws].sum(dim=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(mean, low, high)
