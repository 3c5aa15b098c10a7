"""Script calls as an array of SLURM jobs, by submitit."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dreambooth_pl.benchmark.executors.attempt import LOST, cause, kill, start, stop, tail
from dreambooth_pl.benchmark.executors.call import Resources, ScriptCall, Watch
from dreambooth_pl.benchmark.executors.retries import Retries
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import write_json
from dreambooth_pl.files.lease import Lease

INSTALL = 'pip install -c constraints.txt -e ".[slurm]"'
DEFAULT_SLOTS = 16
_JOBS = "slurm.json"  # numbers of the jobs that were submitted, by the call's name
_FOLDER = "slurm"  # submitit's own files
_LEASE = ".lease"
_ARRAY = 1000  # jobs of an array; SLURM's MaxArraySize is 1001 unless its keeper says otherwise
_SECONDS_BETWEEN_LOOKS = 1.0
_running: list[Any] = []  # the process of this job, for the handler of signals


class SlurmCall:
    """What a job runs: a script as a process, which is stopped and saved when the job has to end.

    Args:
        call: the call.
        folder: working directory.
    """

    def __init__(self, call: ScriptCall, folder: Path) -> None:
        self.call = call
        self.folder = folder

    def __call__(self) -> tuple[int, str]:
        """Run the script; return its exit status and the end of its output."""
        os.chdir(self.folder)
        call = self.call
        log_start = call.log.stat().st_size if call.log.exists() else 0
        lease = Lease(call.runs / _LEASE) if call.runs else None
        if lease is not None:
            lease.seize()
        environment = dict(os.environ)
        environment.setdefault("OMP_NUM_THREADS", str(call.resources.threads or 1))
        process = start(call.command(), call.log, environment, dies_with_parent=True)
        _running.append(process)
        _answer_signals()
        try:
            while process.poll() is None:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                if lease is not None and not lease.renew():
                    kill([process])
        finally:
            if process.poll() is None:
                stop([process])
            _running.remove(process)
            if lease is not None:
                lease.release()
        return process.returncode, tail(call.log, log_start)

    def checkpoint(self) -> Any:
        """Let the script save what it has; return what runs when the job is queued again."""
        from submitit.helpers import DelayedSubmission

        stop(_running)
        return DelayedSubmission(self)


def _answer_signals() -> None:
    """Queue again on SIGUSR1 as on submitit's own signal; on SIGTERM save, and leave it to SLURM.

    SLURM sends SIGTERM to a job that it preempts, and queues that again by itself, but also to one
    that its user cancels.
    """
    from submitit.core.job_environment import JobEnvironment

    def end(*_: Any) -> None:
        stop(_running)
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGUSR1, signal.getsignal(JobEnvironment._usr_sig()))
    signal.signal(signal.SIGTERM, end)


class SlurmExecutor:
    """Runs calls as the jobs of an array. Jobs outlive the benchmark; a second start finds them.

    Args:
        out: the benchmark's folder, which all machines share.
        resources: what a call needs; with `minutes`, which SLURM asks for.
        options: further options of `sbatch`, such as `partition`.
        at_once: how many jobs of the array run at a time.
        cluster: submitit's name of it; `local` runs jobs as processes of this machine.
    """

    def __init__(
        self,
        out: Path,
        resources: Resources,
        options: Mapping[str, Any] | None = None,
        at_once: int | None = None,
        cluster: str = "slurm",
    ) -> None:
        _check(resources, cluster)
        import submitit

        self.slots = at_once or DEFAULT_SLOTS
        self._file = out / _JOBS
        self._folder = out / _FOLDER
        self._executor = submitit.AutoExecutor(folder=self._folder, cluster=cluster)
        asked: dict[str, Any] = {
            "timeout_min": int(resources.minutes or 0),
            "cpus_per_task": resources.threads or 1,
            "gpus_per_node": int(resources.gpus or 0),
            "name": "dreambooth_pl",
        }
        if resources.memory_gb and not resources.gpus:
            asked["mem_gb"] = resources.memory_gb
        if cluster == "slurm":
            asked["slurm_array_parallelism"] = self.slots
            asked["slurm_additional_parameters"] = {"requeue": True, **(options or {})}
        self._executor.update_parameters(**asked)

    def __call__(
        self, calls: Sequence[ScriptCall], watch: Watch
    ) -> Iterator[tuple[ScriptCall, int]]:
        """Run the calls; see `Executor`. An interruption cancels the jobs."""
        by_name = {call.name: call for call in calls}
        jobs = self._adopted(by_name)
        self._submit([call for call in calls if call.name not in jobs], jobs)
        seen: set[str] = set()
        retries = Retries()
        try:
            while jobs:
                watch.look()
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                for name, job in list(jobs.items()):
                    done = job.done()
                    if name not in seen and (done or job.state == "RUNNING"):
                        seen.add(name)
                        watch.started(by_name[name], _where(job))
                    if not done:
                        continue
                    del jobs[name]
                    status, why = _outcome(job)
                    again = retries.after(by_name[name], why) if status else None
                    if again is None:
                        self._note(jobs)
                        yield by_name[name], status
                    else:
                        watch.retried(*again)
                        by_name[name] = again[0]
                        seen.discard(name)
                        self._submit([again[0]], jobs)
        finally:
            for job in jobs.values():
                with suppress(OSError, RuntimeError):
                    job.cancel(check=False)

    def _submit(self, calls: Sequence[ScriptCall], jobs: dict[str, Any]) -> None:
        """Submit calls as one array, or as many as their number takes; add them to the jobs."""
        for first in range(0, len(calls), _ARRAY):
            part = calls[first : first + _ARRAY]
            with self._executor.batch():
                new = [self._executor.submit(SlurmCall(call, Path.cwd())) for call in part]
            jobs.update({call.name: job for call, job in zip(part, new, strict=True)})
            self._note(jobs)

    def _note(self, jobs: Mapping[str, Any]) -> None:
        write_json(self._file, {name: job.job_id for name, job in jobs.items()})

    def _adopted(self, by_name: Mapping[str, ScriptCall]) -> dict[str, Any]:
        """Return the jobs of an earlier start that still wait or run."""
        try:
            numbers = json.loads(self._file.read_text(encoding="utf-8"))
            jobs = {
                name: self._executor.job_class(self._folder, number)
                for name, number in numbers.items()
                if name in by_name
            }
        except (OSError, ValueError, AttributeError):
            return {}
        return {name: job for name, job in jobs.items() if not job.done()}


def _check(resources: Resources, cluster: str) -> None:
    if importlib.util.find_spec("submitit") is None:
        raise UserError(f"--executor slurm needs submitit: {INSTALL}")
    if cluster == "slurm" and shutil.which("srun") is None:
        raise UserError("--executor slurm: this machine has no srun. Log in to a node of SLURM's.")
    if resources.minutes is None:
        raise UserError(
            "resources.minutes: is not set; SLURM asks how long a job may take, such as 120."
        )
    if resources.gpus and resources.gpus != int(resources.gpus):
        raise UserError(
            f"resources.gpus: is {resources.gpus}; SLURM gives whole GPUs. Set 1, or run the jobs "
            "with --executor ray, which shares them."
        )


def _outcome(job: Any) -> tuple[int, str]:
    """Return the exit status of a job that has ended, and why it failed if it did."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        status, said = job.result()
    except (FailedJobError, UncompletedJobError):  # its node or its process
        return 1, LOST
    return status, cause(status, said) if status else ""


def _where(job: Any) -> str:
    with suppress(Exception):  # submitit reads the words of sacct
        return job.get_info(mode="cache").get("NodeList") or f"job {job.job_id}"
    return f"job {job.job_id}"
