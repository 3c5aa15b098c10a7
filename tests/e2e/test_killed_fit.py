"""A run that is killed anywhere and resumed ends like one that was not, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("kill_points.py")
COUNT = os.environ.get("DREAMBOOTH_PL_KILL_POINTS")
"""How many points to try, spread over the whole run; unset: one of each phase."""


def test_killed_anywhere_is_uninterrupted(tiny_base_dir, photo_dir, tmp_path) -> None:
    command = [sys.executable, str(SCRIPT), str(tiny_base_dir), str(photo_dir), str(tmp_path)]
    tried = subprocess.run(
        [*command, *([COUNT] if COUNT else [])], capture_output=True, text=True, check=False
    )
    assert tried.returncode == 0, tried.stdout + tried.stderr
    points = [json.loads(line) for line in tried.stdout.splitlines()]
    assert len(points) >= 6
    for point in points:
        assert point["status"] == -9, point
        assert (point["resumed"], point["unlike"]) == (0, []), point
