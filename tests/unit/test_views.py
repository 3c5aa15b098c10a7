"""Crops and flips: which pixels they show, against Pillow by hand, and how often each comes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from recorded_fit import noised_by_hand, pixels_of, recorded_fit

from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.data.sample_order import SampleOrder
from dreambooth_pl.data.views import View, random_crops
from dreambooth_pl.errors import UserError


def noise_photo(path: Path, width: int, height: int, seed: int = 0, orientation: int = 1) -> None:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(values).save(path, exif=exif)


@pytest.mark.parametrize("size", [(80, 32), (32, 80)])
def test_random_crops_are_windows_of_the_photo(tmp_path: Path, size: tuple[int, int]) -> None:
    noise_photo(tmp_path / "a.png", *size)
    data = DreamBoothDataModule(
        instance_dir=str(tmp_path), resolution=32, num_class_images=0, crop="random", num_crops=6
    )
    views = data.views
    photo = pixels_of(Image.open(tmp_path / "a.png"))
    tops = set()
    for view in views:  # the photo's short side is the view's, so nothing is scaled
        top, left = view.crop_top_left(32)
        expected = photo[:, top : top + 32, left : left + 32]
        torch.testing.assert_close(view.pixels(32), expected, rtol=0, atol=1e-6)
        assert view.original_size == size[::-1]
        tops.add((top, left))
    assert len(tops) == len(views) == 6
    assert "6, from 6 random crops of 1 photo" in data.report.remarks[0]


def test_crops_are_keyed_by_seed_and_file_name_alone() -> None:
    crops = random_crops(1, "a.jpg", (300, 500), (32, 32), 5)
    torch.manual_seed(0)
    assert random_crops(1, "a.jpg", (300, 500), (32, 32), 5) == crops
    assert random_crops(2, "a.jpg", (300, 500), (32, 32), 5) != crops
    assert random_crops(1, "b.jpg", (300, 500), (32, 32), 5) != crops
    assert crops[:3] == random_crops(1, "a.jpg", (300, 500), (32, 32), 3)
    # 500 / 300 * 32 is 53: with 21 pixels of overhang there are 22 windows
    every = random_crops(1, "a.jpg", (300, 500), (32, 32), 64)
    assert sorted(every) == [(n / 21, 0.5) for n in range(22)]
    assert random_crops(1, "a.jpg", (300, 300), (32, 32), 8) == [(0.5, 0.5)]


def test_a_turned_photo_is_cropped_as_it_is_seen(tmp_path: Path) -> None:
    noise_photo(tmp_path / "a.png", 32, 64, orientation=6)  # seen as 64 wide, 32 high
    (view,) = DreamBoothDataModule(
        instance_dir=str(tmp_path), resolution=32, num_class_images=0
    ).views
    assert view.original_size == (32, 64)
    upright = np.rot90(np.asarray(Image.open(tmp_path / "a.png")), -1)  # clockwise
    expected = pixels_of(Image.fromarray(upright[:, 16:48]))
    torch.testing.assert_close(view.pixels(32), expected, rtol=0, atol=1e-6)


def test_a_flipped_view_is_its_mirror_image(tmp_path: Path) -> None:
    noise_photo(tmp_path / "a.png", 48, 32)
    plain, flipped = (
        View(tmp_path / "a.png", "", flip=flip, centering=(0.25, 0.5)) for flip in (False, True)
    )
    assert torch.equal(
        flipped.pixels(32), torch.from_numpy(plain.pixels(32).numpy()[..., ::-1] + 0)
    )
    assert plain.crop_top_left(32) == (0, 4)
    # what is left of the crop in the mirrored photo was right of it: 16 - 4 pixels
    assert flipped.crop_top_left(32) == (0, 12)


def test_distinct_views_are_counted_for_the_user(photo_dir: Path) -> None:
    def remarks(**settings: object) -> tuple[str, ...]:
        return DreamBoothDataModule(
            instance_dir=str(photo_dir), resolution=32, **settings
        ).report.remarks

    assert remarks() == ()
    (line,) = remarks(horizontal_flip=True)
    assert line == "distinct views, each encoded once: 10, from 5 photos, also flipped"
    # two photos are square: one crop each; the others have 12, 12 and 14 windows at 32 px
    (line,) = remarks(crop="random", num_crops=4, horizontal_flip=True)
    assert ": 28, from 14 random crops of 5 photos, also flipped" in line
    (line,) = remarks(crop="random", num_crops=64)
    assert ": 40, from 40 random crops" in line  # 1 + 12 + 12 + 1 + 14


@pytest.mark.parametrize("flips", [False, True])
def test_every_crop_equally_often(flips: bool) -> None:
    crops = [3, 1, 4]
    turns = SampleOrder(42, "instance", 3, flips, crops)
    per_round = 3
    rounds = 12 * (1 + flips)  # 12 divides by 3, 1 and 4
    seen = Counter(turns(index) for index in range(rounds * per_round))
    first = [0, 3, 4] if not flips else [0, 6, 8]
    for picture, count in enumerate(crops):
        ways = count * (1 + flips)
        assert [seen.pop(first[picture] + way) for way in range(ways)] == [rounds // ways] * ways
    assert not seen


def test_the_crop_and_flip_of_a_sample_reach_the_unet(tiny_base_dir: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    noise_photo(photos / "a.png", 48, 32)
    noise_photo(photos / "b.png", 32, 48, seed=1)
    data = DreamBoothDataModule(
        instance_dir=str(photos), resolution=32, num_class_images=0, batch_size=4, crop="random",
        num_crops=3, horizontal_flip=True,
    )  # fmt: skip
    steps = recorded_fit(tiny_base_dir, data, tmp_path, 3)
    shown = set()
    for step in steps:
        (call,) = step.calls
        for row, (index, view) in enumerate(
            zip(step.batch["sample_index"], step.batch["instance_view"], strict=True)
        ):
            # views: photo, then crop, then flip
            photo, crop, flip = view // 6, view % 6 // 2, view % 2
            name, size = ("a.png", (32, 48)) if photo == 0 else ("b.png", (48, 32))
            x, y = random_crops(42, name, size, (32, 32), 3)[crop]
            left, top = (round(16 * x), 0) if photo == 0 else (0, round(16 * y))
            image = Image.open(photos / name).crop((left, top, left + 32, top + 32))
            if flip:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            timestep, _, noisy = noised_by_hand(tiny_base_dir, pixels_of(image), "instance", index)
            assert call.timesteps[row] == timestep
            torch.testing.assert_close(call.noisy[row], noisy, rtol=1e-4, atol=1e-5)
            shown.add(view)
    assert shown == set(range(12))  # twelve samples, twelve views


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_crops": 0}, "data.num_crops: 0 is too small"),
        ({"num_crops": 65}, "data.num_crops: 65 is too many"),
        ({"caption_dropout": 1.5}, "data.caption_dropout: 1.5 is not between 0 and 1"),
        ({"mask_background_weight": -0.1}, "data.mask_background_weight"),
        ({"bucket_step": 12}, "data.bucket_step: 12 px must be a multiple of 8"),
        ({"bucket_step": 48, "resolution": 64}, "divides data.resolution, 64"),
    ],
)
def test_mistakes_name_the_key(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DreamBoothDataModule(**settings)
