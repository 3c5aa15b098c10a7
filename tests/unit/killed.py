"""What a process leaves that is killed in the middle of a write."""

import subprocess
import sys
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
