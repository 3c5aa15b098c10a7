"""A Ray cluster to run calls on: found, asked what it has, and left again."""

from __future__ import annotations

import importlib.util
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from dreambooth_pl.benchmark.executors import attempt, parcel, ray_node
from dreambooth_pl.benchmark.executors.call import Resources
from dreambooth_pl.errors import UserError
from dreambooth_pl.files import lease
from dreambooth_pl.stop_signals import STOP

INSTALL = 'pip install -c constraints.txt -e ".[ray]"'
CLIENT = "ray://"
_SECONDS_TO_CONNECT = 5.0
_SECONDS_TO_JOIN = 15.0  # how long nodes may take to join before nobody seems to have what is asked
_SECONDS_TO_ANSWER = 30.0
_BY_VALUE = (attempt, lease, parcel, ray_node)
_HEAD = "node:__internal_head__"  # a resource of the head node, which outlives all others


@contextmanager
def connected(address: str | None) -> Iterator[str]:
    """Connect to Ray while the block runs.

    Args:
        address: `auto` for the cluster that this machine is part of, `HOST:PORT` of its head, or
            `ray://HOST:PORT` from a machine outside; None for `RAY_ADDRESS`, and without that to
            start Ray here.

    Yields:
        Where Ray runs, and its dashboard's address if it has one, in words.

    Raises:
        UserError: Ray is not installed, nobody listens there, or it is of another version.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError(f"--executor ray needs Ray: {INSTALL}")
    import ray
    from ray import cloudpickle

    address = address or os.environ.get("RAY_ADDRESS") or None
    if address not in (None, "auto"):
        _check_listens(address)
    for module in _BY_VALUE:
        cloudpickle.register_pickle_by_value(module)
    try:
        context = ray.init(address or "local", logging_level="ERROR", log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UserError(f"--address {address or 'of this machine'}: {_told(error)}") from error
    try:
        dashboard = getattr(context, "dashboard_url", "")
        where = address if address not in (None, "auto") else context.address_info["address"]
        with STOP.interruptible():  # Ray has put a handler of its own in front
            yield f"Ray at {where}" + (f", dashboard http://{dashboard}" if dashboard else "")
    finally:
        ray.shutdown()
        for module in _BY_VALUE:
            cloudpickle.unregister_pickle_by_value(module)


def alive_nodes() -> list[dict[str, Any]]:
    """Return what Ray knows of the nodes that are part of the cluster now."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def demands(resources: Resources, has_gpus: bool) -> dict[str, float]:
    """Return what a call asks of a node, in Ray's names and units."""
    gpus = resources.gpus if resources.gpus is not None else float(has_gpus)
    asked = {"CPU": resources.cpus or 1.0, "GPU": gpus}
    if resources.memory_gb and not gpus:  # Ray counts the machine's memory, not the cards'
        asked["memory"] = resources.memory_gb * 2**30
    return asked


def slots_on(node: Mapping[str, Any], asked: Mapping[str, float]) -> int:
    """Return how many calls fit on a node at a time.

    >>> slots_on({"Resources": {"CPU": 8.0, "GPU": 1.0}}, {"CPU": 1.0, "GPU": 0.25})
    4
    >>> slots_on({"Resources": {"CPU": 8.0}}, {"CPU": 1.0, "GPU": 1.0})
    0
    """
    has = node["Resources"]
    return int(min(has.get(name, 0.0) / each for name, each in asked.items() if each))


def fitting_nodes(
    resources: Resources, patience: float = _SECONDS_TO_JOIN
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return the nodes that a call fits on, and what it asks of them.

    Args:
        resources: what a call needs.
        patience: seconds to wait for a node that is about to join.

    Raises:
        UserError: there is none.
    """
    deadline = time.monotonic() + patience
    while True:
        nodes = alive_nodes()
        asked = demands(resources, any(node["Resources"].get("GPU") for node in nodes))
        fitting = [node for node in nodes if slots_on(node, asked)]
        if fitting:
            return fitting, asked
        if time.monotonic() > deadline:
            raise UserError(_lacking(nodes, asked))
        time.sleep(0.5)


def _lacking(nodes: list[dict[str, Any]], asked: Mapping[str, float]) -> str:
    names = {"CPU": "cpus", "GPU": "gpus", "memory": "memory_gb"}
    parts = []
    for name, each in asked.items():
        most = max((node["Resources"].get(name, 0.0) for node in nodes), default=0.0)
        unit = 2**30 if name == "memory" else 1
        if each:
            parts.append(f"{names[name]}: {each / unit:g} (the most on a node: {most / unit:g})")
    return (
        f"resources: none of the cluster's {len(nodes)} nodes has {'; '.join(parts)}. Lower what a "
        "job needs, or add such a node first."
    )


def check_nodes(nodes: list[dict[str, Any]], project: Mapping[str, Any]) -> bool:
    """Examine nodes.

    Args:
        nodes: of the cluster.
        project: as `ray_node.examine` takes it.

    Returns:
        Whether all of them share the benchmark's folder.

    Raises:
        UserError: some are not fit to run calls.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    examine = ray.remote(num_cpus=0, max_retries=0)(ray_node.examine)
    asked = {
        examine.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(dict(project)): node["NodeManagerHostname"]
        for node in nodes
    }
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=_SECONDS_TO_ANSWER)
    problems = [f"{asked[one]} does not answer. Look at Ray's logs there." for one in late]
    shared, answers = True, 0
    for one in ready:
        try:
            found = ray.get(one)
            answers += 1
        except (ray.exceptions.TaskUnschedulableError, ray.exceptions.WorkerCrashedError):
            continue  # it has left the cluster; Ray takes a while to notice
        except ray.exceptions.RayError as error:
            problems.append(f"{asked[one]}: {_told(error)}")
            continue
        shared &= found["sees"]
        if found["problem"]:
            problems.append(found["problem"])
    if not (answers or problems):
        problems.append("They have all left the cluster. Start again when some have joined.")
    if problems:
        several = f"{len(problems)} of {len(nodes)} nodes are not fit. " if len(nodes) > 1 else ""
        raise UserError(several + " ".join(dict.fromkeys(problems)))
    return shared


def clean(nodes: list[dict[str, Any]], scratch: str) -> None:
    """Remove what a benchmark has left on nodes that do not share its folder."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    forget = ray.remote(num_cpus=0, max_retries=0)(ray_node.forget)
    with suppress(ray.exceptions.RayError):
        strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
        asked = [forget.options(scheduling_strategy=one).remote(scratch) for one in strategies]
        ray.wait(asked, num_returns=len(asked), timeout=_SECONDS_TO_CONNECT)


def new_queue() -> Any:
    """Return a queue on the head node, through which nodes tell news to the benchmark."""
    from ray.util.queue import Queue

    return Queue(actor_options={"num_cpus": 0, "resources": {_HEAD: 0.001}})


def _check_listens(address: str) -> None:
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(
            f"--address {address}: is no address; give auto, HOST:6379 or ray://HOST:10001."
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT):
            pass
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--address {address}: nobody listens there ({error}). Start Ray on the head node with "
            "ray start --head, which says the address."
        ) from error


def _told(error: BaseException) -> str:
    """Return the line of Ray's message that says most: its last with words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def passed_on() -> dict[str, str]:
    """Return the variables of this process's environment that calls on other machines get."""
    names = ("OMP_NUM_THREADS", "HF_HUB_OFFLINE", "CUBLAS_WORKSPACE_CONFIG")
    prefixes = ("DREAMBOOTH_PL_",)
    return {n: v for n, v in os.environ.items() if n in names or n.startswith(prefixes)}
