"""One attempt at a script call: its arguments, its process, and how its end is understood.

Nodes of a cluster get this module by value, so it imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

SECONDS_TO_STOP = 30.0
"""How long a script may take to end after SIGTERM: training ends after a step, and saves it."""
MEMORY, LOST, FINAL = "out of memory", "lost", "final"
"""Why a script has failed: for want of memory, because its process was ended, for good."""

_TAIL = 16_384  # bytes of a log that are looked at
_OUT_OF_MEMORY = re.compile(
    r"OutOfMemoryError|out of memory|^MemoryError|can('t|not) allocate memory",
    re.MULTILINE | re.IGNORECASE,
)
_PR_SET_PDEATHSIG = 1
_VERSION = re.compile(r"version_(\d+)")


def begun_run(folder: str | Path) -> Path | None:
    """Return the newest run in a job's folder that has begun, so that `--resume` takes it up.

    Args:
        folder: has `lightning_logs/NAME/version_N`; a run with `config.yaml` has begun.
    """
    found = []
    for config in Path(folder).glob("lightning_logs/*/version_*/config.yaml"):
        if match := _VERSION.fullmatch(config.parent.name):
            found.append((int(match[1]), config.parent))
    return max(found)[1] if found else None


def attempt_words(
    arguments: Sequence[str], runs: str | Path | None, folder: str | Path = "."
) -> list[str]:
    """Return the arguments of an attempt that starts now: a run that has begun goes on.

    Args:
        arguments: of the first attempt.
        runs: the job's folder; None for what is no training.
        folder: the working directory of the attempt.
    """
    run = begun_run(Path(folder) / runs) if runs else None
    if run is None:
        return list(arguments)
    return ["fit", "--resume", str(Path(runs, run.relative_to(Path(folder) / runs)))]


def tail(log: str | Path, start: int = 0) -> str:
    """Return the last part of a log, and nothing before the byte `start`; empty without a log."""
    try:
        with open(log, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - _TAIL, 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def cause(status: int, output: str) -> str:
    """Return why a script has failed: `MEMORY`, `LOST` or `FINAL`.

    Args:
        status: its exit status, negative for a signal; not 0.
        output: the end of its log.

    >>> cause(1, "error: data.batch_size is 0"), cause(1, "torch.OutOfMemoryError: CUDA out of ...")
    ('final', 'out of memory')
    >>> cause(-9, ""), cause(143, "Stopped by SIGTERM.")
    ('lost', 'lost')
    """
    if _OUT_OF_MEMORY.search(output):
        return MEMORY
    if status < 0 or status > 128:
        return LOST
    return FINAL


def start(
    command: Sequence[str],
    log: str | Path,
    environment: Mapping[str, str],
    folder: str | Path | None = None,
    descriptors: Sequence[int] = (),
    dies_with_parent: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a script in a session of its own, where no Ctrl-C of the terminal reaches it.

    Args:
        command: what to run.
        log: its output is appended to this file.
        environment: its environment variables.
        folder: its working directory; None for this process's.
        descriptors: files that it keeps open.
        dies_with_parent: whether the system kills it when this process is killed (Linux).
    """
    with open(log, "ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            pass_fds=tuple(descriptors),
            env=dict(environment),
            start_new_session=True,
            preexec_fn=_die_with_parent() if dies_with_parent else None,
        )


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask processes to end, and kill those that take too long."""
    for process in processes:
        with suppress(OSError):
            process.terminate()
    for process in processes:
        try:
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            kill([process])
            process.wait()


def kill(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes at once, with those that they have started."""
    for process in processes:
        if process.poll() is not None:
            continue
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _die_with_parent():
    """Return what a child calls to be killed with its parent; None where Linux is not."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork
    parent = os.getpid()

    def die() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has died meanwhile
            os._exit(1)

    return die
