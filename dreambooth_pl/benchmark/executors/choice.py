"""The executor that a benchmark asks for, made and closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from dreambooth_pl.benchmark.executors.call import Executor, Resources
from dreambooth_pl.benchmark.executors.local import AUTO, LocalExecutor, visible_gpus
from dreambooth_pl.benchmark.executors.ray_cluster import connected, fitting_nodes, slots_on
from dreambooth_pl.benchmark.executors.ray_executor import ray_executor
from dreambooth_pl.benchmark.executors.slurm import DEFAULT_SLOTS, SlurmExecutor
from dreambooth_pl.files.folder_lock import leased

LOCAL, RAY, SLURM = "local", "ray", "slurm"
EXECUTORS = (LOCAL, RAY, SLURM)


@dataclass(frozen=True)
class Choice:
    """Where a benchmark's jobs run."""

    executor: str = LOCAL
    """One of `EXECUTORS`."""
    at_once: int | Literal["auto"] | None = None
    """How many jobs run in parallel; None for one on this machine, and for 16 on SLURM."""
    device: str = "auto"
    """What the user asked to compute on."""
    address: str | None = None
    """Of a Ray cluster; None to start Ray on this machine."""
    shared: bool | None = None
    """False if the nodes of a cluster are to use no common folder; None to see for oneself."""
    inputs: Sequence[Path] = ()
    """What jobs read, for nodes that do not share the working directory."""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    """Options of `sbatch`."""


def slots_of(choice: Choice, resources: Resources) -> int:
    """Return how many jobs would run at a time, without running any.

    Raises:
        UserError: there is no such cluster, or nothing in it has what jobs need.
    """
    if choice.executor == RAY and choice.address:
        with connected(choice.address):
            nodes, asked = fitting_nodes(resources)
            return sum(slots_on(node, asked) for node in nodes)
    if choice.at_once and choice.at_once != AUTO:
        return choice.at_once
    return DEFAULT_SLOTS if choice.executor == SLURM else 1


@contextmanager
def chosen(
    choice: Choice, resources: Resources, out: Path, descriptor: int
) -> Iterator[tuple[Executor, str]]:
    """Provide the executor, and say in words where it runs and can be watched.

    Args:
        choice: which one.
        resources: what jobs need.
        out: the benchmark's folder.
        descriptor: of the folder's lock, which processes of this machine keep.
    """
    if choice.executor == RAY:
        with (
            leased(out),
            ray_executor(choice.address, resources, out, choice.inputs, choice.shared) as found,
        ):
            yield found
        return
    if choice.executor == SLURM:
        with leased(out):
            at_once = None if choice.at_once == AUTO else choice.at_once
            yield SlurmExecutor(out, resources, choice.slurm, at_once), "SLURM"
        return
    at_once = choice.at_once or 1
    several = at_once == AUTO or at_once > 1
    count = torch.cuda.device_count() if several and choice.device != "cpu" else 0
    gpus = visible_gpus(count) if count else []
    yield LocalExecutor([descriptor], at_once, resources, gpus), ""
