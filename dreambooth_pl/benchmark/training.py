"""Training of a benchmark's jobs: complete ones are kept, interrupted ones resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth_pl.benchmark.estimate import note_time, steps_of
from dreambooth_pl.benchmark.executors.call import Executor, Resources, ScriptCall
from dreambooth_pl.benchmark.job_folder import (
    LOG,
    begin,
    check_unchanged,
    complete_run,
    last_lines,
)
from dreambooth_pl.benchmark.jobs import Job
from dreambooth_pl.benchmark.status import Board
from dreambooth_pl.data.settings import DataSettings
from dreambooth_pl.progress import ProgressReporter

SHOWN_LINES = 12  # of a failed job's log


@dataclass(frozen=True)
class Failure:
    """A job whose training failed."""

    job: Job
    """The job."""
    status: int
    """Exit status of its training."""
    log: Path
    """Log file of its training."""
    last_lines: tuple[str, ...]
    """The last lines of the log."""


def train(
    jobs: Sequence[Job],
    executor: Executor,
    reporter: ProgressReporter,
    resources: Resources | None = None,
    status: Path | None = None,
    where: str = "",
) -> tuple[dict[str, Path], list[Failure]]:
    """Run the jobs that are not complete; interrupted ones resume.

    Args:
        jobs: all jobs of the benchmark.
        executor: runs the training of each job.
        reporter: shows the current job, the number of jobs and the time left.
        resources: what each training needs.
        status: file that is kept up to date; None for no file.
        where: the executor, and where it can be watched.

    Returns:
        The folders of the complete runs, by the job's name, and the failures.

    Raises:
        UserError: a job was started with another config, or its folder cannot be written to. No
            training has been started then.
    """
    for job in jobs:
        check_unchanged(job)
    waiting = {job.name: job for job in jobs if complete_run(job) is None}
    if len(waiting) < len(jobs):
        reporter.line(f"{len(jobs) - len(waiting)} of {len(jobs)} jobs are complete already")
    failures: list[Failure] = []
    if waiting:
        configs = {job.name: job.config() for job in waiting.values()}
        calls = [training_call(job, configs[job.name], resources) for job in waiting.values()]
        steps = {name: steps_of(config) for name, config in configs.items()}
        board = Board("training", calls, reporter, status, where, steps)
        for job in waiting.values():
            begin(job)
        with board.shown():
            for call, exit_status in executor(calls, board):
                job = waiting[call.name]
                failed = complete_run(job) is None
                if failed:
                    failures.append(_failure(job, exit_status))
                    report(failures[-1], reporter)
                board.ended(call, failed)
                if not failed:
                    note_time(job, board.status.calls[job.name])
    runs = {job.name: complete_run(job) for job in jobs}
    return {name: run for name, run in runs.items() if run is not None}, failures


def training_call(
    job: Job, config: Mapping[str, Any], resources: Resources | None = None
) -> ScriptCall:
    """Return the call that trains a job.

    Args:
        job: the job.
        config: its config, by dotted key.
        resources: what the training needs.
    """
    size = config.get("data.batch_size", DataSettings.batch_size)
    accumulated = config.get("trainer.accumulate_grad_batches", 1)
    return ScriptCall(
        job.name,
        tuple(job.arguments()),
        job.folder / LOG,
        runs=job.folder,
        outputs=(job.folder,),
        batch=(size, accumulated) if all(type(n) is int for n in (size, accumulated)) else None,
        resources=resources or Resources(),
    )


def _failure(job: Job, status: int) -> Failure:
    lines = last_lines(job, SHOWN_LINES)
    return Failure(job, status, job.folder / LOG, tuple(lines))


def report(failure: Failure, reporter: ProgressReporter) -> None:
    """Tell of a failure, with the end of its log."""
    reporter.line(
        f"job {failure.job.name} failed (exit status {failure.status}); the end of {failure.log}:"
    )
    for line in failure.last_lines:
        reporter.line(f"  | {line}")
