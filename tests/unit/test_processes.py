"""What a failed process of a run tells, and which process is the first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist
from lightning.fabric.utilities.rank_zero import rank_zero_only

from dreambooth_pl.errors import UserError
from dreambooth_pl.runs.processes import Failure, OtherProcesses, is_first


@pytest.mark.parametrize(
    ("error", "message", "kind"),
    [
        (UserError("too big; lower it."), "too big; lower it.", "mistake"),
        (KeyError("unet"), "process 1 failed (KeyError: 'unet').", "traceback"),
        (dist.DistNetworkError("timed out"), "process 1 has lost another one", "lost"),
        (RuntimeError("[gloo] Connection closed by peer"), "process 1 has lost", "lost"),
        (ConnectionResetError("by the hub"), "process 1 failed", "traceback"),
    ],
)
def test_a_failure_is_told_in_one_line(error, message, kind) -> None:
    failure = Failure.of(error, "process 1")
    assert failure.message.startswith(message)
    assert "\n" not in failure.message
    told = {name for name in ("mistake", "lost", "traceback") if getattr(failure, name)}
    assert told == {kind}


@pytest.mark.parametrize(
    ("rank", "machine", "first"),
    [(0, None, True), (0, "0", True), (0, "1", False), (1, "0", False)],
)
def test_the_first_process_is_that_of_rank_0_on_the_first_machine(
    monkeypatch, rank, machine, first
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    monkeypatch.delenv("GROUP_RANK", raising=False)
    monkeypatch.delenv("NODE_RANK", raising=False)
    if machine is not None:
        monkeypatch.setenv("NODE_RANK", machine)
    assert is_first() is first


SLEEPER = "import os, sys, time; time.sleep(float(sys.argv[1])); os._exit(int(sys.argv[2]))"


def watch_three(told: Path) -> None:
    """Watch three processes, of which the second has lost the third, which ends soon after."""

    def failed(failure: Failure) -> None:
        statuses = [process.poll() for process in others._processes]
        told.write_text(json.dumps([failure.message, statuses]))

    others = OtherProcesses(failed)
    with others.starting():
        of = [("60", "0"), ("0.5", "1"), ("1", "3")]
        processes = [subprocess.Popen([sys.executable, "-c", SLEEPER, *each]) for each in of]
    for rank in (1, 2, 3):
        (others._reports / f"{rank}.ready").touch()
    lost = {"message": "process 2 has lost another one", "lost": True}
    (others._reports / "2.json").write_text(json.dumps(lost))
    others.watch(processes)
    time.sleep(60)


def test_the_cause_is_told_and_not_who_misses_it(tmp_path) -> None:
    pid = os.fork()
    if pid == 0:
        watch_three(tmp_path / "told")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    message, statuses = json.loads((tmp_path / "told").read_text())
    assert message == "process 3 ended with status 3."
    assert statuses == [-9, 1, 3]


def test_ending_leaves_nothing() -> None:
    others = OtherProcesses(pytest.fail)
    with others.starting():
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    folder = others._reports
    (folder / "1.ready").touch()
    others.watch([process])
    others.end(KeyboardInterrupt())
    assert process.returncode == -9
    assert not folder.exists()
    assert not [name for name in os.environ if name.startswith("DREAMBOOTH_PL_REPORTS")]
