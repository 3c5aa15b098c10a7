"""`train.py test`: the table of `evaluate.py`, by one process or several."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dreambooth_pl.commands import evaluate as cli_evaluate
from dreambooth_pl.commands import train as cli

TRAIN = Path(cli.__file__).parents[2] / "train.py"


@pytest.fixture()
def run(finished) -> Path:
    return finished.run


def arguments(run: Path, *more: str) -> list[str]:
    return ["test", "--config", str(run / "config.yaml"), *more]


def images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_final_adapters_give_the_table_of_evaluate(run, capsys) -> None:
    assert cli.main(arguments(run)) == 0
    tested = capsys.readouterr().out
    shutil.rmtree(run / "evaluation")
    assert cli_evaluate.main([str(run)]) == 0
    assert tested == capsys.readouterr().out
    assert "default/version_0" in tested and "DIV by" in tested


def test_two_processes_give_the_table_of_one(run, capsys) -> None:
    checkpoint = ("--ckpt_path", str(run / "checkpoints/last.ckpt"))
    assert cli.main(arguments(run, *checkpoint)) == 0
    alone, drawn = capsys.readouterr().out, images(run / "evaluation")
    shutil.rmtree(run / "evaluation")
    command = [sys.executable, str(TRAIN), *arguments(run, *checkpoint), "--trainer.devices=2"]
    together = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert together.returncode == 0, together.stderr
    assert together.stdout == alone
    assert images(run / "evaluation") == drawn


def test_other_settings_of_the_evaluation_are_no_mistake(run, capsys) -> None:
    """The checkpoint gives the adapters; how they are asked is the command's own affair."""
    more = ("--ckpt_path", str(run / "checkpoints/last.ckpt"), "--sampling.guidance_scale", "3")
    assert cli.main(arguments(run, *more, "--data.num_class_images", "2")) == 0


def test_which_run(fit, capsys) -> None:
    assert cli.main(["test", *fit.arguments()[1:]]) == 1
    assert "test: which run?" in capsys.readouterr().err


def test_a_run_without_end(run, capsys) -> None:
    shutil.rmtree(run / "lora")
    assert cli.main(arguments(run)) == 1
    message = capsys.readouterr().err
    assert "has not come to its end" in message
    assert str(run / "checkpoints/last.ckpt") in message


def test_no_such_protocol(run, capsys) -> None:
    assert cli.main(arguments(run, "--test.protocol", "benchdream")) == 1
    assert "'benchdream' is neither a protocol" in capsys.readouterr().err
