"""The process of a job: `python run_job.py FOLDER LOCK`, run as a file.

It outlives the studio. It runs the job's commands one after the other and writes down how they
ended, since no other process may be there to learn it. It waits as long as the commands run, so it
imports nothing but Python's own modules: the package would bring PyTorch along.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

RECORD = "job.json"
PROCESS = "process.json"
STOPPING = "stopping.json"
ENDED = "ended.json"

_NICENESS = 5  # the page answers while a training takes all cores
_STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def run_job(folder: Path, lock: int) -> int:
    """Run a job's commands until one fails or a signal asks to stop; return the exit status.

    Args:
        folder: the job's folder.
        lock: descriptor of the folder's lock, which the commands keep open as well.
    """
    commands = json.loads((folder / RECORD).read_text(encoding="utf-8"))["commands"]
    stopped: list[int] = []
    for name in _STOP_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, _: stopped.append(number))
    _write(folder / PROCESS, {"pid": os.getpid()})
    if (folder / STOPPING).exists():
        stopped.append(signal.SIGTERM)
    with suppress(OSError, AttributeError):
        os.nice(_NICENESS)
    status = 0
    for command in commands:
        if status == 0 and stopped:
            status = 128 + stopped[0]
        if status:
            break
        status = _run(command, lock)
    if stopped and status:  # however the command took the signal
        status = 128 + stopped[0]
    _write(folder / ENDED, {"status": status, "time": time.time()})
    return status


def _run(command: Sequence[str], lock: int) -> int:
    with subprocess.Popen([sys.executable, *command], pass_fds=(lock,)) as process:
        return process.wait()


def _write(path: Path, content: dict[str, float]) -> None:
    """Write a small file that is seen whole or not at all, as `files.atomic` does."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(run_job(Path(sys.argv[1]), int(sys.argv[2])))
