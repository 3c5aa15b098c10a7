"""Where a benchmark's calls stand, in one line and one file."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from dreambooth_pl.benchmark.executors.call import ScriptCall
from dreambooth_pl.benchmark.status import STATUS, Board, State, Status, described, read_status
from dreambooth_pl.commands.benchmark import main
from dreambooth_pl.errors import UserError
from dreambooth_pl.progress import ProgressReporter


def test_speed_and_time_left_by_hand() -> None:
    calls = {
        "done": State("a", "done", "node-1", step=100, steps=100),
        "resumed": State("b", "running", "node-2", retries=2, step=60, steps=100, first=40),
        "waits": State("c", steps=100),
        "broke": State("d", "failed", step=30, steps=100),
    }
    status = Status("training", began=1000.0, updated=1075.0, calls=calls)
    assert status.rate == pytest.approx((100 + 20 + 30) / 75)
    assert status.seconds_left == pytest.approx((40 + 100) / 2)
    assert status.summary() == (
        "1 waiting, 1 running, 1 done, 1 failed, 2 retried, 2.0 steps/s in all, 1:10 left"
    )
    lines = described(status, now=1080.0)
    assert lines[1] == f"at work, process {status.pid} on {status.host}"
    assert "running: resumed on node-2, step 60 of 100" in lines
    assert "failed: broke; its log is d" in lines
    assert "was last heard of 10:00 ago" in described(status, now=1675.0)[1]


def test_without_steps_the_calls_tell_the_time_left() -> None:
    calls = {"a": State("log", "done"), **{name: State("log") for name in "bcd"}}
    status = Status("generating images", began=0.0, updated=10.0, calls=calls)
    assert status.seconds_left == pytest.approx(30.0)


def test_a_board_from_start_to_end_and_its_file(tmp_path: Path) -> None:
    run = tmp_path / "a/lightning_logs/name/version_0"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    logs = {name: tmp_path / f"{name}.txt" for name in "ab"}
    logs["a"].write_text("training 40/100, 0:10 left, 2.0 steps/s\n")
    calls = [
        ScriptCall("a", (), logs["a"], runs=tmp_path / "a"),
        ScriptCall("b", (), logs["b"], runs=tmp_path / "b"),
    ]
    said = io.StringIO()
    steps = {"a": 100, "b": 100}
    board = Board("training", calls, ProgressReporter(said), tmp_path / STATUS, "Ray", steps)
    with board.shown():
        board.started(calls[0], "node-1")
        logs["a"].write_text("training 40/100, 0:10 left\ntraining 70/100, 0:05 left\n")
        board._looked = 0.0  # some time has passed
        board.look()
        state = read_status(tmp_path).calls["a"]
        assert (state.state, state.where, state.first, state.step) == ("running", "node-1", 40, 70)
        board.retried(calls[0], "its node was lost")
        board.started(calls[0], "node-2")
        board.ended(calls[0], failed=False)
        board.started(calls[1], "node-2")
        board.ended(calls[1], failed=True)
    status = read_status(tmp_path)
    assert status.ended and status.where == "Ray"
    assert [call.state for call in status.calls.values()] == ["done", "failed"]
    assert status.calls["a"].retries == 1 and status.calls["a"].step == 100
    text = said.getvalue()
    assert f"job 1 of 2: a goes on in {run} on node-1; its log is {logs['a']}" in text
    assert "job a on node-1 is tried again: its node was lost" in text
    assert "job 2 of 2: b starts on node-2" in text


def test_status_from_another_shell(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = tmp_path / "one.yaml"
    config.write_text(f"configs: [{config}]\nvariants: [{{name: a}}]\n")
    words = ["--config", str(config), "--out", str(tmp_path), "--status"]
    assert main(words) == 1
    assert "no benchmark has begun in" in capsys.readouterr().err
    board = Board(
        "training", [ScriptCall("a", (), tmp_path)], ProgressReporter(), tmp_path / STATUS
    )
    with board.shown():
        assert main(words) == 0
        assert capsys.readouterr().out.startswith("training: 1 waiting, 0 running")
    content = json.loads((tmp_path / STATUS).read_text())
    assert time.time() - content["updated"] < 60
    (tmp_path / STATUS).write_text(json.dumps(content | {"calls": 3}))
    with pytest.raises(UserError, match="cannot be read as a status"):
        read_status(tmp_path)
