"""The queue of jobs, on disk: one training at a time, and one other job beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dreambooth_pl.files.atomic import write_json
from dreambooth_pl.files.folder_lock import locked
from dreambooth_pl.runs.folder import next_run_folder
from dreambooth_pl.studio.jobs import run_job
from dreambooth_pl.studio.jobs.job import (
    LOG,
    STARTED,
    Job,
    Kind,
    read_job,
    read_json,
    write_job,
)
from dreambooth_pl.studio.jobs.run_job import ENDED, PROCESS, STOPPING
from dreambooth_pl.studio.workspace import Workspace

SECONDS_BETWEEN_LOOKS = 0.5
TRAIN = "train"

_CANCELLED = 128 + signal.SIGTERM
_SCRIPT = Path(run_job.__file__)


class JobQueue:
    """Takes jobs, starts them in their order, and stops them.

    Jobs run in processes of their own sessions, which neither the page nor the studio takes along
    when it ends. Only one studio at a time may use a workspace.

    Args:
        workspace: where jobs are kept.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._turn = threading.RLock()
        self._children: list[subprocess.Popen[bytes]] = []

    def jobs(self, *kinds: Kind) -> list[Job]:
        """Return all jobs of these kinds, of any kind if none is given; the newest come first."""
        found = []
        for folder in self.workspace.jobs.iterdir():
            if folder.name.isdigit() and (job := read_job(folder)):
                found.append(job)
        found.sort(key=lambda job: -job.number)
        return [job for job in found if not kinds or job.kind in kinds]

    def state(self, job: Job) -> str:
        """Return a job's state; asked through the queue, so as not to meet a job that starts."""
        with self._turn:
            return job.state()

    def add(
        self,
        kind: Kind,
        title: str,
        commands: Callable[[Path], Sequence[Sequence[str]]],
        facts: dict[str, Any] | None = None,
    ) -> Job:
        """Queue a job.

        Args:
            kind: what it is.
            title: for people.
            commands: returns the commands, given the job's own folder.
            facts: settings to remember.
        """
        folder = self._new_folder()
        job = write_job(folder, kind, title, commands(folder), facts or {})
        self.start_next()
        return job

    def stop(self, job: Job) -> None:
        """Ask a running job to stop, once; take one that waits out of the queue."""
        with self._turn:
            state = job.state()
            if state == "queued":
                write_json(job.folder / ENDED, {"status": _CANCELLED, "time": time.time()})
            elif state == "running" and not is_stopping(job):  # a second signal ends it at once
                write_json(job.folder / STOPPING, {"time": time.time()})
                pid = read_json(job.folder / PROCESS).get("pid")
                if pid is not None:  # else it has not begun, and will find the request
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(pid, signal.SIGTERM)

    def start_next(self) -> None:
        """Start what waits, as far as there is room: one training and one other job at a time."""
        with self._turn:
            self._children = [child for child in self._children if child.poll() is None]
            states = [(job, job.state()) for job in reversed(self.jobs())]
            for training in (True, False):
                lane = [(job, s) for job, s in states if (job.kind == TRAIN) == training]
                waiting = [job for job, state in lane if state == "queued"]
                if waiting and all(state != "running" for _, state in lane):
                    self._start(waiting[0])

    def keep_starting(self, ended: threading.Event) -> None:
        """Start waiting jobs until the event is set; for a thread of the studio."""
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            with suppress(OSError):  # a full disk must not end the queue
                self.start_next()

    def _new_folder(self) -> Path:
        with self._turn:
            numbers = [int(f.name) for f in self.workspace.jobs.iterdir() if f.name.isdigit()]
            folder = self.workspace.jobs / f"{max(numbers, default=0) + 1:05d}"
            folder.mkdir()
            return folder

    def _start(self, job: Job) -> None:
        run = job.run
        if job.kind == TRAIN and run is None:  # the folder that train.py takes in a moment
            root = self.workspace.root
            run = str(next_run_folder(root, job.facts["run_name"]).relative_to(root))
        with locked(job.folder) as lock, (job.folder / LOG).open("ab") as log:
            write_json(job.folder / STARTED, {"run": run, "time": time.time()})
            process = subprocess.Popen(
                [sys.executable, str(_SCRIPT), str(job.folder.absolute()), str(lock)],
                cwd=self.workspace.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )
        self._children.append(process)


def is_stopping(job: Job) -> bool:
    """Return whether a job was asked to stop."""
    return (job.folder / STOPPING).exists()
