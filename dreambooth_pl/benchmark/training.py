"""Sees to it that every job of a benchmark has a run that came to its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreambooth_pl.benchmark.executors import Executor, ScriptCall
from dreambooth_pl.benchmark.job_folder import (
    LOG,
    begin,
    check_unchanged,
    complete_run,
    last_lines,
    newest_checkpoint,
)
from dreambooth_pl.benchmark.jobs import Job
from dreambooth_pl.progress import ProgressReporter

SHOWN_LINES = 12  # of a failed job's log


@dataclass(frozen=True)
class Failure:
    """A job that did not come to its end.

    Attributes:
        job: which.
        status: exit status of its training.
        log: where all is that it said.
        last_lines: the end of that.
    """

    job: Job
    status: int
    log: Path
    last_lines: tuple[str, ...]


def train(
    jobs: Sequence[Job], executor: Executor, reporter: ProgressReporter
) -> tuple[dict[str, Path], list[Failure]]:
    """Run the jobs that are not complete; those that were interrupted go on.

    Args:
        jobs: of one benchmark.
        executor: runs the trainings.
        reporter: shows which job is on, how many there are and the time left.

    Returns:
        The run's folder of each job, by the job's name, that is complete now; and what failed.

    Raises:
        UserError: a job began with another config, or its folder cannot be written to. Then no
            training has been started.
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

            def started(job: Job, checkpoint: Path | None) -> None:
                how = f"goes on from {checkpoint}" if checkpoint else "starts"
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
    """Run each job, from its newest checkpoint if it has one.

    A run that was interrupted between its last checkpoint and its end has nothing left to train,
    and so ends without an adapter; such a job is run again from the start, in a new folder.
    """
    by_name = {job.name: job for job in jobs}
    checkpoints = {job.name: newest_checkpoint(job) for job in jobs}
    while jobs:
        tasks = []
        for job in jobs:
            begin(job)
            words = tuple(job.arguments(checkpoints[job.name]))
            tasks.append(ScriptCall(job.name, words, job.folder / LOG))
        again = []
        running = executor(tasks, lambda task: started(by_name[task.name], checkpoints[task.name]))
        for task, status in running:
            job = by_name[task.name]
            if status == 0 and complete_run(job) is None and checkpoints[job.name] is not None:
                checkpoints[job.name] = None
                again.append(job)
            else:
                ended(job, status)
        jobs = again


def _failure(job: Job, status: int) -> Failure:
    lines = last_lines(job, SHOWN_LINES)
    return Failure(job, status, job.folder / LOG, tuple(lines))


def _report(failure: Failure, reporter: ProgressReporter) -> None:
    reporter.line(
        f"job {failure.job.name} failed (exit status {failure.status}); the end of {failure.log}:"
    )
    for line in failure.last_lines:
        reporter.line(f"  | {line}")
