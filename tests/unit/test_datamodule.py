"""The order of samples against counting, and resuming against an uninterrupted run."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.data.sample_order import SampleOrder
from dreambooth_pl.data.samples import RunSampler
from dreambooth_pl.data.settings import DataSettings
from dreambooth_pl.errors import UserError


class Recorder(LightningModule):
    """Writes down the batches that Lightning gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.batches: list[dict[str, list[int]]] = []

    def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self.batches.append({key: value.tolist() for key, value in batch.items()})
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_data(photo_dir: Path, classes: int = 3, **settings: object) -> DreamBoothDataModule:
    data = DreamBoothDataModule(instance_dir=str(photo_dir), resolution=32, **settings)
    data.set_class_images([photo_dir / "00.png"] * classes)
    return data


def fit(
    data: DreamBoothDataModule,
    steps: int,
    folder: Path,
    checkpoint: Path | None = None,
    save_every: int | None = None,
    **settings: object,
) -> list[dict[str, list[int]]]:
    saver = ModelCheckpoint(folder, "{step}", every_n_train_steps=save_every, save_top_k=-1)
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=save_every is not None,
        callbacks=[saver] if save_every else [],
        default_root_dir=folder,
        **settings,
    )
    recorder = Recorder()
    trainer.fit(recorder, data, ckpt_path=checkpoint)
    assert trainer.global_step == steps
    if save_every is None:
        trainer.save_checkpoint(folder / "end.ckpt")
    return recorder.batches


def test_every_picture_equally_often() -> None:
    turns = SampleOrder(42, "instance", 5, flips=False)
    rounds = [[turns(5 * r + i) for i in range(5)] for r in range(200)]
    assert all(sorted(r) == list(range(5)) for r in rounds)
    assert len({tuple(r) for r in rounds}) > 80  # of 120 permutations
    other_seed, other_kind = (
        SampleOrder(43, "instance", 5, False),
        SampleOrder(42, "class", 5, False),
    )
    assert [other_seed(i) for i in range(20)] != sum(rounds[:4], [])
    assert [other_kind(i) for i in range(20)] != sum(rounds[:4], [])


def test_every_picture_both_ways_in_two_rounds() -> None:
    turns = SampleOrder(42, "instance", 5, flips=True)
    for pair in range(50):
        rounds = [[turns(10 * pair + 5 * r + i) for i in range(5)] for r in (0, 1)]
        assert all(sorted(view // 2 for view in r) == list(range(5)) for r in rounds)
        assert sorted(rounds[0] + rounds[1]) == list(range(10))
    share = np.mean([turns(i) % 2 for i in range(0, 2000, 10)])
    assert 0.4 < share < 0.6  # which way comes first is chance


def test_a_sample_is_a_function_of_seed_and_index(photo_dir: Path) -> None:
    in_order = list(make_data(photo_dir).samples(60))
    samples = make_data(photo_dir).samples(1000)
    shuffled = {i: samples[i] for i in torch.randperm(60).tolist()}
    assert in_order == [shuffled[i] for i in range(60)]
    copied = pickle.loads(pickle.dumps(samples))
    assert [copied[i] for i in range(60)] == in_order
    assert [s["sample_index"] for s in in_order] == list(range(60))
    assert Counter(s["instance_view"] for s in in_order) == dict.fromkeys(range(5), 12)
    assert Counter(s["class_view"] for s in in_order) == dict.fromkeys((5, 6, 7), 20)
    without = make_data(photo_dir, classes=0).samples(60)
    assert [s.keys() for s in without] == [{"sample_index", "instance_view"}] * 60
    assert [s["instance_view"] for s in without] == [s["instance_view"] for s in in_order]


@pytest.mark.parametrize("flip", [False, True])
def test_views(photo_dir: Path, flip: bool) -> None:
    data = make_data(photo_dir, horizontal_flip=flip, class_noun="cat")
    views = data.views
    assert len(views) == 8 * (1 + flip)
    prompts = [view.prompt for view in views]
    assert prompts == ["a sks cat"] * 5 * (1 + flip) + ["a cat"] * 3 * (1 + flip)
    pixels = np.asarray(Image.open(photo_dir / "00.png").resize((32, 32), Image.LANCZOS))
    expected = torch.tensor(pixels / 127.5 - 1, dtype=torch.float32).permute(2, 0, 1)
    torch.testing.assert_close(views[0].pixels(32), expected)
    if flip:
        torch.testing.assert_close(views[1].pixels(32), torch.flip(expected, [2]))
    assert {s["class_view"] for s in data.samples(60)} == set(range(len(views))) - {
        i for i, prompt in enumerate(prompts) if prompt == "a sks cat"
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_is_the_run(photo_dir: Path, tmp_path: Path, workers: int) -> None:
    data = make_data(photo_dir, batch_size=2, num_workers=workers)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    batches = fit(data, 6, tmp_path, accumulate_grad_batches=2)
    assert torch.equal(torch.get_rng_state(), state)
    samples = data.samples(24)
    assert len(batches) == 12
    for number, batch in enumerate(batches):
        expected = [samples[2 * number], samples[2 * number + 1]]
        assert batch == {key: [e[key] for e in expected] for key in expected[0]}


@pytest.mark.parametrize("accumulate", [1, 3])
def test_resuming_goes_on_with_the_next_sample(
    photo_dir: Path, tmp_path: Path, accumulate: int
) -> None:
    data = make_data(photo_dir, batch_size=2)
    settings = {"accumulate_grad_batches": accumulate}
    whole = fit(data, 7, tmp_path, save_every=2, **settings)
    for step in (2, 6):
        checkpoint = tmp_path / f"step={step}.ckpt"
        resumed = fit(data, 7, tmp_path / "resumed", checkpoint, **settings)
        assert resumed == whole[step * accumulate :]
    # resumed again from a resumed run, and with more steps than it was begun with
    fit(data, 5, tmp_path, tmp_path / "step=4.ckpt", **settings)
    assert fit(data, 7, tmp_path, tmp_path / "end.ckpt", **settings) == whole[5 * accumulate :]
    longer = fit(data, 9, tmp_path, tmp_path / "end.ckpt", **settings)
    assert [b["sample_index"][0] for b in longer] == list(
        range(14 * accumulate, 18 * accumulate, 2)
    )


def test_epochs_cut_short_do_not_start_again(photo_dir: Path, tmp_path: Path) -> None:
    batches = fit(make_data(photo_dir), 7, tmp_path, limit_train_batches=3)
    assert [batch["sample_index"] for batch in batches] == [[i] for i in range(7)]


def test_ranks_take_turns(photo_dir: Path) -> None:
    samples = make_data(photo_dir).samples(24)
    ranks = [list(RunSampler(samples, lambda: 8, 2, rank)) for rank in range(2)]
    assert [len(RunSampler(samples, lambda: 8, 2, rank)) for rank in range(2)] == [12, 12]
    together = [i for pair in zip(*ranks, strict=True) for i in pair]
    assert together == list(range(8, 24))  # as on one rank


def test_steps_must_be_set(photo_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trainer.max_steps"):
        fit(make_data(photo_dir), -1, tmp_path, max_epochs=1)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"resolution": 100}, "data.resolution"),
        ({"resolution": 0}, "data.resolution"),
        ({"batch_size": 0}, "data.batch_size"),
        ({"num_class_images": -1}, "data.num_class_images"),
        ({"class_noun": " "}, "data.class_noun"),
        ({"instance_prompt": "a {dog}"}, "data.instance_prompt"),
        ({"class_prompt": "a {noun}"}, "data.class_prompt"),
    ],
)
def test_mistakes_name_the_key(settings: dict[str, object], key: str) -> None:
    with pytest.raises(UserError, match=key):
        DreamBoothDataModule(**settings)


def test_photos_are_vetted_in_setup(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data.instance_dir"):
        DreamBoothDataModule(instance_dir=str(tmp_path)).setup("fit")


def test_all_settings_but_workers_and_cache_shape_the_training() -> None:
    settings = DataSettings(resolution=64, num_workers=3, cache_dir="kept")
    free = {"num_workers", "cache_dir"}
    names = [field.name for field in fields(DataSettings) if field.name not in free]
    assert list(settings.shaping) == names
    assert settings.shaping == DataSettings(resolution=64).shaping
    assert settings.shaping["resolution"] == 64


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(TypeError, match="resolutoin"):
        DreamBoothDataModule(resolutoin=64)
