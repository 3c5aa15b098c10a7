"""Work done by several processes that are joined by gloo, as ranks of a run are."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["dreambooth_pl.training.module", "training"])


def on_ranks(
    count: int,
    work: Callable[..., Any],
    *args: Any,
    nodes: int = 1,
    timeout: timedelta = timedelta(minutes=5),
) -> list[Any]:
    """Return what `work(*args)` returns on each of `count` ranks.

    Args:
        work: a function of a module's top level.
        nodes: how many machines the ranks take themselves to be on.
        timeout: of their process group.
    """
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("localhost", 0))
        joined = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
        with ProcessPoolExecutor(count, mp_context=_CONTEXT) as pool:
            started = [
                pool.submit(_on_rank, rank, count, nodes, joined, Path(folder), timeout, work, args)
                for rank in range(count)
            ]
            return [each.result() for each in started]


def _on_rank(
    rank: int,
    count: int,
    nodes: int,
    joined: dict[str, str],
    folder: Path,
    timeout: timedelta,
    work: Callable[..., Any],
    args: tuple[Any, ...],
) -> Any:
    node, local_rank = divmod(rank, count // nodes)
    own = {"LOCAL_RANK": local_rank, "NODE_RANK": node, "WORLD_SIZE": count}
    os.environ.update(joined | {name: str(value) for name, value in own.items()})
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), count)
    store.set_timeout(timedelta(minutes=5))  # processes start at different times
    store.set(f"started_{rank}", "")
    store.wait([f"started_{each}" for each in range(count)])
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=timeout)
    return work(*args)
