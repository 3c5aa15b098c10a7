"""Runs that train together end as single runs do: losses, adapters, checkpoints, mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from training import DrawnData, Losses, drawn_view, fit, new_module

from dreambooth_pl.adapters import adapter_state_dict
from dreambooth_pl.bases.load import shared_weights
from dreambooth_pl.errors import UserError
from dreambooth_pl.training.finite import Finite
from dreambooth_pl.training.losses import per_sample_mse
from dreambooth_pl.training.module import DreamBooth
from dreambooth_pl.training.together import step
from dreambooth_pl.training.together.group import Group

STEPS = 5
SETTINGS: list[dict[str, Any]] = [
    {"seed": 1, "learning_rate": 0.01},
    {"seed": 2, "prior_loss_weight": 0.3, "min_snr_gamma": 2.0, "weight_decay": 0.5},
    {"seed": 3, "noise_offset": 0.1, "text_encoder_learning_rate": 0.02},
]


class Data(DrawnData):
    """Drawn photos of one of several subjects, with a prompt of its own."""

    def __init__(self, number: int, steps: int = STEPS, **options: Any) -> None:
        super().__init__(batch_size=2, steps=steps, **options)
        self.views[1] = drawn_view(f"a sks {['dog', 'cat', 'hat'][number]}", 10 * number)


class Keep(Callback):
    """Keeps a checkpoint of a step."""

    def __init__(self, step: int, folder: Path) -> None:
        self.step, self.path = step, folder / "kept.ckpt"

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(self.path)


class Logged(Callback):
    """What was logged at each step."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.values.append({k: float(v) for k, v in trainer.callback_metrics.items()})


@dataclass
class Fitted:
    module: DreamBooth
    losses: Losses = field(default_factory=Losses)
    logged: Logged = field(default_factory=Logged)
    trainer: Trainer | None = None


def run_one(base, folder: Path, number: int, group: Group | None, **options: Any) -> Fitted:
    """Fit run `number`, by itself or in a group."""
    own = SETTINGS[number] | options.pop("settings", {})
    data = options.pop("data", None) or Data(number, options.get("steps", STEPS))
    found = Fitted(new_module(base, train_text_encoder=True, **own))
    folder = folder / f"{'alone' if group is None else 'group'}{number}"
    callbacks = [found.losses, found.logged, *options.pop("callbacks", ()), Keep(2, folder)]
    if group is not None:
        callbacks.append(Joins(group))
    clip = [None, 0.001, 1.0][number]
    options = {"steps": STEPS, "gradient_clip_val": clip} | options
    found.trainer = fit(found.module, data, folder, *callbacks, **options)
    return found


class Joins(Callback):
    def __init__(self, group: Group) -> None:
        self.group = group

    def on_fit_start(self, trainer: Trainer, pl_module: DreamBooth) -> None:
        self.group.join(trainer)


def run_group(
    base, folder: Path, numbers: Sequence[int], at_once: int | None = None, **of_run: Any
) -> tuple[dict[int, Fitted], list[BaseException | None]]:
    fitted: dict[int, Fitted] = {}

    def start(number: int):
        def begin(group: Group) -> None:
            options = dict(of_run.get(f"run{number}", {}))
            fitted[number] = run_one(base, folder, number, group, **options)

        return begin

    with shared_weights():
        errors = Group([start(number) for number in numbers], at_once).run()
    return fitted, errors


def assert_same(mine: Fitted, alone: Fitted) -> None:
    assert mine.losses.values == pytest.approx(alone.losses.values, rel=1e-4)
    theirs = adapter_state_dict(alone.module.base_model)
    for name, tensor in adapter_state_dict(mine.module.base_model).items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=2e-4, msg=name)
    for one, other in zip(mine.logged.values, alone.logged.values, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_runs_together_are_single_runs(tiny_base_dir, tmp_path) -> None:
    fitted, errors = run_group(tiny_base_dir, tmp_path, range(3))
    in_parts, more_errors = run_group(tiny_base_dir, tmp_path / "parts", range(3), at_once=2)
    assert errors == more_errors == [None] * 3
    for number in range(3):
        alone = run_one(tiny_base_dir, tmp_path, number, None)
        assert_same(fitted[number], alone)
        assert_same(in_parts[number], alone)
        same_checkpoint(
            tmp_path / f"group{number}/kept.ckpt", tmp_path / f"alone{number}/kept.ckpt"
        )


def same_checkpoint(mine: Path, alone: Path) -> None:
    """The same in structure, types and counts; tensors up to rounding."""
    assert mine.stat().st_size == pytest.approx(alone.stat().st_size, rel=0.05)
    one, other = (torch.load(path, weights_only=True) for path in (mine, alone))
    assert one["loops"] == other["loops"]
    assert one.keys() == other.keys() and one["global_step"] == other["global_step"] == 2
    (one,), (other,) = one["optimizer_states"], other["optimizer_states"]
    assert one["param_groups"] == other["param_groups"]
    torch.testing.assert_close(one["state"], other["state"], rtol=1e-2, atol=1e-4)


def test_a_run_goes_on_alone_and_in_a_group(tiny_base_dir, tmp_path) -> None:
    kept = str(tmp_path / "group1/kept.ckpt")
    fitted, _ = run_group(tiny_base_dir, tmp_path, range(2))
    whole = adapter_state_dict(fitted[1].module.base_model)
    alone = run_one(tiny_base_dir, tmp_path / "again", 1, None, ckpt_path=kept)
    again, errors = run_group(tiny_base_dir, tmp_path / "again", range(2), run1={"ckpt_path": kept})
    assert errors == [None, None]
    for run in (alone, again[1]):
        assert run.losses.values == pytest.approx(fitted[1].losses.values[2:], rel=1e-4)
        for name, tensor in adapter_state_dict(run.module.base_model).items():
            torch.testing.assert_close(tensor, whole[name], rtol=1e-3, atol=2e-4, msg=name)
    assert len(again[0].losses.values) == STEPS
    assert again[1].trainer.fit_loop.state_dict() == alone.trainer.fit_loop.state_dict()


class Spoil(Callback):
    """Makes an adapter infinite after a step."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: DreamBooth, *_: Any) -> None:
        if trainer.global_step == 2:
            for tensor in adapter_state_dict(pl_module.base_model).values():
                tensor.fill_(torch.inf)


def test_a_run_that_diverges_or_cannot_begin_ends_alone(tiny_base_dir, tmp_path) -> None:
    class NoPhotos(Data):
        def setup(self, stage: str) -> None:
            raise UserError("no photos")

    diverging = {"callbacks": [Spoil(), Finite()], "data": Data(1)}
    fitted, errors = run_group(
        tiny_base_dir, tmp_path, range(3), run0={"data": NoPhotos(0)}, run1=diverging
    )
    assert str(errors[0]) == "no photos" and errors[2] is None
    assert "Training stopped at step 3: the loss (instance nan, prior nan)" in str(errors[1])
    assert "the last finite loss was" in str(errors[1]) and "at step 2" in str(errors[1])
    assert fitted.keys() == {2}
    assert_same(fitted[2], run_one(tiny_base_dir, tmp_path, 2, None))


def test_runs_may_have_different_lengths(tiny_base_dir, tmp_path) -> None:
    fitted, errors = run_group(tiny_base_dir, tmp_path, range(3), run1={"steps": 2})
    assert errors == [None] * 3
    assert [len(fitted[number].losses.values) for number in range(3)] == [5, 2, 5]
    assert_same(fitted[1], run_one(tiny_base_dir, tmp_path, 1, None, steps=2))
    assert_same(fitted[2], run_one(tiny_base_dir, tmp_path, 2, None))


def test_micro_batches_and_two_text_encoders(tiny_xl_base_dir, tmp_path) -> None:
    options = {"accumulate_grad_batches": 2, "steps": 2}
    data, more = {"data": Data(0, steps=4)}, options | {"data": Data(1, steps=4)}
    fitted, errors = run_group(tiny_xl_base_dir, tmp_path, [0, 1], run0=options | data, run1=more)
    alone = run_one(tiny_xl_base_dir, tmp_path, 0, None, **options, data=Data(0, steps=4))
    assert errors == [None, None]
    mine, theirs = (adapter_state_dict(run.module.base_model) for run in (fitted[0], alone))
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=2e-4, msg=name)
    assert fitted[0].trainer.fit_loop.state_dict() == alone.trainer.fit_loop.state_dict()


def test_fifty_steps_stay_within_rounding(tiny_base_dir, tmp_path) -> None:
    longer = {"steps": 50, "data": Data(1, steps=50)}
    fitted, errors = run_group(tiny_base_dir, tmp_path, range(2), run1=longer, run0={"steps": 3})
    assert errors == [None, None]
    alone = run_one(tiny_base_dir, tmp_path, 1, None, **longer)
    assert fitted[1].losses.values == pytest.approx(alone.losses.values, rel=1e-4)
    mine, theirs = (
        torch.cat([t.flatten() for t in adapter_state_dict(run.module.base_model).values()])
        for run in (fitted[1], alone)
    )
    assert (mine - theirs).norm() < 1e-3 * theirs.norm()


def test_where_memory_ends_a_step_takes_the_runs_in_parts(
    tiny_base_dir, tmp_path, monkeypatch
) -> None:
    sizes: list[int] = []

    def limited(prediction: torch.Tensor, *args: Any) -> torch.Tensor:
        sizes.append(len(prediction))
        if len(prediction) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return per_sample_mse(prediction, *args)

    monkeypatch.setattr(step, "per_sample_mse", limited)
    fitted, errors = run_group(tiny_base_dir, tmp_path, range(3))
    assert errors == [None] * 3
    assert sizes == [12] + [8, 4] * STEPS
    assert_same(fitted[1], run_one(tiny_base_dir, tmp_path, 1, None))
