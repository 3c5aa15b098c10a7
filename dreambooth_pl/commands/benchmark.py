"""The command line of ``benchmark.py``: a file of subjects, variants and seeds to one table."""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from dreambooth_pl.benchmark.executors import Executor, LocalExecutor
from dreambooth_pl.benchmark.generation import generate_beside
from dreambooth_pl.benchmark.job_folder import check_unchanged, complete_run, newest_checkpoint
from dreambooth_pl.benchmark.jobs import Job, check_photos, expand
from dreambooth_pl.benchmark.results import write_results
from dreambooth_pl.benchmark.spec import Benchmark, read_benchmark
from dreambooth_pl.benchmark.training import train
from dreambooth_pl.bounds import Bounds
from dreambooth_pl.commands.common import (
    find_device,
    quiet_libraries,
    table_width,
    tells_mistakes,
    whole_number,
)
from dreambooth_pl.commands.train import DreamBoothCLI
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import remove_leftovers
from dreambooth_pl.files.folder_lock import locked
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.reporting.tables import render

DEFAULT_OUT = Path("benchmark_runs")


@tells_mistakes
def main(args: Sequence[str] | None = None, executor: Executor | None = None) -> int:
    """Run the command line; return its exit status: 0 if every job is complete and in the table.

    Args:
        args: what stands after ``benchmark.py``; None for the process's own arguments.
        executor: runs the trainings; None for this machine.
    """
    options = build_parser().parse_args(args)
    quiet_libraries()
    benchmark = read_benchmark(options.config)
    out = options.out or DEFAULT_OUT / benchmark.name
    jobs = expand(benchmark, out)
    check_photos(benchmark)
    check_variants(jobs)
    if options.dry_run:
        _show(jobs)
        return 0
    device = find_device(options.device)
    with locked(out) as descriptor:
        remove_leftovers(out)
        executor = executor or LocalExecutor([descriptor], options.at_once)
        return _run(benchmark, jobs, out, device, executor, beside=options.at_once > 1)


def build_parser() -> argparse.ArgumentParser:
    """The options of ``benchmark.py``."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py",
        description="Train subjects x variants x seeds and put all runs into one table, beside the "
        "real photos (ceiling) and the untuned base (floor). Started again, it goes on: runs that "
        "are complete are kept, interrupted ones go on from their last checkpoint.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="such as configs/benchmark/seed_experiments.yaml"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help=f"folder for runs, table and contact sheet (default: {DEFAULT_OUT}/NAME, by the name "
        "of the config file)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="of the evaluation: auto, cpu, cuda, cuda:1, ... (default: %(default)s)",
    )
    parser.add_argument(
        "--at-once",
        type=whole_number(Bounds(1, 1024)),
        default=1,
        metavar="N",
        help="trainings, then drawings of subjects, beside each other, each with its share of the "
        "cores (default: %(default)s)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check all, show the jobs and commands, run nothing"
    )
    return parser


def check_variants(jobs: Sequence[Job]) -> None:
    """Have the training's own parser read the first job of each variant; nothing is run.

    Raises:
        UserError: a key or value is none of the training's; names the variant.
    """
    first: dict[str, Job] = {}
    for job in jobs:
        first.setdefault(job.variant.name, job)
    for name, job in first.items():
        try:
            parse(job)
        except UserError as error:
            raise UserError(f"variant {name}: {error}") from error


def parse(job: Job) -> str:
    """Return the whole config, as YAML, that the training would read a job's arguments as."""
    text = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(text):
        warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")
        try:
            DreamBoothCLI([*job.arguments(), "--print_config"])
        except SystemExit as ended:
            assert ended.code == 0, "the parser raises UserError, or prints"
    return text.getvalue()


def _run(
    benchmark: Benchmark,
    jobs: Sequence[Job],
    out: Path,
    device: torch.device,
    executor: Executor,
    beside: bool,
) -> int:
    reporter = ProgressReporter()
    folders, failures = train(jobs, executor, reporter)
    unscored: tuple[str, ...] = ()
    if folders:
        if beside:
            generate_beside(folders, benchmark.protocol, out, str(device), executor, reporter)
        results = write_results(benchmark, jobs, folders, out, device, reporter)
        unscored = results.failures
        if results.rows:
            more = {"comparisons": results.differences, "notes": results.notes}
            text = render(results.rows, "table", table_width(), **more)
            print(text, end="")
            reporter.line(f"table, runs and contact sheet are in {out}")
    for message in unscored:
        print(f"error: not evaluated: {message}", file=sys.stderr)
    if failures:
        names = ", ".join(failure.job.name for failure in failures)
        print(
            f"error: {len(failures)} of {len(jobs)} jobs failed: {names}. What they said is in "
            f"{failures[0].log} and its like; the same command tries them again.",
            file=sys.stderr,
        )
    return 1 if failures or unscored else 0


def _show(jobs: Sequence[Job]) -> None:
    for job in jobs:
        check_unchanged(job)
    for number, job in enumerate(jobs, start=1):
        run, checkpoint = complete_run(job), newest_checkpoint(job)
        state = f"complete: {run}" if run else "goes on" if checkpoint else "to be run"
        print(f"job {number} of {len(jobs)}: {job.name} ({state})")
        if run is None:
            print("  " + shlex.join(["python", "train.py", *job.arguments(checkpoint)]))
