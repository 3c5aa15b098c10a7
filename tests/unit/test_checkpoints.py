import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from killed import leave_unfinished
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from dreambooth_pl.errors import UserError
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.prompts import prompt_set
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.best_checkpoint import RULES, Means, balance
from dreambooth_pl.training.callbacks import checkpoints as checkpoints_module
from dreambooth_pl.training.callbacks.checkpoints import Checkpoints, CheckpointSettings
from dreambooth_pl.training.callbacks.fidelity import Fidelity
from dreambooth_pl.training.callbacks.validation import Validation, ValidationSettings
from dreambooth_pl.training.checkpoint import CONFIG_KEY

SCORES = {2: 0.3, 4: 0.6, 6: 0.5}


def means(dino: float, clip_i: float, clip_t: float | None) -> Means:
    scores = {"dino": dino, "clip_i": clip_i, "clip_t": clip_t}
    return {name: score for name, score in scores.items() if score is not None}


class ScoreAsPlanned(Callback):
    """Stands in for the rounds: says at which step which score was reached."""

    def __init__(self, validation: Validation) -> None:
        self.validation = validation

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step in SCORES:
            self.validation.latest = (trainer.global_step, SCORES[trainer.global_step])


def make_validation(folder: Path, **settings) -> Validation:
    return Validation(
        ValidationSettings(**settings),
        prompt_set("validation"),
        every_n_steps=2,
        sampling=SamplingSettings(),
        folder=folder,
        reporter=ProgressReporter(),
        fidelity=Fidelity(encoders=None),
    )


def train(
    folder: Path,
    every_n_steps: int,
    steps: int = 7,
    callbacks: Sequence[Callback] = (),
    ckpt_path: Path | None = None,
    **settings,
) -> Checkpoints:
    validation = make_validation(folder)
    config = {"model": {"rank": 8}}
    checkpoints = Checkpoints(folder, every_n_steps, config, validation, **settings)
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_train_batches=steps,
        limit_val_batches=0,
        # Lightning puts checkpoints last
        callbacks=[checkpoints, ScoreAsPlanned(validation), *callbacks],
    )
    trainer.fit(BoringModel(), ckpt_path=ckpt_path, weights_only=True)
    return checkpoints


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def test_last_and_best(tmp_path: Path) -> None:
    assert train(tmp_path, every_n_steps=2).best_score == 0.6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert read(tmp_path / "last.ckpt")["global_step"] == 7
    assert read(tmp_path / "best.ckpt")["global_step"] == 4
    assert read(tmp_path / "last.ckpt")[CONFIG_KEY] == {"model": {"rank": 8}}


def test_the_best_takes_no_space_of_its_own(tmp_path: Path) -> None:
    train(tmp_path, every_n_steps=2, steps=4)
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    assert best.stat().st_ino == last.stat().st_ino
    train(tmp_path, every_n_steps=2, steps=7)
    assert best.stat().st_ino != last.stat().st_ino
    assert (read(best)["global_step"], read(last)["global_step"]) == (4, 7)


def test_checkpoints_take_no_way_round_by_the_systems_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))
    train(tmp_path / "run", every_n_steps=2)
    assert read(tmp_path / "run" / "last.ckpt")["global_step"] == 7


def test_the_last_is_there_even_if_the_best_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").mkdir()
    with pytest.raises(UserError, match="best.ckpt cannot be written: Is a directory"):
        train(tmp_path, every_n_steps=2)
    assert read(tmp_path / "last.ckpt")["global_step"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_disk_that_fills_up_costs_no_checkpoint(small_disk: Path) -> None:
    class FillDisk(Callback):
        """Takes the disk's space from the others at step 5."""

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            if trainer.global_step == 5:
                with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))

    with pytest.raises(UserError, match="last.ckpt cannot be written: No space left on device"):
        train(small_disk, every_n_steps=2, callbacks=[FillDisk()])
    assert sorted(path.name for path in small_disk.iterdir()) == [
        "best.ckpt",
        "filler",
        "last.ckpt",
    ]
    assert read(small_disk / "last.ckpt")["global_step"] == 4
    assert read(small_disk / "best.ckpt")["global_step"] == 4


def test_going_on_removes_what_broke_off(tmp_path: Path) -> None:
    train(tmp_path / "one", every_n_steps=2, steps=4)
    last = tmp_path / "one" / "last.ckpt"
    leave_unfinished(last)
    assert read(last)["global_step"] == 4
    train(tmp_path / "two", every_n_steps=2, steps=6, ckpt_path=last)
    left = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert left == ["best.ckpt", "last.ckpt"]


def test_a_score_of_another_step_does_not_count(tmp_path: Path) -> None:
    assert train(tmp_path, every_n_steps=0).best_score is None
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_balance_by_hand() -> None:
    floor, ceiling = means(0.2, 0.0, 0.30), means(0.7, 0.0, None)
    assert balance(floor, floor, ceiling) == 0.0, "the untuned base"
    assert round(balance(means(0.45, 0.0, 0.24), floor, ceiling), 6) == 0.4  # 1/2 * 4/5
    assert balance(means(0.9, 0.0, 0.6), floor, ceiling) == 1.0, "neither share goes above 1"
    assert balance(means(0.1, 0.0, 0.3), floor, ceiling) == 0.0
    assert round(balance(means(0.6, 0.0, 0.3), floor, None), 6) == 0.5, "one photo: 1 for ceiling"


def test_rules_by_hand() -> None:
    floor, ceiling = means(0.2, 0.4, 0.30), means(0.7, 0.9, None)
    scores = means(0.45, 0.5, 0.24)
    found = {name: round(rule(scores, floor, ceiling, 650), 6) for name, rule in RULES.items()}
    assert found == {"balance": 0.4, "dino": 0.45, "clip_i": 0.5, "last": 650.0}


def test_the_best_so_far_by_another_rule_does_not_count(tmp_path: Path) -> None:
    def checkpoints(best_by: str) -> Checkpoints:
        return Checkpoints(tmp_path, 2, {}, make_validation(tmp_path, best_by=best_by))

    before = checkpoints("dino")
    before.best_score = 0.8
    same, other = checkpoints("dino"), checkpoints("balance")
    same.load_state_dict(before.state_dict())
    other.load_state_dict(before.state_dict())
    assert (same.best_score, other.best_score) == (0.8, None)


def test_floors_on_other_prompts_or_samplers_are_not_taken_over(tmp_path: Path) -> None:
    before = make_validation(tmp_path)
    before.floor, before._untuned = means(0.2, 0.4, 0.3), torch.eye(2)
    same, fewer = make_validation(tmp_path), make_validation(tmp_path, class_images=1)
    same.load_state_dict(before.state_dict())
    fewer.load_state_dict(before.state_dict())
    assert same.floor == before.floor
    assert torch.equal(same._untuned, torch.eye(2))
    assert fewer.floor is None


class Saved(Callback):
    """Writes down at which steps there is a new `last.ckpt`."""

    def __init__(self, folder: Path) -> None:
        self.last = folder / "last.ckpt"
        self.steps: list[int] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if self.last.exists() and (step := read(self.last)["global_step"]) not in self.steps:
            self.steps.append(step)


def test_checkpoints_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minutes = [0.0]

    class Clock(Callback):
        """Each step takes four minutes."""

        def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
            minutes[0] += 4

    monkeypatch.setattr(checkpoints_module.time, "monotonic", lambda: 60 * minutes[0])
    saved = Saved(tmp_path)
    train(tmp_path, 0, 12, [saved, Clock()], every_n_minutes=10.0)
    assert saved.steps == [3, 6, 9]
    saved = Saved(tmp_path / "both")
    train(tmp_path / "both", 5, 12, [saved, Clock()], every_n_minutes=10.0)
    assert saved.steps == [3, 5, 8, 10]


@pytest.mark.parametrize(
    ("key", "value"), [("every_n_steps", -1), ("every_n_minutes", 0.0), ("every_n_minutes", -2.0)]
)
def test_intervals_out_of_range(key: str, value: float) -> None:
    with pytest.raises(UserError, match=f"checkpoint.{key} is {value:g}"):
        CheckpointSettings(**{key: value})


@pytest.mark.parametrize("key", ["every_n_steps", "every_n_minutes"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e12, 10**400, True])
def test_nonsense_intervals(key: str, value: object) -> None:
    """NaN minutes never pass, so a run would go without checkpoints and without a word."""
    with pytest.raises(UserError, match=f"checkpoint.{key}: "):
        CheckpointSettings(**{key: value})


def test_what_is_not_finite_replaces_no_checkpoint(tmp_path: Path) -> None:
    class Diverge(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            if trainer.global_step == 4:
                pl_module.layer.bias.data[1] = float("nan")

    with pytest.raises(UserError, match="weights layer.bias are not finite"):
        train(tmp_path, every_n_steps=2, callbacks=[Diverge()])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert read(tmp_path / "last.ckpt")["global_step"] == 2


def test_a_best_that_was_not_linked_yet_is_linked_when_the_run_goes_on(tmp_path: Path) -> None:
    train(tmp_path, every_n_steps=2, steps=4)
    last, best = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    best.unlink()
    train(tmp_path, every_n_steps=2, steps=7, ckpt_path=last, own_folder=True)
    assert (read(best)["global_step"], read(last)["global_step"]) == (4, 7)
