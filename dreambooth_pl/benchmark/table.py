"""The lines of runs as lines of variants: macro averages over subjects and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from dreambooth_pl.benchmark.jobs import Job
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.comparison import Comparison, compare
from dreambooth_pl.evaluation.lines import BASE, REAL_PHOTOS, Line
from dreambooth_pl.evaluation.score_tensors import CLASS_SCORES, PROMPT_SCORES, ScoreSet, stack

COMPARED = tuple(name for name in (*PROMPT_SCORES, *CLASS_SCORES) if name != "pres_base")


@dataclass(frozen=True, eq=False)
class JobLine:
    """A job and the line of its run."""

    job: Job
    line: Line


def job_lines(
    jobs: Sequence[Job], folders: Mapping[str, Path], lines: Sequence[Line]
) -> list[JobLine]:
    """Return the line of every job that has been evaluated, in the jobs' order, named shortly.

    Args:
        jobs: of one benchmark.
        folders: of those that are complete the run's folder, by the job's name.
        lines: what `score_runs` returned for these runs.
    """
    by_folder = {line.run.folder: line for line in lines if line.run is not None}
    return [
        JobLine(job, replace(by_folder[folders[job.name]], name=label))
        for job, label in zip(jobs, short_labels(jobs), strict=True)
        if folders.get(job.name) in by_folder
    ]


def variant_lines(own: Sequence[JobLine], jobs: Sequence[Job], lines: Sequence[Line]) -> list[Line]:
    """Return ceiling, floor and a line per variant.

    A line's scores are means over subjects; the seeds of a subject are further images of its
    prompts. Ceiling and floor are over all subjects likewise, for each base with its encoders. A
    variant of which runs are missing says so in its name.

    Args:
        own: the jobs' lines.
        jobs: all of the benchmark.
        lines: what `score_runs` returned.
    """
    found = []
    groups = list(dict.fromkeys(line.group for line in lines))
    for group in groups:
        suffix = f" ({_base_name(group)})" if len(groups) > 1 else ""
        for role, name in (("ceiling", REAL_PHOTOS), ("floor", BASE)):
            members = [line for line in lines if line.group == group and line.role == role]
            found.append(_mean(name + suffix, members))
    for variant in dict.fromkeys(job.variant.name for job in jobs):
        asked = sum(job.variant.name == variant for job in jobs)
        members = [entry.line for entry in own if entry.job.variant.name == variant]
        if members:
            missing = f" ({len(members)} of {asked} runs)" if len(members) < asked else ""
            found.append(_mean(variant + missing, members))
    return found


def comparisons(own: Sequence[JobLine]) -> tuple[list[Comparison], list[str]]:
    """Compare every variant with the first, image by image: same subjects, prompts and seeds.

    Returns:
        The differences, and a sentence for each variant that cannot be compared.
    """
    by_variant: dict[str, dict[Any, JobLine]] = {}
    for entry in own:
        key = (entry.job.subject and entry.job.subject.name, entry.job.seed)
        by_variant.setdefault(entry.job.variant.name, {})[key] = entry
    found, notes = [], []
    names = list(by_variant)
    for name in names[1:]:
        theirs, ours = by_variant[names[0]], by_variant[name]
        keys = [key for key in theirs if key in ours]
        if not keys:
            notes.append(f"{name} and {names[0]} have no subject and seed in common.")
            continue
        protocol = theirs[keys[0]].line.protocol
        try:
            found.append(
                compare(
                    name,
                    names[0],
                    protocol,
                    _tensors([ours[key].line for key in keys]),
                    _tensors([theirs[key].line for key in keys]),
                )
            )
        except UserError as error:
            notes.append(str(error))
    return found, notes


def short_labels(jobs: Sequence[Job]) -> list[str]:
    """Name each job by its variant, and by subject and seed where the jobs differ in them."""
    subjects = {job.subject.name for job in jobs if job.subject}
    seeds = {job.seed for job in jobs}
    labels = []
    for job in jobs:
        label = job.variant.name
        if len(subjects) > 1 and job.subject:
            label += f", {job.subject.name}"
        if len(seeds) > 1:
            label += f", seed {job.seed}"
        labels.append(label)
    return labels


def _mean(name: str, lines: Sequence[Line]) -> Line:
    sets: tuple[ScoreSet, ...] = tuple(own for line in lines for own in line.sets)
    counts = sum(line.row().n_images for line in lines)
    first = lines[0]
    return Line(
        first.role,
        name,
        first.protocol,
        sets,
        counts,
        group=first.group,
        distance=first.distance,
    )


def _tensors(lines: Sequence[Line]) -> dict[str, Tensor]:
    sets = [own for line in lines for own in line.sets]
    tensors = {name: stack(sets, name) for name in COMPARED}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _base_name(group: Any) -> str:
    """Return the last part of the base's name."""
    spec, _ = group
    return Path(spec.base).name
