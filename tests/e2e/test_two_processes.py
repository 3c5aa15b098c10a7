"""`train.py fit` in two processes: how it ends when one of them fails, and when signals stop it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dreambooth_pl.commands import train

SCRIPT = Path(__file__).with_name("two_processes.py")
RUN = Path("lightning_logs/default/version_0")
GO_ON = f"To go on: python train.py fit --resume {RUN}"
PROBES = ["--probe.every_n_steps=4"]
STOPS = {"SIGINT": 130, "SIGHUP": 129}


def fault(rank: int | None, at: str, number: int, does: str) -> dict[str, Any]:
    return {"rank": rank, "at": at, "number": number, "does": does}


CASES = {
    "whole": ([], [None]),
    "stopped": ([], [*(fault(i, "step", 1, name) for i, name in enumerate(STOPS)), None]),
    "waiting": (PROBES, [fault(1, "batch", 2, "slow SIGTERM")]),
    "killed": ([], [fault(1, "batch", 1, "kill")]),
    "first killed": ([], [fault(0, "step", 2, "kill")]),
    "mistake": (PROBES, [fault(1, "batch", 2, "mistake")]),
    "error": ([], [fault(1, "step", 2, "error")]),
    "nan": ([], [fault(1, "step", 2, "nan")]),
}


@pytest.fixture(scope="module")
def ended(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_base_dir: Path,
    write_photos: Callable[[Path], Path],
    fit_command: type,
) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """The folder of all cases, and how each start of each has ended."""
    root = tmp_path_factory.mktemp("two")
    photos = write_photos(tmp_path_factory.mktemp("two") / "photos")
    usual = fit_command(root, tiny_base_dir, photos).arguments(
        sampling__batch_size=2,
        probe__every_n_steps=0,
        checkpoint__every_n_steps=1,
        trainer__max_steps=4,
        trainer__devices=2,
    )[1:]
    lines = [
        json.dumps({"name": name, "arguments": [*usual, *more], "faults": faults})
        for name, (more, faults) in CASES.items()
    ]
    tried = subprocess.run(
        [sys.executable, str(SCRIPT), str(root)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode == 0, tried.stderr
    starts: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    for line in tried.stdout.splitlines():
        start = json.loads(line)
        starts[start["name"]].append(start)
    return root, starts


def outcome(run: Path) -> tuple[Any, ...]:
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    moments = [
        (name, value.tolist())
        for own in state["optimizer_states"][0]["state"].values()
        for name, value in own.items()
    ]
    adapter = load_file(run / "lora/pytorch_lora_weights.safetensors")
    curves = sorted((run / "metrics.csv").read_text().splitlines())
    tensors = [
        {n: t.tolist() for n, t in found.items()} for found in (state["state_dict"], adapter)
    ]
    return state["global_step"], moments, tensors, curves


def test_two_processes_stop_and_go_on_as_if_nothing_had_been(ended) -> None:
    root, starts = ended
    assert [start["status"] for start in starts["whole"]] == [0]
    statuses = [start["status"] for start in starts["stopped"]]
    assert statuses == [*STOPS.values(), 0], starts["stopped"]
    for step, (name, start) in enumerate(zip(STOPS, starts["stopped"], strict=False), start=1):
        assert start["said"].count(f"Stopped by {name}. The run is at step {step}. {GO_ON}\n") == 1
        assert start["said"].count("Stopped by") == start["said"].count("Stopping after") == 1
    assert outcome(root / "stopped" / RUN) == outcome(root / "whole" / RUN)


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("waiting", 143, f"Stopped by SIGTERM. The run is at step 0. {GO_ON}"),
        ("killed", 1, "error: process 1 was ended by SIGKILL. "),
        ("mistake", 1, "error: the cheese is gone; buy more."),
        ("error", 1, "error: process 1 failed (RuntimeError: boo hoo). The run has ended. "),
        ("nan", 1, "error: Training stopped at step 2: the loss is not finite"),
        ("first killed", -9, None),
    ],
)
def test_one_message_within_seconds_and_no_process_left(ended, name, status, message) -> None:
    root, starts = ended
    (start,) = starts[name]
    assert start["status"] == status, start
    assert start["seconds"] < 10
    assert not start["left"]
    told = [part for part in start["said"].splitlines() if "error" in part or "Stopped" in part]
    assert len(told) == (message is not None), start["said"]
    assert "Traceback" not in start["said"] and "Warning" not in start["said"]
    if message is not None:
        assert told[0].startswith(message)
    if name in ("killed", "error"):
        assert told[0].endswith(GO_ON)
    failure = root / name / RUN / "failure.txt"
    assert failure.is_file() == (name == "error")
    assert name != "error" or "RuntimeError: boo\nhoo" in failure.read_text()


def test_the_script_started_twice_ends_when_the_second_is_killed(fit) -> None:
    """The same with processes as Lightning starts them."""
    at = "--trainer.callbacks={class_path: interruption.KillSecondAt, init_args: {step: 2}}"
    words = fit.arguments(probe__every_n_steps=0, trainer__devices=2, data__num_class_images=0)
    here = {"PYTHONPATH": f"{Path(__file__).parent}:{SCRIPT.parents[2]}"}
    command = [sys.executable, str(SCRIPT.parents[2] / "train.py"), *words]
    ended = subprocess.run(
        [*command, at], capture_output=True, text=True, check=False, env=os.environ | here
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.count("error: process 1 was ended by SIGKILL. ") == 1
    assert "Traceback" not in ended.stderr


def test_another_number_of_processes_needs_leave(finished, capsys) -> None:
    last = finished.run / "checkpoints/last.ckpt"
    state = torch.load(last, weights_only=True)
    assert state["dreambooth_pl_processes"] == 1
    torch.save(state | {"dreambooth_pl_processes": 2}, last)
    resume = ["fit", "--resume", str(finished.run), "--trainer.max_steps=7"]
    assert train.main(resume) == 1
    assert "is of a run with 2 processes" in capsys.readouterr().err
    assert train.main([*resume, "--model.allow_changed_settings=true"]) == 0
    assert torch.load(last, weights_only=True)["dreambooth_pl_processes"] == 1


def test_strategies_that_split_the_weights_are_refused(fit, capsys) -> None:
    assert fit.main(trainer__strategy="ddp_spawn", trainer__devices=2) == 1
    assert "trainer.strategy: DDPStrategy is not supported as it is set" in capsys.readouterr().err
    assert not list(fit.cwd.glob("lightning_logs/*/*"))
