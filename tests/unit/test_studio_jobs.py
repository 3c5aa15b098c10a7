"""Jobs of the studio: real processes, whose state lies in files alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dreambooth_pl.studio.jobs.job import Job, read_json
from dreambooth_pl.studio.jobs.job_queue import JobQueue
from dreambooth_pl.studio.jobs.run_job import PROCESS
from dreambooth_pl.studio.workspace import Workspace

UNTIL_STOPPED = """
import signal, sys, time
def stop(number, frame):
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("begun", flush=True)
time.sleep(60)
"""
UNTIL_FILE = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)"


@pytest.fixture()
def queue(tmp_path: Path) -> JobQueue:
    workspace = Workspace(tmp_path)
    workspace.make()
    return JobQueue(workspace)


def add(queue: JobQueue, *codes: str, kind: str = "evaluate") -> Job:
    facts = {"run_name": "some"} if kind == "train" else {}
    return queue.add(kind, "a title", lambda _: [("-c", code) for code in codes], facts)


def wait(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for(queue: JobQueue, job: Job, state: str) -> None:
    wait(lambda: queue.state(job) == state)


def test_commands_run_in_order_until_one_fails(queue: JobQueue) -> None:
    good = add(queue, "print('one')", "print('two')")
    wait_for(queue, good, "done")
    assert good.log_lines(9) == ["one", "two"]
    code = "import sys; sys.exit('error: no photos\\nput some there')"
    bad = add(queue, code, "print('never')")
    wait_for(queue, bad, "failed")
    assert bad.mistake() == "no photos put some there"


def test_one_training_at_a_time_and_other_work_beside_it(queue: JobQueue) -> None:
    first, second = (add(queue, UNTIL_FILE, kind="train") for _ in range(2))
    other = add(queue, "print('beside')")
    wait_for(queue, other, "done")
    queue.start_next()
    assert (queue.state(first), queue.state(second)) == ("running", "queued")
    assert first.run == "lightning_logs/some/version_0"
    (queue.workspace.root / "go").touch()
    wait_for(queue, first, "done")
    queue.start_next()
    wait_for(queue, second, "done")


def test_stopping_lets_a_job_save_first_and_takes_waiting_ones_out(queue: JobQueue) -> None:
    running, waiting = (add(queue, UNTIL_STOPPED, kind="train") for _ in range(2))
    wait(lambda: "begun" in running.log_lines(9))
    queue.stop(waiting)
    queue.stop(running)
    queue.stop(running)  # once more must not end it before it has saved
    wait_for(queue, running, "stopped")
    assert "saved" in running.log_lines(9)
    assert queue.state(waiting) == "stopped"
    queue.start_next()
    assert waiting.log_lines(9) == []


def test_a_job_that_is_stopped_before_it_began_never_begins(queue: JobQueue) -> None:
    job = add(queue, "print('begun')", UNTIL_STOPPED)
    queue.stop(job)
    wait_for(queue, job, "stopped")


def test_queue_and_jobs_outlive_the_studio(queue: JobQueue, tmp_path: Path) -> None:
    studio = (
        "import os, pathlib, signal\n"
        "from dreambooth_pl.studio.jobs.job_queue import JobQueue\n"
        "from dreambooth_pl.studio.workspace import Workspace\n"
        f"queue = JobQueue(Workspace(pathlib.Path({str(tmp_path)!r})))\n"
        f"command = lambda _: [('-c', {UNTIL_FILE!r})]\n"
        "for _ in range(2): queue.add('train', 'a title', command, {'run_name': 'some'})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", studio], check=False)
    assert killed.returncode == -signal.SIGKILL
    second, first = queue.jobs("train")
    assert (queue.state(first), queue.state(second)) == ("running", "queued")
    (tmp_path / "go").touch()
    wait_for(queue, first, "done")
    queue.start_next()
    wait_for(queue, second, "done")


def test_a_killed_job_counts_as_stopped_and_makes_room(queue: JobQueue) -> None:
    first = add(queue, UNTIL_FILE, kind="train")
    wait(lambda: (first.folder / PROCESS).exists())
    os.killpg(read_json(first.folder / PROCESS)["pid"], signal.SIGKILL)
    wait_for(queue, first, "stopped")
    (queue.workspace.root / "go").touch()
    wait_for(queue, add(queue, UNTIL_FILE, kind="train"), "done")


def test_damaged_records_are_passed_over(queue: JobQueue) -> None:
    job = add(queue, "print(1)")
    (queue.workspace.jobs / "00002").mkdir()
    (queue.workspace.jobs / "00002/job.json").write_text("{")
    assert [one.number for one in queue.jobs()] == [job.number]
    assert add(queue, "print(2)").number == 3
