"""The command `benchmark.py`: train subjects x variants x seeds and compare them in one table."""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import yaml

from dreambooth_pl.benchmark.executors import Executor, LocalExecutor
from dreambooth_pl.benchmark.generation import generate_in_parallel
from dreambooth_pl.benchmark.job_folder import begun_run, check_unchanged, complete_run
from dreambooth_pl.benchmark.jobs import Job, check_photos, expand
from dreambooth_pl.benchmark.results import write_results
from dreambooth_pl.benchmark.spec import Benchmark, read_benchmark
from dreambooth_pl.benchmark.together import FOLDER, MOST, TogetherExecutor, shapes
from dreambooth_pl.benchmark.training import train
from dreambooth_pl.bounds import Bounds
from dreambooth_pl.commands.common import find_device, quiet_libraries, table_width, whole_number
from dreambooth_pl.commands.train import DreamBoothCLI
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.folder_lock import locked
from dreambooth_pl.files.leftovers import remove_leftovers
from dreambooth_pl.memory.exhausted import tells_out_of_memory
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.reporting.html.report import REPORT
from dreambooth_pl.reporting.tables import render
from dreambooth_pl.start import tells_mistakes
from dreambooth_pl.stop_signals import NOTHING, advising

DEFAULT_OUT = Path("benchmark_runs")


@tells_mistakes
@tells_out_of_memory(
    "Lower --at-once, or data.batch_size and sampling.batch_size in the benchmark's file."
)
def main(args: Sequence[str] | None = None, executor: Executor | None = None) -> int:
    """Run the command.

    Args:
        args: command-line arguments; None for those of the process.
        executor: runs the jobs; None to run them on this machine.

    Returns:
        The exit status: 0 if every job is complete and in the table, else 1.
    """
    words = sys.argv[1:] if args is None else args
    options = build_parser().parse_args(words)
    quiet_libraries()
    with advising(NOTHING):
        benchmark = read_benchmark(options.config)
        out = options.out or DEFAULT_OUT / benchmark.name
        jobs = expand(benchmark, out)
        check_photos(benchmark)
        configs = check_variants(jobs)
        if options.dry_run:
            _show(jobs)
            return 0
        device = find_device(options.device)
    with locked(out) as descriptor:
        remove_leftovers(out)
        executor = executor or LocalExecutor([descriptor], options.at_once)
        if options.together > 1:
            executor = _in_groups(executor, jobs, configs, options.together, out)
        command = ["python", "benchmark.py", *words]
        parallel = options.at_once > 1
        with advising("Runs and images so far are kept; the same command goes on from there."):
            return _run(benchmark, jobs, out, device, executor, command, in_parallel=parallel)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `benchmark.py`."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py",
        description="Train subjects x variants x seeds and compare all runs in one table, with the "
        "real photos (ceiling) and the untuned base (floor). The same command continues an "
        "interrupted benchmark: complete runs are kept, interrupted ones resume from their last "
        "checkpoint.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        help="a file such as configs/benchmark/seed_experiments.yaml",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for runs, tables, contact sheet and report.html (default: "
        f"{DEFAULT_OUT}/NAME, NAME being the config file's)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="device of the evaluation: auto, cpu, cuda, cuda:1, ... (default: %(default)s)",
    )
    parser.add_argument(
        "--at-once",
        type=whole_number(Bounds(1, 1024)),
        default=1,
        metavar="N",
        help="number of runs to train in parallel, then of subjects to generate images of, each "
        "with its share of the cores (default: %(default)s)",
    )
    parser.add_argument(
        "--together",
        type=_together,
        default=1,
        metavar="N",
        help="train up to N runs side by side in one process, on one base in memory, several times "
        "as fast as one by one; each run is what it would be alone, up to rounding. auto: as many "
        f"as pays, {MOST} at most. Runs that cannot be are trained one by one (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check the file and show the jobs and commands without running them",
    )
    return parser


def _together(text: str) -> int:
    return MOST if text == "auto" else whole_number(Bounds(1, 64))(text)


def _in_groups(
    executor: Executor,
    jobs: Sequence[Job],
    configs: Mapping[str, str],
    most: int,
    out: Path,
) -> TogetherExecutor:
    """Return an executor that trains in groups; say which variants are not in any."""
    found, alone = shapes({name: yaml.safe_load(text) for name, text in configs.items()})
    for name, why in alone.items():
        print(f"note: runs of the variant {name} train one by one: {why}", file=sys.stderr)
    by_job = {job.name: found[job.variant.name] for job in jobs if job.variant.name in found}
    return TogetherExecutor(executor, by_job, most, out / FOLDER)


def check_variants(jobs: Sequence[Job]) -> dict[str, str]:
    """Check the first job of each variant with the parser of `train.py`. Runs nothing.

    Returns:
        The whole config of each variant's first job, as YAML, by the variant's name.

    Raises:
        UserError: `train.py` does not accept a key or value; the message names the variant.
    """
    first: dict[str, Job] = {}
    for job in jobs:
        first.setdefault(job.variant.name, job)
    configs = {}
    for name, job in first.items():
        try:
            configs[name] = parse(job)
        except UserError as error:
            raise UserError(f"variant {name}: {error}") from error
    return configs


def parse(job: Job) -> str:
    """Return the whole config, as YAML, that `train.py` reads from a job's arguments."""
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
    command: Sequence[str],
    in_parallel: bool,
) -> int:
    reporter = ProgressReporter()
    folders, failures = train(jobs, executor, reporter)
    unscored: tuple[str, ...] = ()
    if folders:
        if in_parallel:
            generate_in_parallel(folders, benchmark.protocol, out, str(device), executor, reporter)
        results = write_results(benchmark, jobs, folders, out, device, reporter, command)
        unscored = results.failures
        if results.rows:
            more = {"comparisons": results.differences, "notes": results.notes}
            text = render(results.rows, "table", table_width(), **more)
            print(text, end="")
            reporter.line(f"tables, runs, contact sheet and {REPORT} are in {out}")
    for message in unscored:
        print(f"error: not evaluated: {message}", file=sys.stderr)
    if failures:
        names = ", ".join(failure.job.name for failure in failures)
        print(
            f"error: {len(failures)} of {len(jobs)} jobs failed: {names}. Their output is in "
            f"{failures[0].log} and the like; the same command tries them again.",
            file=sys.stderr,
        )
    return 1 if failures or unscored else 0


def _show(jobs: Sequence[Job]) -> None:
    for job in jobs:
        check_unchanged(job)
    for number, job in enumerate(jobs, start=1):
        run, begun = complete_run(job), begun_run(job)
        state = f"complete: {run}" if run else "goes on" if begun else "to be run"
        print(f"job {number} of {len(jobs)}: {job.name} ({state})")
        if run is None:
            print("  " + shlex.join(["python", "train.py", *job.arguments(begun)]))
