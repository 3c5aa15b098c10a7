"""What a benchmark will take, from the times of jobs that have ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from dreambooth_pl.benchmark.job_folder import complete_run
from dreambooth_pl.benchmark.jobs import Job
from dreambooth_pl.benchmark.status import State
from dreambooth_pl.files.atomic import write_json
from dreambooth_pl.progress import clock
from dreambooth_pl.training.trainer_settings import TRAINER_DEFAULTS

_TIME = "time.json"  # in a job's folder


def note_time(job: Job, state: State) -> None:
    """Record how long a job's steps have taken, its start and its probes included.

    A job that went on with a run records the steps that it has made itself.
    """
    steps = state.steps - state.first
    if steps > 0 and state.seconds:
        write_json(job.folder / _TIME, {"seconds": state.seconds, "steps": steps})


def step_times(jobs: Sequence[Job]) -> dict[str, list[float]]:
    """Return seconds per step of the jobs that have ended, by the name of the variant."""
    found: dict[str, list[float]] = {}
    for job in jobs:
        try:
            noted = json.loads((job.folder / _TIME).read_text(encoding="utf-8"))
            found.setdefault(job.variant.name, []).append(noted["seconds"] / noted["steps"])
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            continue
    return found


def steps_of(config: Mapping[str, Any]) -> int:
    """Return how many optimiser steps a job's config asks for; 0 if it makes no sense there."""
    steps = config.get("trainer.max_steps", TRAINER_DEFAULTS["max_steps"])
    return steps if type(steps) is int else 0


def estimate(
    jobs: Sequence[Job],
    times: Mapping[str, Sequence[float]],
    slots: int,
    price: float | None = None,
) -> list[str]:
    """Return lines on what the trainings that are left will take.

    A variant of which no job has ended counts as the mean of the others.

    Args:
        jobs: all jobs of a benchmark.
        times: seconds per step by variant; see `step_times`.
        slots: how many jobs run at a time.
        price: of an hour of one slot; None to leave the cost out.
    """
    left = [job for job in jobs if complete_run(job) is None]
    steps = {job.name: steps_of(job.config()) for job in left}
    lines = [f"estimate: {len(left)} of {len(jobs)} jobs are left, {sum(steps.values()):,} steps"]
    every = [each for of_variant in times.values() for each in of_variant]
    if not every:
        lines.append(
            "no job of this benchmark has ended, so no step time is measured. Let one end, stop "
            "the benchmark by Ctrl-C, and ask again; or give --step-seconds."
        )
        return lines
    seconds = [steps[j.name] * mean(times.get(j.variant.name, every)) for j in left]
    hours = sum(seconds) / 3600
    wall = max(sum(seconds) / slots, max(seconds, default=0.0))
    lines.append(
        f"{mean(every):.2f} s a step, {hours:.1f} hours of one slot for training; {clock(wall)} "
        f"with {slots} at a time; generating images comes on top"
    )
    if price is not None:
        lines.append(f"cost at {price:g} an hour of one slot: {hours * price:,.2f}")
    return lines
