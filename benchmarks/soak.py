"""Whether a long run keeps its memory and file handles: a slope per 1,000 steps.

`python benchmarks/soak.py` runs `train.py fit` for 5,000 steps on the miniature, with probes and
checkpoints on the way, and watches the process from outside. The slopes are least-squares lines
through the samples of the run's last three quarters, each with its standard error.
"""

from __future__ import annotations

import dreambooth_pl  # noqa: F401  isort: skip  (mends the import of torchvision first)

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from dreambooth_pl.runs.folder import next_run_folder, run_name

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Sample:
    """What the process held at one time."""

    step: int
    """The last step that `metrics.csv` tells of."""
    memory: float
    """Resident memory in MiB."""
    handles: int
    """Open file descriptors."""


@dataclass(frozen=True)
class Line:
    """A least-squares line."""

    slope: float
    """Change per 1,000 steps."""
    error: float
    """The slope's standard error."""


def fit_line(steps: Sequence[int], values: Sequence[float]) -> Line:
    """Return the line through three samples or more."""
    x, y = np.asarray(steps) / 1000, np.asarray(values, dtype=float)
    around = x - x.mean()
    slope = float(around @ y / (around @ around))
    rest = y - y.mean() - slope * around
    return Line(slope, float((rest @ rest / (len(x) - 2) / (around @ around)) ** 0.5))


def watch(command: Sequence[str], log: Path, metrics: Path, seconds: float) -> list[Sample]:
    """Run a command to its end and sample it.

    Args:
        command: starts a run.
        log: file for the command's output.
        metrics: the file that tells of the run's steps.
        seconds: between two samples.

    Raises:
        SystemExit: the command failed.
    """
    samples = []
    with log.open("w", encoding="utf-8") as output:
        run = psutil.Popen(command, cwd=REPOSITORY, stdout=output, stderr=output)
        while run.poll() is None:
            time.sleep(seconds)
            step = _last_step(metrics)
            try:
                memory, handles = run.memory_info().rss / 2**20, run.num_fds()
            except psutil.Error:
                break  # it has just ended
            if step and memory:  # what has ended, and has not been waited for, holds nothing
                samples.append(Sample(step, memory, handles))
        if run.wait():
            sys.exit(f"the run ended with {run.returncode}: see {log}")
    return samples


def _last_step(metrics: Path) -> int:
    if not metrics.is_file():
        return 0
    with metrics.open(newline="", encoding="utf-8") as file:
        return max((int(row["step"] or 0) for row in csv.DictReader(file)), default=0)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--config", default="configs/sks.yaml", help="of the run")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--probe-every", type=int, default=250, help="steps")
    parser.add_argument("--seconds", type=float, default=2.0, help="between two samples")
    parser.add_argument("--out", type=Path, help="folder for the run and its log")
    parser.add_argument("options", nargs="*", help="more options of train.py fit, after --")
    args = parser.parse_args()
    out = args.out or Path(tempfile.mkdtemp(prefix="soak-"))
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "train.py", "fit", "--config", args.config]
    command += [f"--trainer.max_steps={args.steps}", f"--probe.every_n_steps={args.probe_every}"]
    command += [f"--trainer.default_root_dir={out.resolve()}", *args.options]
    metrics = next_run_folder(out, run_name([Path(args.config)])) / "metrics.csv"
    samples = watch(command, out / "log.txt", metrics, args.seconds)
    later = [sample for sample in samples if sample.step > args.steps / 4]
    if len({sample.step for sample in later}) < 3:
        sys.exit("too few samples; take more steps, or --seconds below the present")
    steps = [sample.step for sample in later]
    for name, unit, values in (
        ("memory", "MiB", [sample.memory for sample in later]),
        ("file handles", "", [float(sample.handles) for sample in later]),
    ):
        line = fit_line(steps, values)
        print(
            f"{name}: {line.slope:+.2f} +- {line.error:.2f} {unit} per 1,000 steps; "
            f"{min(values):.0f} to {max(values):.0f} {unit} in {len(values)} samples, "
            f"steps {steps[0]} to {steps[-1]}"
        )


if __name__ == "__main__":
    main()
