"""benchmarks/soak.py watches a run of its own, and its lines are least-squares lines."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import linregress

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from soak import fit_line, watch  # noqa: E402


def test_slope_and_error_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    steps = np.sort(rng.integers(1, 5000, 40))
    values = 900 + 0.003 * steps + rng.normal(size=40)
    line = fit_line(steps.tolist(), values.tolist())
    reference = linregress(steps / 1000, values)
    assert line.slope == pytest.approx(reference.slope)
    assert line.error == pytest.approx(reference.stderr)


LEAKS = """
import sys, time
held = []
with open(sys.argv[1], "w") as log:
    print("step,loss", file=log, flush=True)
    for step in range(1, 41):
        held.append((bytearray(2**20), open(sys.argv[1])))
        print(f"{step},0.5", file=log, flush=True)
        time.sleep(0.02)
"""


def test_a_process_that_keeps_memory_and_files_is_found_out(tmp_path) -> None:
    metrics = tmp_path / "metrics.csv"
    command = [sys.executable, "-c", LEAKS, str(metrics)]
    samples = watch(command, tmp_path / "log.txt", metrics, seconds=0.02)
    steps = [sample.step for sample in samples]
    assert 500 < fit_line(steps, [s.memory for s in samples]).slope < 2000
    assert 500 < fit_line(steps, [s.handles for s in samples]).slope < 2000


def test_a_run_that_fails_is_said(tmp_path) -> None:
    with pytest.raises(SystemExit, match="ended with 3"):
        watch([sys.executable, "-c", "exit(3)"], tmp_path / "log", tmp_path / "m.csv", 0.01)
