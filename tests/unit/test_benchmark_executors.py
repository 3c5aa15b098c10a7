"""Jobs as processes of this machine: statuses, logs, interruptions, and one benchmark at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreambooth_pl.benchmark.executors import call
from dreambooth_pl.benchmark.executors.call import Resources, ScriptCall
from dreambooth_pl.benchmark.executors.local import LocalExecutor, visible_gpus
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.folder_lock import locked, taking_turns
from dreambooth_pl.stop_signals import STOP

STAND_IN = """
import os, signal, sys, time
print("said", *sys.argv[1:], flush=True)
print("complained", file=sys.stderr, flush=True)
if sys.argv[1] == "busy":
    signal.signal(signal.SIGTERM, lambda *_: print("busy", flush=True))
if sys.argv[1] in ("sleep", "busy"):
    print("pid", os.getpid(), flush=True)
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


class Told:
    """Notes what an executor tells."""

    def __init__(self, order: list[tuple[str, object]] | None = None) -> None:
        self.order = [] if order is None else order
        self.where: list[str] = []

    def started(self, task: ScriptCall, where: str = "") -> None:
        self.order.append(("start", task.name))
        self.where.append(where)

    def retried(self, task: ScriptCall, why: str) -> None:
        self.order.append(("retry", task.name))

    def look(self) -> None:
        pass


@pytest.fixture()
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in the place of train.py, which takes half a minute to start on a slow machine."""
    assert (call.ROOT / ScriptCall("any", (), tmp_path).script).is_file()
    script = tmp_path / "train.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(call, "ROOT", tmp_path)
    return script


def test_each_task_in_turn_with_its_status_and_log(stand_in, tmp_path) -> None:
    tasks = [ScriptCall(f"t{n}", (str(n), "a b"), tmp_path / f"{n}.txt") for n in (0, 3, 0)]
    tasks[2].log.write_text("before\n")
    order: list[tuple[str, object]] = []
    for task, status in LocalExecutor()(tasks, Told(order)):
        order.append((task.name, status))
    assert order == [("start", "t0"), ("t0", 0), ("start", "t3"), ("t3", 3)] + order[:2]
    log = sorted(tasks[1].log.read_text().splitlines())
    assert log == ["complained", "said 3 a b"]
    assert tasks[0].log.read_text().startswith("before\n")  # appended to


def test_tasks_beside_each_other_share_the_cores(tmp_path, monkeypatch) -> None:
    """Each waits for the other's file: one after the other would wait forever."""
    script = tmp_path / "train.py"
    script.write_text(
        "import os, pathlib, sys, time\n"
        "own, other = map(pathlib.Path, sys.argv[1:])\n"
        "own.touch()\n"
        "end = time.monotonic() + 60\n"
        "while not other.exists() and time.monotonic() < end: time.sleep(0.05)\n"
        "print('threads', os.environ['OMP_NUM_THREADS'])\n"
        "sys.exit(0 if other.exists() else 1)\n"
    )
    monkeypatch.setattr(call, "ROOT", tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    files = [str(tmp_path / name) for name in "ab"]
    tasks = [
        ScriptCall(name, tuple(order), tmp_path / f"{name}.txt")
        for name, order in (("first", files), ("second", files[::-1]))
    ]
    told = Told()
    ended = dict(LocalExecutor(at_once=2)(tasks, told))
    assert told.order == [("start", "first"), ("start", "second")]
    assert {task.name: status for task, status in ended.items()} == {"first": 0, "second": 0}
    threads = tasks[0].log.read_text().split()[1]
    assert int(threads) == max(1, len(os.sched_getaffinity(0)) // 2)


def test_an_interruption_ends_the_training(stand_in, tmp_path) -> None:
    task = ScriptCall("long", ("sleep",), tmp_path / "log.txt")

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 2.0)
        with pytest.raises(KeyboardInterrupt):
            list(LocalExecutor()([task], Told()))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    (pid,) = [line.split()[1] for line in task.log.read_text().splitlines() if "pid" in line]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_a_second_signal_ends_a_busy_training_at_once(stand_in, tmp_path) -> None:
    task = ScriptCall("long", ("busy",), tmp_path / "log.txt")

    def wait_for(text: str) -> str:
        end = time.monotonic() + 20
        while not task.log.exists() or text not in task.log.read_text():
            assert time.monotonic() < end, f"never said {text}"
            time.sleep(0.02)
        return task.log.read_text()

    benchmark = os.fork()
    if benchmark == 0:
        try:
            with STOP.handled():
                list(LocalExecutor()([task], Told()))
        finally:
            os._exit(0)
    training = int(wait_for("pid").split("pid ")[1].split()[0])
    os.kill(benchmark, signal.SIGTERM)
    wait_for("\nbusy\n")  # the signal has been passed on
    os.kill(benchmark, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(benchmark, 0)[1]) == 143
    end = time.monotonic() + 20
    while Path(f"/proc/{training}/cmdline").exists() and time.monotonic() < end:
        time.sleep(0.02)
    with pytest.raises(ProcessLookupError):
        os.kill(training, 0)


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


def test_drawing_class_images_takes_turns(tmp_path) -> None:
    hold = (
        "import sys, time, pathlib\n"
        "from dreambooth_pl.files.folder_lock import taking_turns\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with taking_turns(folder):\n"
        "    (folder / 'began').touch(); time.sleep(1.5); (folder / 'ended').touch()\n"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)]) as child:
        while not (tmp_path / "began").exists():
            assert child.poll() is None
            time.sleep(0.02)
        with taking_turns(tmp_path):
            assert (tmp_path / "ended").exists()


def test_a_folder_that_cannot_be_written_to(tmp_path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="Cannot write to .*file/out"),
        locked(tmp_path / "file/out"),
    ):
        pass


def test_each_slot_has_its_card_and_its_share_of_the_cores(tmp_path, monkeypatch) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import os, time\n"
        "time.sleep(0.3)\n"
        "print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'])\n"
    )
    monkeypatch.setattr(call, "ROOT", tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-a")
    gpus = visible_gpus(2)
    tasks = [ScriptCall(f"t{n}", (), tmp_path / f"{n}.txt") for n in range(4)]
    told = Told()
    executor = LocalExecutor(at_once=4, resources=Resources(cpus=3.5), gpus=gpus)
    assert all(status == 0 for _, status in executor(tasks, told))
    assert told.where == ["GPU 5", "GPU GPU-a"] * 2
    assert [task.log.read_text().split() for task in tasks] == [["5", "3"], ["GPU-a", "3"]] * 2
    quarters = LocalExecutor(at_once="auto", resources=Resources(gpus=0.25), gpus=gpus)
    pairs = LocalExecutor(at_once="auto", resources=Resources(gpus=2), gpus=[*gpus, "6", "7"])
    assert (quarters.slots, pairs.slots) == (8, 2)
    assert pairs._environment(1)["CUDA_VISIBLE_DEVICES"] == "6,7"


def test_auto_opens_slots_by_the_memory_that_the_first_call_took(tmp_path, monkeypatch) -> None:
    script = tmp_path / "train.py"
    script.write_text("import time\nheld = bytearray(300 << 20)\ntime.sleep(1.5)\n")
    monkeypatch.setattr(call, "ROOT", tmp_path)
    monkeypatch.setattr("dreambooth_pl.benchmark.executors.local.cores", lambda: 64)
    monkeypatch.setattr("dreambooth_pl.benchmark.executors.local.free_memory_gb", lambda: 1.2)
    executor = LocalExecutor(at_once="auto")
    assert executor.slots == 1
    tasks = [ScriptCall(name, (), tmp_path / f"{name}.txt") for name in "ab"]
    assert [status for _, status in executor(tasks[:1], Told())] == [0]
    assert executor.slots == 3  # of about 0.3 GiB, with a tenth to spare


def test_a_call_without_memory_starts_anew_with_half_the_batch(tmp_path, monkeypatch) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import sys\n"
        "print(*sys.argv[1:])\n"
        "if '--data.batch_size=2' not in sys.argv:\n"
        "    sys.exit('torch.OutOfMemoryError: CUDA out of memory.')\n"
    )
    monkeypatch.setattr(call, "ROOT", tmp_path)
    run = tmp_path / "lightning_logs/name/version_0"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    task = ScriptCall("job", ("fit",), tmp_path / "log.txt", runs=tmp_path, batch=(8, 1))
    told = Told()
    ((ended, status),) = LocalExecutor()([task], told)
    assert (ended.name, status) == ("job", 0)
    assert [what for what, _ in told.order] == ["start", "retry", "start", "retry", "start"]
    lines = [line for line in task.log.read_text().splitlines() if line.startswith("fit")]
    accumulated = "--data.batch_size=2 --trainer.accumulate_grad_batches=4"
    assert lines[0] == f"fit --resume {run}"
    assert lines[1].endswith("--data.batch_size=4 --trainer.accumulate_grad_batches=2")
    assert lines[2].endswith(accumulated)  # 2 x 4 samples a step, as 8 x 1
    odd = ScriptCall("odd", ("fit",), tmp_path / "odd.txt", batch=(3, 1))
    told = Told()
    assert [status for _, status in LocalExecutor()([odd], told)] == [1]
    assert told.order == [("start", "odd")]
