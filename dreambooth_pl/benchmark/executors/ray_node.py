"""What happens on a node of a Ray cluster: it is examined, and runs calls.

Nodes get this module by value: one may lack the package, or have another version of it.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from dreambooth_pl.benchmark.executors.attempt import attempt_words, kill, start, stop, tail
from dreambooth_pl.benchmark.executors.parcel import Changes, pack, unpack
from dreambooth_pl.files.lease import Lease

PACKAGE = "dreambooth_pl"
_SCRIPT = "train.py"  # one of those beside the package
_LEASE = ".lease"  # in a job's folder
_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_BETWEEN_NEWS = 2.0
_digests: dict[tuple, str] = {}  # of the project's source, while its files stay as they are


def source_digest(package: Path) -> str:
    """Return a hash of the project's source: the package and the scripts beside it."""
    files = [*package.rglob("*.py"), *package.rglob("*.yaml"), *package.parent.glob("*.py")]
    found = [file.stat() for file in files]
    stamp = (package, *sorted((one.st_ino, one.st_mtime_ns, one.st_size) for one in found))
    if stamp not in _digests:  # a worker runs many calls
        digest = sha256()
        for path in sorted(files, key=lambda file: file.relative_to(package.parent).as_posix()):
            digest.update(path.relative_to(package.parent).as_posix().encode())
            digest.update(path.read_bytes())
        _digests.clear()
        _digests[stamp] = digest.hexdigest()[:16]
    return _digests[stamp]


def examine(project: dict[str, Any]) -> dict[str, Any]:
    """Return what a node has, for whoever decides whether it is fit.

    Args:
        project: the benchmark's own `source`, and `token` and `shown`, a file of its folder with
            what that holds.

    Returns:
        `host`, and `problem`, a sentence or None; `sees`, whether it shares the benchmark's folder.
    """
    node = platform.node()
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        problem = (
            f"{node} has no {PACKAGE}. Install the project there, in the environment that Ray was "
            "started in."
        )
        return {"host": node, "problem": problem, "sees": False}
    package = Path(list(spec.submodule_search_locations)[0])
    problem = None
    if not (package.parent / _SCRIPT).is_file():
        problem = (
            f"{node} has {PACKAGE} without {_SCRIPT}. Install it there with pip install -e, from "
            "the project's folder."
        )
    elif source_digest(package) != project["source"]:
        problem = (
            f"{node} has another version of the project in {package.parent}. Bring all machines to "
            "the same one."
        )
    sees = False
    with suppress(OSError):
        sees = Path(project["token"]).read_text(encoding="utf-8") == project["shown"]
    return {"host": node, "problem": problem, "sees": sees, "root": str(package.parent)}


def run(
    project: dict[str, Any],
    call: dict[str, Any],
    news: Any,
    inputs: bytes | None = None,
    state: bytes | None = None,
) -> dict[str, Any]:
    """Run one call on this node, and stay with it until it ends.

    Args:
        project: as for `examine`, with `folder`, the working directory, `scratch`, the name of a
            folder for nodes that do not share that, and `environment`.
        call: its `name`, `script`, `arguments`, `runs`, `log`, `outputs` and `threads`.
        news: queue for what the benchmark is told: `started`, the name and the machine; without a
            common folder also `log` and `files`, the name and bytes.
        inputs: files that all calls read, for a node without the common folder.
        state: files that this call reads or goes on with, for such a node.

    Returns:
        `status`, the exit status, and `said`, the end of its output; without a common folder
        `files`, what it has written; or `problem`, why the node is not fit to run it.
    """
    found = examine(project)
    problem = found["problem"]
    if not problem and not found["sees"] and inputs is None:
        problem = f"{found['host']} does not share the benchmark's folder, as the other nodes do."
    if problem:
        return {"problem": problem}
    if found["sees"]:
        folder = Path(project["folder"])
    else:
        folder = own_folder(project["scratch"])
        _unpack_once(inputs, folder)
        unpack(state, folder)
    words = attempt_words(call["arguments"], call["runs"], folder)
    command = [sys.executable, str(Path(found["root"]) / call["script"]), *words]
    log = folder / call["log"]
    log.parent.mkdir(parents=True, exist_ok=True)
    log_start = log.stat().st_size if log.exists() else 0
    lease = Lease(folder / call["runs"] / _LEASE) if call["runs"] else None
    if lease is not None:
        lease.seize()
    sender = None if found["sees"] else _Sender(call, folder, log, log_start, news)
    environment = {
        **os.environ,
        **project["environment"],
        "OMP_NUM_THREADS": project["environment"].get("OMP_NUM_THREADS", str(call["threads"])),
    }
    process = start(command, log, environment, folder, dies_with_parent=True)
    try:
        news.put_nowait(("started", call["name"], found["host"]))
        _attend(process, lease, sender)
    finally:  # Ray cancels a call by an interrupt
        if process.poll() is None:
            stop([process])
            if sender is not None:
                sender.send(everything=True)
        if lease is not None:
            lease.release()
    ended = {"status": process.returncode, "said": tail(log, log_start)}
    if sender is not None:
        sender.send_log()
        ended["files"] = sender.changed()
    return ended


def own_folder(name: str) -> Path:
    """Return this node's working directory for a benchmark whose folder it does not share.

    Nodes of one machine, as tests have them, do not share theirs either.
    """
    import ray

    user = os.getuid() if hasattr(os, "getuid") else "user"
    node = ray.get_runtime_context().get_node_id()[:12]
    return Path(tempfile.gettempdir(), f"dreambooth_pl-{user}", f"{name}-{node}")


def forget(name: str) -> None:
    """Remove what a benchmark has left in this node's own folder."""
    shutil.rmtree(own_folder(name), ignore_errors=True)


def _unpack_once(inputs: bytes, folder: Path) -> None:
    """Unpack what all calls read, unless another call of this node has."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    unpack(inputs, temporary)
    try:
        os.rename(temporary, folder)
    except OSError:  # another call was faster
        shutil.rmtree(temporary, ignore_errors=True)


class _Sender:
    """Sends the log and the files of a call to the benchmark while it runs."""

    def __init__(
        self, call: dict[str, Any], folder: Path, log: Path, log_start: int, news: Any
    ) -> None:
        self._name = call["name"]
        self._folder = folder
        self._log, self._sent = log, log_start
        self._news = news
        self._changes = Changes(folder / path for path in call["outputs"])
        self._runs = folder / call["runs"] if call["runs"] else None
        self._checkpoint = self._last_checkpoint()

    def send(self, everything: bool = False) -> None:
        """Send what the log has more; and the files, after a checkpoint or if all are asked for."""
        self.send_log()
        if everything or self._has_checkpoint():
            self._news.put_nowait(("files", self._name, self.changed()))

    def send_log(self) -> None:
        """Send what the log has more."""
        with suppress(OSError), open(self._log, "rb") as file:
            file.seek(self._sent)
            if more := file.read():
                self._sent += len(more)
                self._news.put_nowait(("log", self._name, more))

    def changed(self) -> bytes:
        """Return the files that have changed since they were sent, the log aside."""
        return pack(self._folder, (p for p in self._changes.since_last() if p != self._log))

    def _has_checkpoint(self) -> bool:
        before, self._checkpoint = self._checkpoint, self._last_checkpoint()
        return self._checkpoint != before

    def _last_checkpoint(self) -> int:
        """Return when the training last saved itself; 0 if it never has."""
        if self._runs is None:
            return 0
        found = self._runs.glob("lightning_logs/*/*/checkpoints/last.ckpt")
        return max((path.stat().st_mtime_ns for path in found), default=0)


def _attend(process: subprocess.Popen[bytes], lease: Lease | None, sender: _Sender | None) -> None:
    """Wait until a process ends; kill it if another attempt has taken its place."""
    renewed = told = time.monotonic()
    while process.poll() is None:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        now = time.monotonic()
        if lease is not None and now - renewed > lease.beat:
            renewed = now
            if not lease.renew():
                kill([process])
                process.wait()
        if sender is not None and now - told > _SECONDS_BETWEEN_NEWS:
            told = now
            sender.send()
