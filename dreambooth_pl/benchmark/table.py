"""Table of a benchmark: one line per variant, averaged over the runs' subjects and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from dreambooth_pl.benchmark.jobs import Job
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.comparison import Comparison, compare
from dreambooth_pl.evaluation.results import BASE, REAL_PHOTOS, Result, mean_of
from dreambooth_pl.evaluation.score_set import stack_all
from dreambooth_pl.metrics.scores import SCORES

_NOT_COMPARED = "pres_base"  # says nothing about a variant


@dataclass(frozen=True, eq=False)
class JobLine:
    """A job and the line of its run in the table of runs."""

    job: Job
    """The job."""
    line: Result
    """The line of its run, under a short name."""


def job_lines(
    jobs: Sequence[Job], folders: Mapping[str, Path], lines: Sequence[Result]
) -> list[JobLine]:
    """Return the lines of all evaluated jobs, in the order of the jobs, under short names.

    Args:
        jobs: all jobs of the benchmark.
        folders: folders of the complete runs, by the job's name.
        lines: what `score_runs` returned for these runs.
    """
    by_folder = {line.run.folder: line for line in lines if line.run is not None}
    return [
        JobLine(job, replace(by_folder[folders[job.name]], name=label))
        for job, label in zip(jobs, short_labels(jobs), strict=True)
        if folders.get(job.name) in by_folder
    ]


def variant_lines(
    own: Sequence[JobLine], jobs: Sequence[Job], lines: Sequence[Result]
) -> list[Result]:
    """Return ceiling, floor and one line per variant.

    The scores of a line are means over subjects (macro averages); further seeds of a subject count
    as further images of its prompts. Ceiling and floor are means over all subjects in the same way,
    one pair for each base with its encoders. If runs of a variant are missing, its name says so.

    Args:
        own: the jobs' lines, from `job_lines`.
        jobs: all jobs of the benchmark.
        lines: what `score_runs` returned.
    """
    found = []
    groups = list(dict.fromkeys(line.group for line in lines))
    for group in groups:
        suffix = f" ({_base_name(group)})" if len(groups) > 1 else ""
        for role, name in (("ceiling", REAL_PHOTOS), ("floor", BASE)):
            members = [line for line in lines if line.group == group and line.role == role]
            found.append(mean_of(name + suffix, members))
    for variant in dict.fromkeys(job.variant.name for job in jobs):
        asked = sum(job.variant.name == variant for job in jobs)
        members = [entry.line for entry in own if entry.job.variant.name == variant]
        if members:
            missing = f" ({len(members)} of {asked} runs)" if len(members) < asked else ""
            found.append(mean_of(variant + missing, members))
    return found


def comparisons(own: Sequence[JobLine]) -> tuple[list[Comparison], list[str]]:
    """Compare every variant with the first one, image by image.

    Paired images have the same subject, prompt and seed.

    Args:
        own: the jobs' lines, from `job_lines`.

    Returns:
        The differences, and one sentence for each variant that cannot be compared.
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
    """Return names of the jobs: the variant, with subject and seed if the jobs differ in them."""
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


def _tensors(lines: Sequence[Result]) -> dict[str, Tensor]:
    sets = [own for line in lines for own in line.sets]
    return stack_all(sets, [name for name in SCORES if name != _NOT_COMPARED])


def _base_name(group: Any) -> str:
    """Return the last part of the base's name."""
    spec, _ = group
    return Path(spec.base).name
