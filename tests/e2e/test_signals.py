"""Signals end every command with one line, the shells' exit status, and nothing half-written."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("signal_points.py")
ROOT = Path(__file__).parents[2]


def test_every_command_ends_at_each_point(tiny_base_dir, photo_dir, tmp_path) -> None:
    command = [sys.executable, str(SCRIPT), str(tiny_base_dir), str(photo_dir), str(tmp_path)]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    cases = [json.loads(line) for line in tried.stdout.splitlines()]
    assert len(cases) >= 16
    for case in cases:
        assert not case["problems"], f"{case['case']}: " + "\n".join(case["problems"])


@pytest.mark.parametrize(
    ("command", "signum"),
    [
        (["generate.py", "run"], signal.SIGINT),
        (["-m", "dreambooth_pl.export", "run"], signal.SIGTERM),
    ],
)
def test_while_libraries_are_loaded(tmp_path, command, signum) -> None:
    """The interpreter's own report of its imports tells how far they have come."""
    words = [sys.executable, "-X", "importtime", *command]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        said = ""
        for line in process.stderr:
            said += line
            if re.search(r"\| +numpy$", line):
                process.send_signal(signum)
    assert process.returncode == 128 + signum
    assert "Traceback" not in said
    told = [line for line in said.splitlines() if not line.startswith("import time:")]
    assert told == ["", f"Stopped by {signum.name}. Nothing was changed."][-len(told) :]
    assert told[-1]
