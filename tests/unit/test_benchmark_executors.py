"""Jobs as processes of this machine: statuses, logs, interruptions, and one benchmark at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreambooth_pl.benchmark import executors
from dreambooth_pl.benchmark.executors import LocalExecutor, Task
from dreambooth_pl.benchmark.lock import locked
from dreambooth_pl.errors import UserError

STAND_IN = """
import os, sys, time
print("said", *sys.argv[1:], flush=True)
print("complained", file=sys.stderr, flush=True)
if sys.argv[1] == "sleep":
    print("pid", os.getpid(), flush=True)
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture()
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in the place of train.py, which takes half a minute to start on a slow machine."""
    assert executors.TRAIN.is_file() and executors.TRAIN.name == "train.py"
    script = tmp_path / "train.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(executors, "TRAIN", script)
    return script


def test_each_task_in_turn_with_its_status_and_log(stand_in, tmp_path) -> None:
    tasks = [Task(f"t{n}", (str(n), "a b"), tmp_path / f"{n}.txt") for n in (0, 3, 0)]
    tasks[2].log.write_text("before\n")
    order: list[tuple[str, object]] = []
    for task, status in LocalExecutor()(tasks, lambda task: order.append(("start", task.name))):
        order.append((task.name, status))
    assert order == [("start", "t0"), ("t0", 0), ("start", "t3"), ("t3", 3)] + order[:2]
    log = sorted(tasks[1].log.read_text().splitlines())
    assert log == ["complained", "said 3 a b"]
    assert tasks[0].log.read_text().startswith("before\n")  # appended to


def test_an_interruption_ends_the_training(stand_in, tmp_path) -> None:
    task = Task("long", ("sleep",), tmp_path / "log.txt")

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 2.0)
        with pytest.raises(KeyboardInterrupt):
            list(LocalExecutor()([task], lambda task: None))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    (pid,) = [line.split()[1] for line in task.log.read_text().splitlines() if "pid" in line]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_one_benchmark_in_a_folder_and_its_trainings_count(tmp_path) -> None:
    folder = tmp_path / "out"
    with locked(folder) as descriptor:
        with pytest.raises(UserError, match="Another benchmark.*--out"), locked(folder):
            pass
        child = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[descriptor]
        )
    with pytest.raises(UserError, match="Another benchmark"), locked(folder):
        pass
    child.kill()
    child.wait()
    time.sleep(0.1)
    with locked(folder):
        pass


def test_a_folder_that_cannot_be_written_to(tmp_path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="Cannot write to .*file/out"),
        locked(tmp_path / "file/out"),
    ):
        pass
