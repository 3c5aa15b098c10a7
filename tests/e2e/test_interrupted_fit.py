"""Interrupted and uninterrupted runs end alike, bit for bit; so do runs with and without probes."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from interruption import PowerCut

HARD = {
    "model__train_text_encoder": True,
    "model__lora__dropout": 0.2,
    "data__horizontal_flip": True,
    "data__batch_size": 2,
    "data__crop": "random",
    "data__num_crops": 2,
    "data__aspect_ratio_buckets": True,
    "data__caption_dropout": 0.3,
    "trainer__accumulate_grad_batches": 2,
}
PLAIN: dict[str, Any] = {}


def losses(run_folder: Path) -> dict[str, str]:
    """Loss of each step, as written."""
    with (run_folder / "metrics.csv").open() as file:
        return {row["step"]: row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]}


def column(run_folder: Path, name: str) -> list[str]:
    """The values of a curve, as written."""
    with (run_folder / "metrics.csv").open() as file:
        return [row[name] for row in csv.DictReader(file) if row[name]]


def assert_same_state(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Adapters, moments and step of two checkpoints are the same bits."""
    assert one["global_step"] == other["global_step"]
    assert one["state_dict"].keys() == other["state_dict"].keys()
    for name, weights in one["state_dict"].items():
        assert torch.equal(weights, other["state_dict"][name]), name
    (mine,), (theirs,) = one["optimizer_states"], other["optimizer_states"]
    for index, moments in mine["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, theirs["state"][index][name]), (index, name)


@pytest.mark.parametrize("keys", [PLAIN, HARD], ids=["plain", "hard"])
def test_interrupted_is_uninterrupted(fit, checkpoint, keys) -> None:
    whole = fit.run(**keys)
    cut = "{class_path: interruption.CutPowerAt, init_args: {step: 5}}"
    with pytest.raises(PowerCut):
        fit.run(**keys, trainer__callbacks=cut)
    last = Path("lightning_logs/default/version_1/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 3

    resumed = fit.run(**keys, ckpt_path=last)
    assert_same_state(checkpoint(whole), checkpoint(resumed))
    before, after = losses(whole.run_folder), losses(resumed.run_folder)
    assert len(after) == 3
    assert after.items() <= before.items()
    # the floor was drawn before the interruption, and is in the log all the same
    assert "fidelity/dino_floor" in (resumed.run_folder / "metrics.csv").read_text()
    # and the drift is measured from the same images
    assert (
        column(resumed.run_folder, "validation/drift")
        == column(whole.run_folder, "validation/drift")[2:]
    )


def test_a_finished_run_can_be_made_longer(fit, checkpoint) -> None:
    whole = fit.run(probe__every_n_steps=0, trainer__max_steps=6)
    half = fit.run(probe__every_n_steps=0, trainer__max_steps=3)
    last = half.run_folder / "checkpoints/last.ckpt"
    longer = fit.run(probe__every_n_steps=0, trainer__max_steps=6, ckpt_path=last)
    assert_same_state(checkpoint(whole), checkpoint(longer))


@pytest.mark.parametrize("keys", [PLAIN, HARD], ids=["plain", "hard"])
def test_probing_changes_nothing(fit, checkpoint, keys) -> None:
    without = fit.run(**keys, probe__every_n_steps=0)
    probed = fit.run(**keys, probe__every_n_steps=2)
    assert_same_state(checkpoint(without), checkpoint(probed))
    assert losses(without.run_folder) == losses(probed.run_folder)


def test_another_config_than_the_checkpoints(fit, capsys) -> None:
    first = fit.run(probe__every_n_steps=0, trainer__max_steps=2)
    last = first.run_folder / "checkpoints/last.ckpt"
    changed = {"probe__every_n_steps": 0, "model__learning_rate": 0.01, "ckpt_path": last}

    assert fit.main(**changed) == 1
    error = capsys.readouterr().err
    assert "model.learning_rate is 0.01, was 0.0003" in error
    assert "--model.allow_changed_settings" in error
    assert not Path("lightning_logs/default/version_1").exists()

    resumed = fit.run(**changed, model__allow_changed_settings=True, trainer__max_steps=3)
    assert resumed.trainer.optimizers[0].param_groups[0]["lr"] == 0.01
