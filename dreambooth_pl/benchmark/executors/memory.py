"""How much memory processes take, and how many of them fit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

GIB = 2**30
_SPARE = 0.9  # share of the memory that calls may fill


def cores() -> int:
    """Return how many cores this process may use, or all cores if the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory_gb() -> float | None:
    """Return the available memory of this machine in GiB; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 2**20 for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration, ValueError):
        return None


def resident_gb(pid: int) -> float:
    """Return the resident memory in GiB of a process and those it has started; 0 if unknown.

    Memory that they share counts for each.
    """
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except (OSError, ValueError, IndexError):
        return 0.0
    own = pages * os.sysconf("SC_PAGE_SIZE") / GIB
    return own + sum(resident_gb(int(child)) for child in children)


def gpu_memory_gb() -> list[tuple[float, float]]:
    """Return used and total memory in GiB of each GPU, in the order of nvidia-smi; [] without."""
    query = ["nvidia-smi", "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        rows = [line.split(",") for line in found.stdout.splitlines() if line.strip()]
        return [(float(used) / 1024, float(total) / 1024) for used, total in rows]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def that_fit(each_gb: float, all_gb: float) -> int:
    """Return how many calls of this size fit into the memory, with some to spare; at least 1.

    >>> that_fit(2.0, 9.0), that_fit(30.0, 16.0)
    (4, 1)
    """
    return max(1, int(all_gb * _SPARE / each_gb))
