"""Training of a benchmark's jobs: complete ones are kept, interrupted ones resume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreambooth_pl.benchmark.executors import Executor, ScriptCall
from dreambooth_pl.benchmark.job_folder import (
    LOG,
    begin,
    begun_run,
    check_unchanged,
    complete_run,
    last_lines,
)
from dreambooth_pl.benchmark.jobs import Job
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
    jobs: Sequence[Job], executor: Executor, reporter: ProgressReporter
) -> tuple[dict[str, Path], list[Failure]]:
    """Run the jobs that are not complete; interrupted ones resume.

    Args:
        jobs: all jobs of the benchmark.
        executor: runs the training of each job.
        reporter: shows the current job, the number of jobs and the time left.

    Returns:
        The folders of the complete runs, by the job's name, and the failures.

    Raises:
        UserError: a job was started with another config, or its folder cannot be written to. No
            training has been started then.
    """
    for job in jobs:
        check_unchanged(job)
    waiting = [job for job in jobs if complete_run(job) is None]
    if len(waiting) < len(jobs):
        reporter.line(f"{len(jobs) - len(waiting)} of {len(jobs)} jobs are complete already")
    failures: list[Failure] = []
    if waiting:
        number = {job.name: i for i, job in enumerate(waiting, start=1)}
        with reporter.task("jobs", total=len(waiting)) as progress:

            def started(job: Job, run: Path | None) -> None:
                how = f"goes on in {run}" if run else "starts"
                reporter.line(
                    f"job {number[job.name]} of {len(waiting)}: {job.name} {how}; its log is "
                    f"{job.folder / LOG}"
                )

            done = 0

            def ended(job: Job, status: int) -> None:
                nonlocal done
                done += 1
                if complete_run(job) is None:
                    failures.append(_failure(job, status))
                    _report(failures[-1], reporter)
                progress.update(done, note=f"{job.name} {'failed' if status else 'done'}")

            _run(waiting, executor, started, ended)
    runs = {job.name: complete_run(job) for job in jobs}
    return {name: run for name, run in runs.items() if run is not None}, failures


def _run(
    jobs: Sequence[Job],
    executor: Executor,
    started: Callable[[Job, Path | None], None],
    ended: Callable[[Job, int], None],
) -> None:
    """Run each job, and go on with its run if one has begun."""
    by_name = {job.name: job for job in jobs}
    begun = {job.name: begun_run(job) for job in jobs}
    tasks = []
    for job in jobs:
        begin(job)
        tasks.append(ScriptCall(job.name, tuple(job.arguments(begun[job.name])), job.folder / LOG))
    for task, status in executor(tasks, lambda task: started(by_name[task.name], begun[task.name])):
        ended(by_name[task.name], status)


def _failure(job: Job, status: int) -> Failure:
    lines = last_lines(job, SHOWN_LINES)
    return Failure(job, status, job.folder / LOG, tuple(lines))


def _report(failure: Failure, reporter: ProgressReporter) -> None:
    reporter.line(
        f"job {failure.job.name} failed (exit status {failure.status}); the end of {failure.log}:"
    )
    for line in failure.last_lines:
        reporter.line(f"  | {line}")
