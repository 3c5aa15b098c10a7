"""Subject-steps per second of runs that train together, beside single runs.

`python benchmarks/together.py` trains on the miniature through the ordinary trainers, batch 1 + 1:
one run with all cores; one process for each core, as `benchmark.py --at-once` does; and N runs in
one process, as `--together N` does, alone and a process for each core. A subject-step is one
optimiser step of one run. `CPU ms` is the processor time that one takes, over all processes: on a
machine that does other work, too, it is the number to compare.
"""

from __future__ import annotations

import dreambooth_pl  # noqa: F401  isort: skip  (mends the import of torchvision first)

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_bases import write_photos
from gpu_loops import Stopwatch
from gpu_together import train_together

from dreambooth_pl.adapters import AdapterSettings
from dreambooth_pl.commands.common import quiet_libraries

LAYERS = ("attention", "attention_ff", "attention_ff_conv")
WARM_UP, WINDOWS = 3, 5


class Watch(Stopwatch):
    """Counts processor time as well."""

    def __init__(self, size: int) -> None:
        super().__init__(torch.device("cpu"), WARM_UP, size, WINDOWS)
        self.cpu: list[float] = []

    def after(self, step: int) -> None:
        """Take note that `step` steps are done."""
        count = len(self.marks)
        super().after(step)
        if len(self.marks) > count:
            self.cpu.append(time.process_time())

    def cpu_ms(self) -> float:
        """Return the median processor time of a step, in milliseconds."""
        pairs = zip(self.cpu, self.cpu[1:], strict=False)
        return 1e3 * statistics.median((b - a) / self.size for a, b in pairs)


@dataclass(frozen=True)
class Row:
    """Processes that train at once, and how many runs each trains side by side."""

    name: str
    processes: int
    runs: int


def work(base: str, runs: int, args: argparse.Namespace) -> dict[str, float]:
    """Train in this process; return milliseconds a step, by the clock and of the processor."""
    quiet_libraries()
    lora = AdapterSettings(args.rank, float(args.rank), target_modules=args.layers)
    # as many subject-steps for any number of runs, and one step at least
    watch = Watch(max(1, args.steps // (WINDOWS * runs)))
    with tempfile.TemporaryDirectory() as name:
        photos = write_photos(Path(name, "photos"), 4, 160)
        others = write_photos(Path(name, "others"), 8, 160)
        measured = train_together(
            Path(base),
            photos,
            others,
            128,
            watch,
            runs,
            args.precision,
            lora,
            train_text_encoder=args.text_encoder,
        )
    return {"ms": statistics.median(measured.window_ms), "cpu_ms": watch.cpu_ms()}


def measure(row: Row, words: list[str], cores: int) -> dict[str, float]:
    """Return subject-steps per second and processor milliseconds per subject-step of a row."""
    threads = str(max(1, cores // row.processes))
    command = [sys.executable, __file__, *words, "--worker", str(row.runs)]
    processes = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": threads},
        )
        for _ in range(row.processes)
    ]
    found: list[dict[str, Any]] = []
    for process in processes:
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(process.returncode)
        found.append(json.loads(output.splitlines()[-1]))
    return {
        "rate": sum(1e3 * row.runs / own["ms"] for own in found),
        "cpu_ms": statistics.mean(own["cpu_ms"] for own in found) / row.runs,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--base", default="data/miniature", help="folder of the base")
    parser.add_argument("--runs", type=int, nargs="+", default=[2, 4, 8, 16], help="together")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--layers", choices=LAYERS, default=LAYERS[0])
    parser.add_argument("--text-encoder", action="store_true", help="train it, too")
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    parser.add_argument("--steps", type=int, default=60, help="subject-steps of each measurement")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(args.base, args.worker, args)))
        return
    cores, words = args.cores, sys.argv[1:]
    rows = [Row("one by one", 1, 1), Row(f"at once {cores}", cores, 1)]
    rows += [Row(f"together {n}", 1, n) for n in args.runs]
    rows += [Row(f"together {n}, at once {cores}", cores, n) for n in args.runs[-2:]]
    print(f"{'':<26}{'subject-steps/s':>16}{'CPU ms':>9}{'to at once':>12}{'by CPU':>9}")
    reference: dict[str, float] | None = None
    for row in rows:
        found = measure(row, words, cores)
        if row.processes == cores and reference is None:
            reference = found
        ratios = ""
        if reference is not None:
            by_clock = found["rate"] / reference["rate"]
            by_cpu = reference["cpu_ms"] / found["cpu_ms"]
            ratios = f"{by_clock:>12.2f}{by_cpu:>9.2f}"
        print(f"{row.name:<26}{found['rate']:>16.2f}{found['cpu_ms']:>9.1f}{ratios}", flush=True)


if __name__ == "__main__":
    main()
