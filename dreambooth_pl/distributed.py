"""What the processes of a run do together, over `torch.distributed`. One process needs none of it.

A collective of the run's process group fails if a rank comes later than the group's timeout allows,
30 minutes by default. Generating and scoring images may take longer. So ranks that wait for images
wait in a group of their own, without a limit, and in short steps, so that signals are answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

_STEP = 0.02  # seconds between two looks at whether all have come
_NO_LIMIT = timedelta(days=365)
T = TypeVar("T")

_groups: dict[dist.ProcessGroup, dist.ProcessGroup] = {}
"""The group to wait in, by the run's process group."""


def count() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if _together() else 1


def rank() -> int:
    """Return this process's rank among them."""
    return dist.get_rank() if _together() else 0


def open_waiting_group() -> None:
    """Make the group that ranks wait in. All ranks call this while none of them is behind."""
    if _together() and dist.group.WORLD not in _groups:
        group = dist.new_group(backend="gloo", timeout=_NO_LIMIT)
        _groups.clear()
        _groups[dist.group.WORLD] = group


def wait() -> None:
    """Wait until all ranks have called this, however long it takes.

    Raises:
        RuntimeError: the connection to another rank is lost.
    """
    if count() == 1:
        return
    work = dist.barrier(group=_waiting_group(), async_op=True)
    while not work.is_completed():
        time.sleep(_STEP)
    work.wait()


def from_first(make: Callable[[], T]) -> T:
    """Return on all ranks what `make` returns on the first; the others do not call it.

    The value is pickled. The others wait however long it takes.
    """
    if count() == 1:
        return make()
    values = [make() if rank() == 0 else None]
    wait()
    dist.broadcast_object_list(values, src=0, group=_waiting_group())
    return values[0]


def gather(value: T) -> list[T] | None:
    """Return all ranks' values in their order on the first rank, and None on the others.

    The values are pickled. Ranks wait for each other however long it takes.
    """
    if count() == 1:
        return [value]
    values = [value] * count() if rank() == 0 else None
    wait()
    dist.gather_object(value, values, dst=0, group=_waiting_group())
    return values


def mean(values: Tensor) -> Tensor:
    """Return the mean over ranks of a tensor, elementwise."""
    if count() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values / count()


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def _waiting_group() -> dist.ProcessGroup:
    open_waiting_group()
    return _groups[dist.group.WORLD]
