"""The processes that `train.py` starts for a run's other ranks: watched, and ended together.

The first process answers signals and speaks to the user. A process that it has started tells it how
it has failed by a file. Whichever fails, all end within seconds, and one message says why.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import WriteError, write_json
from dreambooth_pl.stop_signals import Stopped, blocked_signals

_STARTER = "DREAMBOOTH_PL_STARTER"  # environment variable: the first process's id
_REPORTS = "DREAMBOOTH_PL_REPORTS"  # environment variable: the folder for reports and readiness
_LOOK = 0.2  # seconds between two looks at other processes
_CAUSE = 3.0  # seconds in which the process that failed first is told from those that miss it
_END = 5.0  # seconds that a finished process may take to end
_LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|process ?group", re.IGNORECASE)


@dataclass(frozen=True)
class Failure:
    """How a process of a run has failed."""

    message: str
    """For the user, in one line."""
    mistake: bool = False
    """Whether it is a mistake of the user's."""
    lost: bool = False
    """Whether it is only that another process is gone."""
    traceback: str = ""
    """Where it was; empty for a mistake of the user's."""

    @classmethod
    def of(cls, error: BaseException, process: str) -> Failure:
        """Return how a process has failed that an exception has ended.

        Args:
            error: the exception.
            process: the process's name for the user, such as `process 1`.
        """
        if isinstance(error, UserError):
            return cls(str(error), mistake=True)
        what = " ".join(f"{type(error).__name__}: {error}".split())
        if is_lost(error):
            return cls(f"{process} has lost another one ({what}).", lost=True)
        text = "".join(traceback.format_exception(error))
        return cls(f"{process} failed ({what.rstrip(': ')}).", traceback=text)


def is_lost(error: BaseException) -> bool:
    """Return whether an exception says that another process of the run is gone or does not answer.

    >>> is_lost(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
    True
    >>> is_lost(RuntimeError("out of memory"))
    False
    """
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None


def is_started() -> bool:
    """Return whether another process of the run has started this one and watches it."""
    return _STARTER in os.environ


def check_strategy(strategy: Strategy) -> None:
    """Raise UserError for a strategy by which processes cannot train together here.

    Others than DDP split the weights, which checkpoints and adapter files need whole, or start
    processes that cannot be watched.
    """
    one = isinstance(strategy, SingleDeviceStrategy)
    ddp = isinstance(strategy, DDPStrategy)
    if not (one or (ddp and isinstance(strategy.launcher, _SubprocessScriptLauncher))):
        raise UserError(
            f"trainer.strategy: {type(strategy).__name__} is not supported as it is set here. Use "
            "auto or ddp, in which each process holds the whole base."
        )


def is_first() -> bool:
    """Return whether this process has rank 0, also before it has joined the others."""
    machine = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return rank_zero_only.rank == 0 and machine == "0"


@contextmanager
def reporting_to_starter() -> Iterator[None]:
    """Be silent and report how the block ends, in a process that another one has started.

    That process ends with the block, and when the one that has started it is gone. In all other
    processes nothing is done.
    """
    if not is_started():
        yield
        return
    warnings.simplefilter("ignore")  # the first process says the same
    threading.Thread(target=_end_with_starter, daemon=True).start()
    rank, status = os.environ["LOCAL_RANK"], 0
    try:
        yield
    except Stopped:
        pass  # all have stopped
    except BaseException as error:
        status = 1
        failure = Failure.of(error, f"process {rank}")
        with suppress(WriteError, OSError):
            write_json(_report(os.environ[_REPORTS], rank), asdict(failure))
    os._exit(status)  # whatever waits for other processes need not end by itself


class OtherProcesses:
    """The processes that this one has started for a run's other ranks on this machine.

    Args:
        on_failure: called in a thread when one of them has failed, after all have been ended. It
            ends this process, whose main thread may wait for what never comes.
    """

    def __init__(self, on_failure: Callable[[Failure], None]) -> None:
        self._on_failure = on_failure
        self._processes: list[Popen] = []
        self._reports: Path | None = None
        self._over = threading.Lock()  # held by whoever ends the run

    def watch_those_of(self, strategy: Strategy) -> None:
        """Have the strategy start its processes so that they are watched."""
        found = strategy.launcher
        if type(found) is _SubprocessScriptLauncher:
            strategy._launcher = _Launcher(found, self)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Let processes that the block starts know this one. Signals are left to this one.

        Raises:
            UserError: the system's folder for temporary files cannot be written to.
        """
        try:
            self._reports = Path(tempfile.mkdtemp(prefix="dreambooth_pl_"))
        except OSError as error:
            raise UserError(
                f"No folder for temporary files can be made ({error.strerror or error}). Set "
                "TMPDIR to one that can be written to."
            ) from error
        own = {_STARTER: str(os.getpid()), _REPORTS: str(self._reports)}
        os.environ.update(own)
        try:
            with blocked_signals():
                yield
        finally:
            for name in own:
                del os.environ[name]

    def watch(self, processes: list[Popen]) -> None:
        """Watch processes from now on, and wait until they are ready to join this one."""
        self._processes = processes
        threading.Thread(target=self._watch, daemon=True).start()
        ranks = range(1, len(processes) + 1)
        while not all(_ready(self._reports, rank).exists() for rank in ranks):
            time.sleep(_LOOK)

    def end(self, error: BaseException | None = None) -> None:
        """End them all, because the run has come to its end in this process.

        Does not return if it has ended because of them.

        Args:
            error: what has ended it; None if it has finished.
        """
        if self._reports is None:
            return
        if error is not None and is_lost(error):
            time.sleep(_CAUSE)  # the watching thread finds out why, and ends this process
        if not self._over.acquire(blocking=False):
            threading.Event().wait()
        self._end_all(_END if error is None else 0)

    def _watch(self) -> None:
        while not any(process.poll() for process in self._processes):
            if self._over.locked() or all(p.poll() == 0 for p in self._processes):
                return
            time.sleep(_LOOK)
        failure = self._cause()
        if self._over.acquire(blocking=False):
            try:
                self._end_all()
                self._on_failure(failure)
            finally:  # the main thread may wait for this
                os._exit(1)

    def _cause(self) -> Failure:
        """Return why the first of them has failed; those that only miss it take their time."""
        end = time.monotonic() + _CAUSE / 2
        while True:
            failures = [
                self._failure(rank, process.returncode)
                for rank, process in enumerate(self._processes, start=1)
                if process.poll()
            ]
            first = min(failures, key=lambda failure: failure.lost)
            if not first.lost or time.monotonic() > end:
                return first
            time.sleep(_LOOK)

    def _failure(self, rank: int, status: int) -> Failure:
        with suppress(OSError, ValueError, TypeError):
            return Failure(**json.loads(_report(self._reports, rank).read_text(encoding="utf-8")))
        if status > 0:
            return Failure(f"process {rank} ended with status {status}.")
        name = signal.Signals(-status).name
        memory = " The system does that where memory runs out." if name == "SIGKILL" else ""
        return Failure(f"process {rank} was ended by {name}.{memory}")

    def _end_all(self, seconds: float = 0) -> None:
        end = time.monotonic() + seconds
        for process in self._processes:
            with suppress(TimeoutExpired):
                process.wait(max(end - time.monotonic(), 0))
        for process in self._processes:
            process.kill()  # it may hang in a collective, where it does not answer anything else
            process.wait()
        shutil.rmtree(self._reports, ignore_errors=True)


class _Launcher(_SubprocessScriptLauncher):
    """Lightning's, without its own observer, which ends the first process without a word."""

    def __init__(self, found: _SubprocessScriptLauncher, others: OtherProcesses) -> None:
        super().__init__(found.cluster_environment, found.num_processes, found.num_nodes)
        self.others = others

    def launch(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        """Start the other processes and call the function; see Lightning."""
        if is_started():
            _ready(os.environ[_REPORTS], os.environ["LOCAL_RANK"]).touch()
        return super().launch(function, *args, **kwargs)

    def _call_children_scripts(self) -> None:
        with self.others.starting():
            super()._call_children_scripts()
        processes, self.procs = self.procs, []  # Lightning's observer looks at what stays there
        self.others.watch(processes)


def _report(folder: Path | str | None, rank: int | str) -> Path:
    return Path(folder or "") / f"{rank}.json"


def _ready(folder: Path | str | None, rank: int | str) -> Path:
    return Path(folder or "") / f"{rank}.ready"


def _end_with_starter() -> None:
    while os.name != "posix" or os.getppid() == int(os.environ[_STARTER]):
        time.sleep(_LOOK)
    os._exit(1)
