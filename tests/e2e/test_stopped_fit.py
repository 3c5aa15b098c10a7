"""Signals end a run at a point from which it goes on, in its own folder, as if nothing had been."""

import csv
import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreambooth_pl.commands import train
from dreambooth_pl.runs.finished import read_run
from dreambooth_pl.sampling import generation

RUN = Path("lightning_logs/default/version_0")
LAST = RUN / "checkpoints/last.ckpt"
ADAPTER = RUN / "lora/pytorch_lora_weights.safetensors"
PLAIN = {"probe__every_n_steps": 0, "trainer__max_steps": 4}


def signal_at(step: int, signum: int) -> str:
    return f"{{class_path: interruption.SignalAt, init_args: {{step: {step}, signum: {signum}}}}}"


def logged() -> list[dict[str, str]]:
    """All rows of the log, without the columns that a row leaves empty."""
    with (RUN / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    return sorted(rows, key=str)


def scalars() -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(RUN))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def outcome() -> tuple[Any, ...]:
    state = torch.load(LAST, weights_only=True)
    moments = [
        (name, value.tolist())
        for own in state["optimizer_states"][0]["state"].values()
        for name, value in own.items()
    ]
    weights = {name: tensor.tolist() for name, tensor in state["state_dict"].items()}
    return state["global_step"], weights, moments, logged(), scalars(), adapter(RUN)


def adapter(run: Path) -> dict[str, list]:
    """The exported file's tensors; the order of its header's entries is not fixed."""
    weights = load_file(run / "lora/pytorch_lora_weights.safetensors")
    return {name: tensor.tolist() for name, tensor in weights.items()}


def command_of(error: str) -> list[str]:
    """The words of the command that the message says to go on with, after `train.py`."""
    words = shlex.split(error.split("To go on: ")[1].splitlines()[0])
    assert words[:2] == ["python", "train.py"]
    return words[2:]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_signal_finishes_the_step_and_tells_how_to_go_on(fit, capfd, accumulate) -> None:
    """Three signals, one after another, in one run; it ends like one without them."""
    keys = PLAIN | {"trainer__accumulate_grad_batches": accumulate}
    assert fit.main(**keys) == 0
    whole = outcome()
    RUN.rename("whole")
    capfd.readouterr()

    words = fit.arguments(**keys)
    for step, signum in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), start=1):
        before = signal.getsignal(signum)
        at = f"--trainer.callbacks={signal_at(step, int(signum))}"
        assert train.main([*words, at]) == 128 + signum
        assert signal.getsignal(signum) is before
        error = capfd.readouterr().err
        assert "Stopping after this step." in error
        assert f"Stopped by {signum.name}. The run is at step {step}." in error
        assert torch.load(LAST, weights_only=True)["global_step"] == step
        words = command_of(error)
        assert words == ["fit", "--resume", str(RUN)]
    assert train.main([*words, "--trainer.callbacks=null"]) == 0
    assert outcome() == whole
    assert [path.name for path in RUN.parent.iterdir()] == ["version_0"]


def test_images_end_promptly_and_are_made_up_for(fit, capfd, monkeypatch) -> None:
    """A signal among class images, probes at the start, during and at the end."""
    keys = {"probe__every_n_steps": 2, "trainer__max_steps": 3, "validation__class_images": 0}
    assert fit.main(**keys) == 0
    whole, names = outcome(), sorted(str(p) for p in RUN.rglob("*.png"))
    RUN.rename("whole")
    capfd.readouterr()
    draw, batches_left = generation._generate_batch, [0]

    def interrupted(*args: Any) -> Any:
        batches_left[0] -= 1
        if batches_left[0] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(*args)

    monkeypatch.setattr(generation, "_generate_batch", interrupted)
    words, steps = fit.arguments(**keys), []
    for batches_left[0] in (1, 2, 3, 3):  # class images are there from the first run
        assert train.main(words) == 143
        error = capfd.readouterr().err
        assert "Traceback" not in error
        words = command_of(error)
        steps.append(torch.load(LAST, weights_only=True)["global_step"] if LAST.exists() else 0)
    assert train.main(words) == 0
    assert steps == [0, 0, 2, 3]
    assert outcome() == whole
    assert sorted(str(p) for p in RUN.rglob("*.png")) == names


def test_what_belongs_to_the_end_is_made_when_it_is_missing(fit, capsys) -> None:
    assert fit.main(**PLAIN) == 0
    whole = outcome()
    ADAPTER.unlink()
    with pytest.raises(Exception, match=f"Finish it with: python train.py fit --resume {RUN}"):
        read_run(RUN)

    capsys.readouterr()
    assert train.main(["fit", "--resume", "last", "--trainer.max_steps=2"]) == 1
    assert "is at step 4 already; raise trainer.max_steps" in capsys.readouterr().err
    assert fit.main(**PLAIN | {"trainer__max_steps": 2}, ckpt_path=LAST) == 1
    assert "is at step 4 already; raise trainer.max_steps" in capsys.readouterr().err
    assert [path.name for path in RUN.parent.iterdir()] == ["version_0"]

    assert train.main(["fit", "--resume", "last"]) == 0
    assert outcome() == whole
    assert read_run(RUN).lora_file == ADAPTER
    assert fit.main(**PLAIN, ckpt_path=LAST) == 0, "the same in a new folder"
    assert adapter(RUN.with_name("version_1")) == adapter(RUN)


def test_resuming_what_is_not_there(fit, capsys) -> None:
    assert train.main(["fit", "--resume", "last"]) == 1
    assert "there is no run under lightning_logs" in capsys.readouterr().err
    assert train.main(["fit", "--resume=nowhere"]) == 1
    assert "there is no run 'nowhere'" in capsys.readouterr().err
    (fit.cwd / "empty").mkdir()
    assert train.main(["fit", "--resume", "empty"]) == 1
    assert "no run has begun there" in capsys.readouterr().err
    assert train.main(["fit", "--resume", "empty", "--ckpt_path=x"]) == 1
    assert "not both" in capsys.readouterr().err
    (fit.cwd / "mine.yaml").write_text("resume: last\n")
    assert fit.main(config="mine.yaml") == 1
    assert "resume stands in a config file" in capsys.readouterr().err


def test_changed_photos_are_named_and_refused(fit, capsys) -> None:
    keys = PLAIN | {"data__captions": "files", "model__prior_loss_weight": 0}
    for path in list(fit.photos.iterdir()):
        path.with_suffix(".txt").write_text("a {identifier} {class}")
    assert fit.main(**keys | {"trainer__max_steps": 1}) == 0
    (fit.photos / "00.png").write_bytes((fit.photos / "01.png").read_bytes())
    (fit.photos / "03.txt").write_text("a {identifier} {class} on grass")
    for name in ("04.jpg", "04.txt"):
        (fit.photos / name).unlink()
    resume = ["fit", "--resume", "last", "--trainer.max_steps=2"]

    capsys.readouterr()
    assert train.main(resume) == 1
    error = capsys.readouterr().err.split("error: ")[1]
    assert "00.png is another picture; the prompt of 03.png is 'a sks dog on grass'" in error
    assert "04.jpg is gone" in error
    assert "01.png" not in error
    assert torch.load(LAST, weights_only=True)["global_step"] == 1
    assert train.main([*resume, "--model.allow_changed_settings=true"]) == 0
    assert torch.load(LAST, weights_only=True)["global_step"] == 2


@pytest.mark.parametrize(
    ("what", "message"),
    [("loss", r"the loss \(prior nan\)|the loss is not"), ("gradient", "the gradient of .*lora")],
)
def test_a_diverged_run_stops_and_spoils_nothing(fit, capsys, what, message) -> None:
    at = f"{{class_path: interruption.Poison, init_args: {{step: 3, what: {what}}}}}"
    keys = PLAIN | {"checkpoint__every_n_steps": 1, "trainer__callbacks": at}
    assert fit.main(**keys) == 1
    error = " ".join(capsys.readouterr().err.split("error: ")[1].split())
    assert error.startswith("Training stopped at step 3:")
    assert re.search(message, error), error
    assert "the last finite loss was" in error and "at step 2" in error
    assert "lower model.learning_rate (0.0003)" in error
    state = torch.load(LAST, weights_only=True)
    assert state["global_step"] == 2
    assert all(tensor.isfinite().all() for tensor in state["state_dict"].values())
    assert not ADAPTER.exists()
