"""Runs `train.py fit` in two processes, lets one of them fail, and tells how the run ended.

A script, so that the imports are paid once: `two_processes.py BASE PHOTOS FOLDER < CASES`, with a
JSON object a line: `name`, `arguments` (of the command line beside the usual ones) and `signals`
(numbers, each for the first process of a start of its own; the next start goes on with the command
that the last one has printed). The processes are forks, where Lightning would start the script
again. One line of JSON tells about each case.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dreambooth_pl  # noqa: F401  isort: skip  (mends the import of torchvision first)
import lightning.pytorch.strategies.launchers.subprocess_script as launcher
from lightning.fabric.utilities.rank_zero import rank_zero_only

from dreambooth_pl.commands import train
from dreambooth_pl.commands.common import run_command


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
            run(lambda: train.main(command[2:]))


def run(main: Any) -> None:
    """Run a command as a script does, and end this process."""
    try:
        run_command(main)
    except SystemExit as ended:
        os._exit(ended.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(1)


def start(words: list[str], folder: Path) -> dict[str, Any]:
    """Run the command in `folder`; return its status, what it said, and who has outlived it."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.chdir(folder)
        output = os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 2)
        os.dup2(output, 1)
        launcher.subprocess = SimpleNamespace(Popen=Fork)
        sys.argv = ["train.py", *words]
        run(lambda: train.main(words))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    ended = time.time()
    fault = folder / "fault"
    seconds = ended - fault.stat().st_mtime if fault.exists() else None
    fault.unlink(missing_ok=True)
    end = time.monotonic() + 3
    while (left := outlived(pid)) and time.monotonic() < end:
        time.sleep(0.05)
    said = (folder / "stderr").read_text()
    return {"status": status, "seconds": seconds, "left": left, "said": said}


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
    base, photos, root = sys.argv[1:4]
    for line in sys.stdin:
        case = json.loads(line)
        folder = Path(root, case["name"])
        folder.mkdir()
        words = ["fit", *case["arguments"]]
        words += [f"--model.base={base}", f"--data.instance_dir={photos}"]
        began = time.monotonic()
        print(json.dumps({**start(words, folder), "name": case["name"], "took": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
