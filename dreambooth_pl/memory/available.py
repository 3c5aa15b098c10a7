"""The memory that this process may still take, and what it has taken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None

_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
"""Of a control group: the files of limit and use, and the entry of `memory.stat` for cached files,
which give way."""
_MUCH = 2**60  # bytes; limits above are none


@dataclass(frozen=True)
class Available:
    """Memory that may still be taken."""

    size: int
    """Bytes."""
    place: str
    """Whose it is, such as `this machine`."""


def available_memory(device: torch.device) -> Available | None:
    """Return the memory that may still be taken on a device; None if that is not known.

    On a GPU it is what the card has free, and what PyTorch holds unused. On the CPU it is the
    least of what the system has available, swap included, and what the limits of the process's
    control groups (those of a container) and of `ulimit -v` leave.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Available(free + unused, f"the GPU ({torch.cuda.get_device_name(device)})")
    if device.type != "cpu":
        return None
    known = [*_of_system(), *_of_groups(_PROC / "self" / "cgroup", _CGROUPS), *_of_process()]
    return min(known, key=lambda one: one.size, default=None)


def resident_memory() -> tuple[int, int] | None:
    """Return the current and the peak resident memory of this process in bytes, if known."""
    sizes = _entries(_PROC / "self" / "status")
    if "VmRSS" not in sizes:
        return None
    return sizes["VmRSS"] * 1024, sizes["VmHWM"] * 1024


def in_words(size: float) -> str:
    """Return a number of bytes in words.

    >>> in_words(3.5e6), in_words(1.25e9), in_words(2.4e13)
    ('4 MB', '1.2 GB', '24,000 GB')
    """
    if size < 1e9:
        return f"{size / 1e6:.0f} MB"
    return f"{size / 1e9:.1f} GB" if size < 1e11 else f"{size / 1e9:,.0f} GB"


def _of_system() -> Iterator[Available]:
    sizes = _entries(_PROC / "meminfo")
    if "MemAvailable" in sizes:
        kibibytes = sizes["MemAvailable"] + sizes.get("SwapFree", 0)
        yield Available(kibibytes * 1024, "this machine")
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        yield Available(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "this machine")


def _of_groups(membership: Path, root: Path) -> Iterator[Available]:
    """Yield what each limited control group of the process leaves, its own and those above.

    Args:
        membership: the process's file `cgroup`, with lines `NUMBER:CONTROLLERS:PATH`.
        root: where control groups are mounted.
    """
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", maxsplit=2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, files = (root / "memory", _V1) if controllers else (root, _V2)
        group = top / path.lstrip("/")
        # in a container the path may be that of the host, and the container's group on top
        for folder in (group, *group.parents):
            if folder.is_relative_to(top):
                yield from _of_group(folder, files)


def _of_group(folder: Path, files: tuple[str, str, str]) -> Iterator[Available]:
    limit_file, use_file, cached = files
    try:
        limit, use = (int((folder / name).read_text()) for name in (limit_file, use_file))
    except (OSError, ValueError):  # no such folder, or `max` for no limit
        return
    if limit < _MUCH:
        left = limit - use + _entries(folder / "memory.stat").get(cached, 0)
        yield Available(max(left, 0), "this container or control group")


def _of_process() -> Iterator[Available]:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0] if resource else -1
    sizes = _entries(_PROC / "self" / "status")
    if resource and limit != resource.RLIM_INFINITY and "VmSize" in sizes:
        yield Available(max(limit - sizes["VmSize"] * 1024, 0), "this process (ulimit -v)")


def _entries(path: Path) -> dict[str, int]:
    """Return the numbers of a file with lines `NAME: NUMBER` or `NAME NUMBER`; none without it."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.replace(":", " ").split()[:2] for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
