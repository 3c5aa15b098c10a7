"""Runs `train.py fit` in two processes, has one of them fail, and tells how the run ended.

A script, so that the imports are paid once: `two_processes.py FOLDER < CASES`, with a JSON object a
line: `name`, `arguments` of the command line, and `faults`, one for each start, see `Fault`. Every
start but the first goes on with the command that the one before has printed. The processes are
forks, where Lightning would start the script again. One line of JSON tells about each start.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dreambooth_pl  # noqa: F401  isort: skip  (mends the import of torchvision first)
import lightning.pytorch.strategies.launchers.subprocess_script as launcher
from lightning.fabric.utilities.rank_zero import rank_zero_only

from dreambooth_pl.commands import train
from dreambooth_pl.errors import UserError
from dreambooth_pl.sampling import generation
from dreambooth_pl.start import run_command
from dreambooth_pl.training.module import DreamBooth

SLOW = 60  # seconds


@dataclass(frozen=True)
class Fault:
    """What happens to one of the processes, or to all."""

    rank: int | None
    """None for all."""
    at: str
    """`batch` of images or training `step`."""
    number: int
    """Which of those that this process works on, from 1."""
    does: str
    """`kill`; `mistake`, `error` or `nan`; the name of a signal, which the first process gets; with
    `slow ` before it the process then sleeps."""

    def happen(self, owner: Any) -> None:
        """Let it happen now."""
        Path("fault").touch()
        what = self.does.removeprefix("slow ")
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "mistake":
            raise UserError("the cheese is gone; buy more.")
        elif what == "error":
            raise RuntimeError("boo\nhoo")
        elif what == "nan":  # past the settings' own check
            object.__setattr__(owner.settings, "prior_loss_weight", math.nan)
        else:
            first = os.getpid() if rank_zero_only.rank == 0 else os.getppid()
            os.kill(first, signal.Signals[what])
        if what != self.does:
            time.sleep(SLOW)


def watch_for(fault: Fault | None, at: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Have the fault happen before one of the calls of `work`."""
    calls = 0

    @wraps(work)
    def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        due = fault and (fault.at, fault.number) == (at, calls)
        if due and fault.rank in (None, rank_zero_only.rank):
            fault.happen(args[0])
        return work(*args, **kwargs)

    return watched


class Fork(subprocess.Popen):
    """Does what starting the script again would do, without importing everything again."""

    def __init__(self, command: list[str], env: dict[str, str], cwd: str | None) -> None:
        self.args, self.returncode = command, None
        self._child_created, self._waitpid_lock = True, threading.Lock()
        self.stdin = self.stdout = self.stderr = None
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.clear()
            os.environ.update(env)
            rank_zero_only.rank = int(env["LOCAL_RANK"])
            run(command[2:])


def run(words: list[str]) -> None:
    """Run the command as the script does, and end this process."""
    try:
        run_command(lambda: train.main(words))
    except SystemExit as ended:
        os._exit(ended.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(1)


def start(words: list[str], fault: Fault | None) -> dict[str, Any]:
    """Run the command; return its status, what it said, and who has outlived it."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        output = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 2)
        os.dup2(output, 1)
        launcher.subprocess = SimpleNamespace(Popen=Fork)
        generation._generate_batch = watch_for(fault, "batch", generation._generate_batch)
        DreamBooth.training_step = watch_for(fault, "step", DreamBooth.training_step)
        sys.argv = ["train.py", *words]
        run(words)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.time() - Path("fault").stat().st_mtime if fault else None
    end = time.monotonic() + 5
    while (left := outlived(pid)) and time.monotonic() < end:
        time.sleep(0.05)
    return {"status": status, "seconds": seconds, "left": left, "said": Path("said").read_text()}


def outlived(group: int) -> bool:
    """Whether a process of this group still runs; a zombie does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if of_group == str(group) and state != "Z":
            return True
    return False


def main() -> None:
    """Run the cases."""
    root = Path(sys.argv[1]).resolve()
    for line in sys.stdin:
        case = json.loads(line)
        (root / case["name"]).mkdir()
        os.chdir(root / case["name"])
        words = ["fit", *case["arguments"]]
        for fault in case["faults"]:
            ended = start(words, fault and Fault(**fault))
            print(json.dumps({"name": case["name"], **ended}), flush=True)
            words = shlex.split(ended["said"].partition("To go on: ")[2])[2:]


if __name__ == "__main__":
    main()
