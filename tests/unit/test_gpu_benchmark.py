"""benchmarks/gpu.py runs on a CPU with tiny bases, and its numbers fit together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ON_CPU = ["ours", "together 8", "plain loop", "cached loop"]


def test_tiny_bases_on_a_cpu(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.json"
    command = ["benchmarks/gpu.py", "--tiny", "--device", "cpu", "--json", str(numbers)]
    found = subprocess.run(
        [sys.executable, *command, "--bases", "sd15"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert found.returncode == 0, found.stderr
    rows = json.loads(numbers.read_text())["rows"]
    assert [row["name"] for row in rows] == ON_CPU, found.stderr
    for row in rows:
        assert row["name"] in found.stdout
        assert row["operations"] > 0 and row["measured"]["begin_s"] > 0
        assert min(row["measured"]["window_ms"]) <= row["step_ms"]
        run = row["measured"]["begin_s"] + 1300 * row["step_ms"] / 1e3
        assert row["run_s"] == pytest.approx(run)
    assert rows[0]["images_per_s"] > 0 and rows[2]["images_per_s"] > 0
    assert [row["subjects"] for row in rows] == [1, 8, 1, 1]
