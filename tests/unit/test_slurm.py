"""Script calls as jobs of submitit, on its executor for one machine: ends, and a requeue."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("submitit", reason="the extra [slurm] is not installed")

from dreambooth_pl.benchmark.executors.call import Resources, ScriptCall
from dreambooth_pl.benchmark.executors.slurm import SlurmExecutor
from dreambooth_pl.errors import UserError

STAND_IN = """
import os, pathlib, signal, sys, time
words = sys.argv[1:]
print(*words, flush=True)
def end(*_):
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
if words == ["fails"]:
    sys.exit("error: trainer.max_steps is -1")
if words == ["long"]:
    run = pathlib.Path("long/lightning_logs/name/version_0")
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    print("pid", os.getppid(), flush=True)
    time.sleep(60)
"""


class Told:
    def __init__(self, log: Path) -> None:
        self.log = log
        self.preempted = False
        self.retried_calls: list[str] = []

    def started(self, call: ScriptCall, where: str = "") -> None:
        assert where

    def retried(self, call: ScriptCall, why: str) -> None:
        self.retried_calls.append(call.name)

    def look(self) -> None:
        """Preempt the long job as soon as it has begun."""
        words = self.log.read_text().split() if self.log.exists() else []
        if "pid" in words and not self.preempted:
            self.preempted = True
            os.kill(int(words[words.index("pid") + 1]), signal.SIGUSR1)


@pytest.fixture()
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", str(root))
    Path("stand_in.py").write_text(STAND_IN)
    return tmp_path


def test_a_preempted_job_is_queued_again_and_resumes(there: Path) -> None:
    calls = []
    for name in ("fails", "long"):
        Path(name).mkdir()
        log = Path(name, "log.txt")
        calls.append(ScriptCall(name, (name,), log, str(there / "stand_in.py"), Path(name)))
    told = Told(calls[1].log)
    executor = SlurmExecutor(there, Resources(minutes=2), cluster="local")
    ended = {call.name: status for call, status in executor(calls, told)}
    assert ended == {"fails": 1, "long": 0}
    assert told.preempted and not told.retried_calls
    lines = calls[1].log.read_text().splitlines()
    assert [line for line in lines if not line.startswith("pid")] == [
        "long",
        "saved",
        "fit --resume long/lightning_logs/name/version_0",
    ]
    assert (there / "slurm.json").read_text() == "{}\n"


def test_what_slurm_asks_for(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="resources.minutes: is not set"):
        SlurmExecutor(there, Resources(), cluster="local")
    with pytest.raises(UserError, match="SLURM gives whole GPUs"):
        SlurmExecutor(there, Resources(minutes=5, gpus=0.25), cluster="local")
    monkeypatch.setenv("PATH", str(there))
    with pytest.raises(UserError, match="this machine has no srun"):
        SlurmExecutor(there, Resources(minutes=5))
