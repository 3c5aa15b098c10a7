"""Script calls as tasks of a Ray cluster."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dreambooth_pl
from dreambooth_pl.benchmark.executors import ray_node
from dreambooth_pl.benchmark.executors.attempt import LOST, MEMORY, SECONDS_TO_STOP, cause
from dreambooth_pl.benchmark.executors.call import Resources, ScriptCall, Watch
from dreambooth_pl.benchmark.executors.parcel import files_in, pack, unpack
from dreambooth_pl.benchmark.executors.ray_cluster import (
    alive_nodes,
    check_nodes,
    clean,
    connected,
    fitting_nodes,
    new_queue,
    passed_on,
    slots_on,
)
from dreambooth_pl.benchmark.executors.retries import Retries
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import write_text

_SECONDS_BETWEEN_LOOKS = 0.5
_MOST_GB = 4  # of files that are sent to each node
_AHEAD = 64  # calls that wait in Ray beyond those that run, so that new nodes find some


class RayExecutor:
    """Runs each call as a Ray task, which runs the script as a process of its own.

    A call whose node or worker is lost, or that runs out of memory, is another call the next time:
    it goes on from a checkpoint, or has half the batch. Ray's own retries repeat a task as it was,
    so tasks have none, and the executor submits the call anew.

    Args:
        project: as `ray_node.run` takes it.
        asked: what a call asks of a node, in Ray's names.
        inputs: archive of what all calls read, in Ray's store, which sends it once to a node; None
            if all nodes share the benchmark's folder.
    """

    def __init__(
        self, project: dict[str, Any], asked: dict[str, float], inputs: Any | None = None
    ) -> None:
        self.project = project
        self.asked = asked
        self.inputs = inputs

    @property
    def slots(self) -> int:
        """How many calls run at a time on the nodes that are there now."""
        return max(1, sum(slots_on(node, self.asked) for node in alive_nodes()))

    def __call__(
        self, calls: Sequence[ScriptCall], watch: Watch
    ) -> Iterator[tuple[ScriptCall, int]]:
        """Run the calls; see `Executor`. An interruption cancels those that run."""
        import ray

        queue = new_queue()
        task = ray.remote(
            num_cpus=self.asked["CPU"],
            num_gpus=self.asked["GPU"],
            memory=self.asked.get("memory"),
            max_retries=0,
        )(ray_node.run)
        waiting = deque(calls)
        running: dict[Any, ScriptCall] = {}
        retries = Retries()
        try:
            while waiting or running:
                window = self.slots + _AHEAD
                while waiting and len(running) < window:
                    call = waiting.popleft()
                    state = None if self.inputs is None else _state(call)
                    ref = task.remote(self.project, _told(call), queue, self.inputs, state)
                    running[ref] = call
                ray.wait(list(running), timeout=_SECONDS_BETWEEN_LOOKS)  # until one has ended
                ended, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
                self._hear(queue, running, watch)
                watch.look()
                for ref in ended:
                    call = running.pop(ref)
                    status, why = self._outcome(ref)
                    again = retries.after(call, why) if status else None
                    if again is None:
                        yield call, status
                    else:
                        watch.retried(*again)
                        waiting.appendleft(again[0])
        finally:
            self._cancel(list(running))
            with suppress(ray.exceptions.RayError):
                self._hear(queue, running, watch)  # what cancelled calls have saved
                queue.shutdown(force=True)

    def _outcome(self, ref: Any) -> tuple[int, str]:
        """Return the exit status of a call that has ended, and why it failed if it did."""
        import ray

        try:
            found = ray.get(ref)
        except ray.exceptions.OutOfMemoryError:  # Ray has ended the call to save its node
            return 1, MEMORY
        except ray.exceptions.RayTaskError as error:
            raise UserError(f"A node could not run a call: {error.cause}") from error
        except ray.exceptions.RayError:  # the node, the worker or what it had
            return 1, LOST
        if "problem" in found:  # of a node that has joined since
            raise UserError(found["problem"])
        if "files" in found:
            unpack(found["files"], Path.cwd())
        status = found["status"]
        return status, cause(status, found["said"]) if status else ""

    def _hear(self, queue: Any, by_ref: dict[Any, ScriptCall], watch: Watch) -> None:
        """Pass on what nodes have told."""
        running = {call.name: call for call in by_ref.values()}
        count = queue.qsize()
        for what, name, *rest in queue.get_nowait_batch(count) if count else ():
            if name not in running:
                continue
            if what == "started":
                watch.started(running[name], *rest)
            elif what == "files":
                unpack(rest[0], Path.cwd())
            elif what == "log":
                with running[name].log.open("ab") as log:
                    log.write(rest[0])

    def _cancel(self, refs: list[Any]) -> None:
        """End calls, and wait until they have: trainings save a checkpoint first."""
        import ray

        with suppress(ray.exceptions.RayError):
            for ref in refs:
                ray.cancel(ref)
            if refs:
                ray.wait(refs, num_returns=len(refs), timeout=SECONDS_TO_STOP + 5)


def _told(call: ScriptCall) -> dict[str, Any]:
    """Return a call as a node takes it."""
    return {
        "name": call.name,
        "script": call.script,
        "arguments": list(call.arguments),
        "runs": call.runs and str(call.runs),
        "log": str(call.log),
        "outputs": [str(path) for path in call.outputs],
        "threads": call.resources.threads or 1,
    }


def _state(call: ScriptCall) -> bytes:
    """Return an archive of what a call reads or goes on with, for a node that has none of it."""
    begun = call.begun()
    written = [begun] if begun else [] if call.runs else call.outputs
    own = (Path.cwd() / path for path in (*call.inputs, *written))
    return pack(Path.cwd(), (path for path in files_in(own) if path.is_file()))


@contextmanager
def ray_executor(
    address: str | None,
    resources: Resources,
    out: Path,
    inputs: Sequence[Path] = (),
    shared: bool | None = None,
) -> Iterator[tuple[RayExecutor, str]]:
    """Provide an executor on a cluster whose nodes are fit, and say in words where it is.

    Args:
        address: as `ray_cluster.connected` takes it.
        resources: what a call needs.
        out: the benchmark's folder.
        inputs: files and folders that all calls read, for nodes that do not share the working
            directory. Each is below it.
        shared: False to use no common folder even if there is one; None to see for oneself.

    Raises:
        UserError: there is no such cluster, nothing in it has what calls need, its nodes are not
            fit, or they share no folder and a path lies outside the working directory.
    """
    token = out / f".token-{secrets.token_hex(4)}"
    shown = secrets.token_hex(8)
    package = Path(dreambooth_pl.__file__).parent
    project = {
        "source": ray_node.source_digest(package),
        "token": "" if shared is False else str(token.absolute()),
        "scratch": f"{out.name}-{secrets.token_hex(4)}",
        "shown": shown,
        "folder": str(Path.cwd()),
        "environment": passed_on(),
    }
    with connected(address) as where:
        write_text(token, shown)
        try:
            nodes, asked = fitting_nodes(resources)
            if not asked["GPU"]:
                project["environment"]["CUDA_VISIBLE_DEVICES"] = ""
            if check_nodes(nodes, project):
                yield RayExecutor(project, asked), where
            else:
                yield RayExecutor(project, asked, _put(inputs, out)), where
                clean(alive_nodes(), project["scratch"])
        finally:
            token.unlink(missing_ok=True)


def _put(inputs: Sequence[Path], out: Path) -> Any:
    """Put what all calls read into Ray's store."""
    import ray

    here = Path.cwd()
    for path in (out, *inputs):
        if path.is_absolute() or ".." in path.parts:
            raise UserError(
                f"Not all nodes share {here} with this machine, so files have to be sent, and "
                f"{path} lies outside it. Name it by a path within."
            )
    files = [file for file in files_in(here / path for path in inputs)]
    size = sum(file.stat().st_size for file in files) / 2**30
    if size > _MOST_GB:
        largest = max(inputs, key=lambda path: sum(f.stat().st_size for f in files_in([path])))
        raise UserError(
            f"Not all nodes share {here} with this machine, and {size:.0f} GB would have to be "
            f"sent, most of it {largest}. Copy that to all nodes, and name it by its absolute path."
        )
    return ray.put(pack(here, files))
