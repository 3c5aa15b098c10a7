"""The process of a job: `python -m dreambooth_pl.studio.jobs.run_job FOLDER LOCK`.

It outlives the studio. It runs the job's commands one after the other and writes down how they
ended, since no other process may be there to learn it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dreambooth_pl.files.atomic import write_json
from dreambooth_pl.studio.jobs.job import ENDED, PROCESS, STOPPING, read_job

_NICENESS = 5  # the page answers while a training takes all cores
_STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def run_job(folder: Path, lock: int) -> int:
    """Run a job's commands until one fails or a signal asks to stop; return the exit status.

    Args:
        folder: the job's folder.
        lock: descriptor of the folder's lock, which the commands keep open as well.
    """
    job = read_job(folder)
    assert job is not None, f"no job in {folder}"
    stopped: list[int] = []
    for name in _STOP_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, _: stopped.append(number))
    write_json(folder / PROCESS, {"pid": os.getpid()})
    if (folder / STOPPING).exists():
        stopped.append(signal.SIGTERM)
    with suppress(OSError, AttributeError):
        os.nice(_NICENESS)
    status = 0
    for command in job.commands:
        if status == 0 and stopped:
            status = 128 + stopped[0]
        if status:
            break
        status = _run(command, lock)
    if stopped and status:  # however the command took the signal
        status = 128 + stopped[0]
    write_json(folder / ENDED, {"status": status, "time": time.time()})
    return status


def _run(command: Sequence[str], lock: int) -> int:
    with subprocess.Popen([sys.executable, *command], pass_fds=(lock,)) as process:
        return process.wait()


if __name__ == "__main__":
    sys.exit(run_job(Path(sys.argv[1]), int(sys.argv[2])))
