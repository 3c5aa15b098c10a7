"""Processes that are killed or signalled, and what they leave."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_SCRIPT = """
import os, signal, sys
from pathlib import Path
from dreambooth_pl.files.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print(temporary, end="", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_unfinished(target: Path) -> Path:
    """Have a process killed that writes `target`; return the temporary that it leaves."""
    command = [sys.executable, "-c", _SCRIPT, str(target)]
    left = Path(subprocess.run(command, check=False, capture_output=True, text=True).stdout)
    assert left.parent == target.parent and left.read_bytes() == b"half"
    return left


def status_of(work: Callable[[], None]) -> int:
    """Run `work` in a fork; return its exit status, negative if it is killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
