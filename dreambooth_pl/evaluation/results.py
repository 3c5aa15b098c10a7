"""The results of an evaluation: of a run, the ceiling or the floor; their rows in a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from dreambooth_pl.evaluation.bootstrap import Interval, interval
from dreambooth_pl.evaluation.score_set import ScoreSet, stack_all
from dreambooth_pl.metrics.scores import SCORES
from dreambooth_pl.runs.finished import Run

Role = Literal["ceiling", "floor", "run"]
REAL_PHOTOS = "real photos"  # how ceiling and floor are called
BASE = "base"
LIVE, OBJECT = "live", "object"  # groups of subjects


@dataclass(frozen=True)
class Row:
    """One row of a results table."""

    run: str
    """What the row is about: a run's name, `real photos` or `base`."""
    protocol: str
    """Name of the set of prompts and seeds."""
    n_images: int
    """How many images (or photos) the scores are about."""
    scores: Mapping[str, Interval] = field(default_factory=dict)
    """By the names of `metrics.scores.SCORES`; a score that makes no sense for the row is not
    there."""
    groups: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    """Scores over part of the images, by the group's name: `live`, `object`, or a kind of prompt
    such as `setting`."""


def row_of(name: str, protocol: str, sets: Sequence[ScoreSet], n_images: int | None = None) -> Row:
    """Compute a table's row from the score sets of one or several subjects.

    Args:
        name: what the row is called.
        protocol: what its protocol is called.
        sets: none for a row without scores.
        n_images: to show; None for the number of the prompts' images.
    """
    count = sum(own.n_images for own in sets) if n_images is None else n_images
    return Row(name, protocol, count, _intervals(sets), _groups(sets))


@dataclass(frozen=True, eq=False)
class Result:
    """The score sets of what is evaluated, and what a table's row shows of them."""

    role: Role
    """Ceiling, floor or what is evaluated."""
    name: str
    """As the row shows it."""
    protocol: str
    """As the row shows it."""
    sets: tuple[ScoreSet, ...]
    """What the row is computed from; none for the ceiling of a single photo."""
    n_images: int | None = None
    """As the row shows it; None for the number of the prompts' images."""
    run: Run | None = None
    """Whose result it is; None for ceiling, floor and averages."""
    group: Hashable = None
    """Equal for results that share base and encoders, so that averages make sense."""
    distance: str | None = None
    """What diversity was measured with."""

    @cached_property
    def row(self) -> Row:
        """The table's row, with means and bootstrap intervals; computed once."""
        return row_of(self.name, self.protocol, self.sets, self.n_images)

    @property
    def subjects(self) -> frozenset[str]:
        """Whom it is about."""
        return frozenset(own.subject for own in self.sets)

    @property
    def image_count(self) -> int:
        """How many images the row is about, told without computing the row."""
        return sum(own.n_images for own in self.sets) if self.n_images is None else self.n_images


def averages(results: Sequence[Result]) -> list[Result]:
    """Return ceiling, floor and what is evaluated as means over subjects, where there are several.

    For each base with its encoders: the ceilings of all subjects, their floors, and a result for
    the runs of each config (`sks` of `sks/version_3`) and LoRA scale that are about more than one
    subject. Nothing where there is no such config.
    """
    found = []
    for group in dict.fromkeys(result.group for result in results):
        own = [result for result in results if result.group == group]
        of_config: dict[tuple[str, float | None], list[Result]] = {}
        for result in own:
            if result.role == "run" and result.run is not None:
                config = result.run.folder.absolute().parent.name
                of_config.setdefault((config, result.run.scale), []).append(result)
        several = {key: runs for key, runs in of_config.items() if len(_subjects(runs)) > 1}
        if not several:
            continue
        for role, name in (("ceiling", REAL_PHOTOS), ("floor", BASE)):
            of_role = [result for result in own if result.role == role]
            found.append(mean_of(_title(name, of_role), of_role))
        for (config, scale), runs in several.items():
            name = config if scale is None else f"{config}, scale {scale:g}"
            found.append(mean_of(_title(name, runs), runs))
    return found


def mean_of(name: str, results: Sequence[Result]) -> Result:
    """Return the mean over the subjects of several results of one role, under a name."""
    first = results[0]
    return Result(
        first.role,
        name,
        first.protocol,
        tuple(own for result in results for own in result.sets),
        sum(result.image_count for result in results),
        group=first.group,
        distance=first.distance,
    )


def references(result: Result, results: Sequence[Result]) -> dict[Role, Result]:
    """Return ceiling and floor of a result, as far as there are any among `results`.

    Where they are about more subjects than the result, they are narrowed down to its own.
    """
    subjects, found = result.subjects, {}
    for role in ("ceiling", "floor"):
        own = [
            other
            for other in results
            if other.role == role and other.group == result.group and other.subjects >= subjects
        ]
        if own:
            nearest = min(own, key=lambda other: len(other.subjects))
            sets = tuple(part for part in nearest.sets if part.subject in subjects)
            narrowed = nearest.subjects != subjects
            found[role] = replace(nearest, sets=sets, n_images=None) if narrowed else nearest
    return found


def without_scale(result: Result) -> str:
    """Return the name of a run's result without the LoRA scale that was asked for."""
    if result.run is None or result.run.scale is None:
        return result.name
    return result.name.removesuffix(f", scale {result.run.scale:g}")


def distance_notes(results: Sequence[Result]) -> list[str]:
    """Return a sentence for each distance that the results' diversity was measured with."""
    measured = (r for r in results if any("div" in own.scores for own in r.sets))
    return [f"DIV by {distance}." for distance in dict.fromkeys(r.distance for r in measured)]


def short_names(
    values: Sequence[Hashable], short: Callable[[Any], str], long: Callable[[Any], str] = str
) -> dict[Any, str]:
    """Name each distinct value by `short`, or all by `long` if two would be the same."""
    names = {value: short(value) for value in values}
    if len(set(names.values())) < len(names):
        return {value: long(value) for value in values}
    return names


def _title(name: str, results: Sequence[Result]) -> str:
    return f"{name} (mean of {len(_subjects(results))} subjects)"


def _subjects(results: Sequence[Result]) -> set[str]:
    return {subject for result in results for subject in result.subjects}


def _intervals(sets: Sequence[ScoreSet]) -> dict[str, Interval]:
    """Return mean and interval of each of the scores that all sets have."""
    return {name: interval(tensor) for name, tensor in stack_all(sets, tuple(SCORES)).items()}


def _groups(sets: Sequence[ScoreSet]) -> dict[str, dict[str, Interval]]:
    """Score live and object subjects apart, if there are both, and each kind of prompt.

    A kind of a single prompt is none: its score says nothing about a kind.
    """
    groups = {}
    if len({own.live for own in sets}) > 1:
        for name, live in ((LIVE, True), (OBJECT, False)):
            groups[name] = _intervals([own for own in sets if own.live == live])
    prompts = {row for own in sets for row in zip(own.kinds, own.templates, strict=True)}
    counts = Counter(kind for kind, _ in prompts)
    kinds = dict.fromkeys(kind for own in sets for kind in own.kinds if kind and counts[kind] > 1)
    if len(kinds) > 1:
        for kind in kinds:
            groups[kind] = _intervals([own.of_kind(kind) for own in sets if kind in own.kinds])
    return groups
