"""The command `benchmark.py`: train subjects x variants x seeds and compare them in one table."""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from dreambooth_pl.benchmark.estimate import estimate, step_times
from dreambooth_pl.benchmark.executors.call import Executor
from dreambooth_pl.benchmark.executors.choice import (
    EXECUTORS,
    LOCAL,
    RAY,
    Choice,
    chosen,
    slots_of,
)
from dreambooth_pl.benchmark.executors.local import AUTO
from dreambooth_pl.benchmark.generation import generate_in_parallel
from dreambooth_pl.benchmark.inputs import common_inputs
from dreambooth_pl.benchmark.job_folder import begun_run, check_unchanged, complete_run
from dreambooth_pl.benchmark.jobs import Job, check_photos, expand
from dreambooth_pl.benchmark.results import write_results
from dreambooth_pl.benchmark.spec import Benchmark, read_benchmark
from dreambooth_pl.benchmark.status import STATUS, described, read_status
from dreambooth_pl.benchmark.together import MOST, Groups
from dreambooth_pl.benchmark.training import report, train
from dreambooth_pl.bounds import Bounds
from dreambooth_pl.commands.common import (
    find_device,
    quiet_libraries,
    real_number,
    table_width,
    whole_number,
)
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
        if options.status:
            print("\n".join(described(read_status(out), time.time())))
            return 0
        jobs = expand(benchmark, out)
        check_photos(benchmark)
        configs = check_variants(jobs)
        if options.dry_run:
            _show(jobs)
            given = options.step_seconds
            times = {"given": [given]} if given else step_times(jobs)
            slots = slots_of(_choice(options, benchmark, jobs), benchmark.resources)
            print("\n".join(estimate(jobs, times, slots, options.price)))
            return 0
        find_device(options.device)
    with locked(out) as descriptor:
        remove_leftovers(out)
        command = ["python", "benchmark.py", *words]
        with advising("Runs and images so far are kept; the same command goes on from there."):
            groups = Groups(jobs, configs, options.together)
            for note in groups.notes():
                print(f"note: {note}", file=sys.stderr)
            if executor is not None:
                own = groups.over(executor, out)
                return _run(benchmark, jobs, out, options.device, own, "", command)
            choice = _choice(options, benchmark, jobs)
            with chosen(choice, benchmark.resources, out, descriptor) as (own, where):
                own = groups.over(own, out)
                return _run(benchmark, jobs, out, options.device, own, where, command)


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
        "--executor",
        choices=EXECUTORS,
        default=LOCAL,
        help="where the jobs run: on this machine, a Ray cluster or SLURM (default: %(default)s)",
    )
    parser.add_argument(
        "--address",
        help="of Ray: auto for the cluster that this machine is part of, HOST:6379, or "
        "ray://HOST:10001 from outside (default: start Ray on this machine)",
    )
    parser.add_argument(
        "--no-shared-folder",
        action="store_true",
        help="send files to Ray's nodes and back, even if they share this machine's folder",
    )
    parser.add_argument(
        "--at-once",
        type=_at_once,
        metavar="N",
        help="number of runs to train in parallel on this machine, then of calls that generate "
        "images, each on its GPU and with its share of the cores; auto: as many as the GPUs and "
        "the memory hold; with SLURM, of jobs at a time (default: 1; with SLURM 16)",
    )
    parser.add_argument(
        "--together",
        type=_together,
        default=1,
        metavar="N",
        help="train up to N runs side by side in one process, on one base in memory, faster than "
        "one by one; each run is what it would be alone, up to rounding. auto: as many "
        f"as pays, {MOST} at most. Runs that cannot be are trained one by one (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check the file and show the jobs and commands without running them, and what they "
        "will take: by the jobs that have ended, on as many slots as the cluster at --address has, "
        "or --at-once says",
    )
    parser.add_argument(
        "--step-seconds",
        type=real_number(Bounds(0, 86_400, open_low=True)),
        metavar="S",
        help="seconds of a step for the estimate of --dry-run, where no job has ended yet",
    )
    parser.add_argument(
        "--price",
        type=real_number(Bounds(0, 1_000_000)),
        help="of an hour of one slot, for the estimate of --dry-run",
    )
    parser.add_argument(
        "--status",
        action="store_true",
        help="show how far the benchmark is, from another shell, without running anything",
    )
    return parser


def _at_once(text: str) -> int | str:
    return text if text == AUTO else whole_number(Bounds(1, 1024))(text)


def _together(text: str) -> int:
    return MOST if text == AUTO else whole_number(Bounds(1, 64))(text)


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


def _choice(options: argparse.Namespace, benchmark: Benchmark, jobs: Sequence[Job]) -> Choice:
    return Choice(
        options.executor,
        options.at_once,
        options.device,
        options.address,
        shared=False if options.no_shared_folder else None,
        inputs=common_inputs(benchmark, jobs) if options.executor == RAY else (),
        slurm=benchmark.slurm,
    )


def _run(
    benchmark: Benchmark,
    jobs: Sequence[Job],
    out: Path,
    device: str,
    executor: Executor,
    where: str,
    command: Sequence[str],
) -> int:
    reporter = ProgressReporter()
    common = {"resources": benchmark.resources, "status": out / STATUS, "where": where}
    folders, failures = train(jobs, executor, reporter, **common)
    unscored: tuple[str, ...] = ()
    if folders:
        if executor.slots > 1:
            on_any = "cuda" if device.startswith("cuda") else device  # a slot sees its own cards
            generate_in_parallel(
                folders, benchmark.protocol, out, on_any, executor, reporter, **common
            )
        on = find_device(device)
        results = write_results(benchmark, jobs, folders, out, on, reporter, command)
        unscored = results.failures
        if results.rows:
            more = {"comparisons": results.differences, "notes": results.notes}
            text = render(results.rows, "table", table_width(), **more)
            print(text, end="")
            reporter.line(f"tables, runs, contact sheet and {REPORT} are in {out}")
    for message in unscored:
        print(f"error: not evaluated: {message}", file=sys.stderr)
    for failure in failures:
        report(failure, reporter)
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
