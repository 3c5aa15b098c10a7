"""What an executor itself costs: empty calls through it, in calls per second and memory.

`python benchmarks/executor_overhead.py --executor ray` runs calls of an empty script. What is left
after the time that Python takes to start is the executor's. `--executor none` runs nothing: what is
left is the keeping of the status.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dreambooth_pl.benchmark.executors.call import Executor, Resources, ScriptCall, Watch
from dreambooth_pl.benchmark.executors.local import LocalExecutor
from dreambooth_pl.benchmark.executors.memory import cores
from dreambooth_pl.benchmark.executors.ray_executor import ray_executor
from dreambooth_pl.benchmark.status import STATUS, Board
from dreambooth_pl.progress import ProgressReporter


def main() -> None:
    """Time the calls and print a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executor", choices=("local", "ray", "none"), default="ray")
    parser.add_argument("--address", help="of a Ray cluster; default: Ray on this machine")
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        script = Path("empty.py").absolute()
        script.touch()
        calls = [_call(number, script) for number in range(options.calls)]
        began = time.perf_counter()
        for _ in range(20):
            subprocess.run([sys.executable, str(script)], check=True)
        start = (time.perf_counter() - began) / 20
        if options.executor == "none":
            seconds = _seconds(Nothing(), calls)
        elif options.executor == "local":
            seconds = _seconds(LocalExecutor(at_once=cores()), calls)
        else:
            with ray_executor(options.address, Resources(), Path("out")) as (executor, _):
                seconds = _seconds(executor, calls)
    own = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{options.executor}: {len(calls)} calls in {seconds:.1f} s, {len(calls) / seconds:.1f} a "
        f"second; Python alone starts in {1000 * start:.0f} ms; the benchmark's process took "
        f"{1000 * (own.ru_utime + own.ru_stime) / len(calls):.2f} ms a call and "
        f"{own.ru_maxrss / 1024:.0f} MiB"
    )


class Nothing:
    """Ends each call as soon as it has started."""

    slots = 1

    def __call__(
        self, calls: Sequence[ScriptCall], watch: Watch
    ) -> Iterator[tuple[ScriptCall, int]]:
        """Run nothing."""
        for call in calls:
            watch.started(call, "nowhere")
            yield call, 0


def _call(number: int, script: Path) -> ScriptCall:
    folder = Path("jobs", str(number))
    folder.mkdir(parents=True)
    return ScriptCall(str(number), (), folder / "log.txt", str(script), outputs=(folder,))


def _seconds(executor: Executor, calls: list[ScriptCall]) -> float:
    with open(os.devnull, "w") as nowhere:
        board = Board("calls", calls, ProgressReporter(nowhere), Path(STATUS))
        began = time.perf_counter()
        with board.shown():
            for call, status in executor(calls, board):
                assert status == 0
                board.ended(call, failed=False)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
