"""Buckets: their sizes, which photo goes where, and the pixels and losses that come of it."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from recorded_fit import noised_by_hand, pixels_of, recorded_fit

from dreambooth_pl.data.buckets import bucket_sizes, default_step, nearest_bucket
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.data.sample_order import BucketSampleOrder
from dreambooth_pl.errors import UserError

# By hand, for 32 px in steps of 8: height and width of the bucket of each photo of `photo_dir`,
# and the part of it, (left, top, right, bottom), that has the bucket's shape.
BUCKETS_OF_PHOTOS = {
    "00.png": ((32, 32), (0, 0, 40, 40)),
    "01.png": ((24, 40), (0, 4.8, 64, 43.2)),  # 64 x 48: 38.4 of its 48 rows
    "02.jpg": ((40, 24), (4.8, 0, 43.2, 64)),
    "03.png": ((32, 32), (0, 0, 40, 40)),
    "04.jpg": ((24, 40), (0, 3.2, 56, 36.8)),  # 56 x 40: 33.6 of its 40 rows
}


def bucketed(photo_dir: Path, **settings: object) -> DreamBoothDataModule:
    return DreamBoothDataModule(
        instance_dir=str(photo_dir), resolution=32, aspect_ratio_buckets=True, **settings
    )


@pytest.mark.parametrize("resolution", [64, 128, 512, 1024])
def test_buckets_have_about_the_area_of_the_square(resolution: int) -> None:
    step = default_step(resolution)
    buckets = bucket_sizes(resolution, step)
    assert len(set(buckets)) == len(buckets) >= 5
    assert (resolution, resolution) in buckets
    for height, width in buckets:
        assert (width, height) in buckets
        assert height % step == width % step == 0
        assert max(height, width) <= 4 * min(height, width)
        # the next multiple of either side is no nearer to the area
        off = abs(height * width - resolution**2)
        long, short = max(height, width), min(height, width)
        assert all(off <= abs((long + d) * short - resolution**2) for d in (-step, step))


def test_the_nearest_bucket_by_trying_all() -> None:
    buckets = bucket_sizes(512, 64)
    for width in range(100, 2000, 37):
        height = 700
        found = nearest_bucket((height, width), buckets, 512)
        ratios = {b: (b[0] * width) / (b[1] * height) for b in buckets}
        off = {b: max(ratio, 1 / ratio) for b, ratio in ratios.items()}
        assert math.isclose(off[found], min(off.values()))


def test_photos_go_to_the_bucket_of_their_shape(photo_dir: Path) -> None:
    data = bucketed(photo_dir, num_class_images=0)
    for view in data.views:
        (height, width), box = BUCKETS_OF_PHOTOS[view.path.name]
        photo = Image.open(view.path)
        expected = photo.resize((width, height), Image.Resampling.LANCZOS, box=box)
        torch.testing.assert_close(view.pixels(32), pixels_of(expected), rtol=0, atol=1e-6)
    assert "buckets (width x height): 2 at 40 x 24, 2 at 32 x 32, 1 at 24 x 40" in "\n".join(
        data.report.lines()
    )


@pytest.mark.parametrize("block", [2, 3])
def test_the_photos_of_a_batch_share_a_bucket(block: int) -> None:
    buckets, crops = [[0, 3], [1, 4], [2]], [1, 2, 1, 1, 1]
    turns = BucketSampleOrder(42, "instance", buckets, flips=False, crops=crops, block=block)
    photo_of_view = [0, 1, 1, 2, 3, 4]
    cycle = 5 * block
    orders = set()
    for start in range(0, 20 * cycle, cycle):
        views = [turns(index) for index in range(start, start + cycle)]
        photos = [photo_of_view[view] for view in views]
        assert Counter(photos) == dict.fromkeys(range(5), block)
        blocks = [photos[n : n + block] for n in range(0, cycle, block)]
        assert all(any(set(b) <= set(bucket) for bucket in buckets) for b in blocks)
        orders.add(tuple(b[0] for b in blocks))
    assert len(orders) > 10
    again = BucketSampleOrder(42, "instance", buckets, False, crops, block)
    assert [again(i) for i in (77, 3, 41)] == [turns(i) for i in (77, 3, 41)]
    seen = Counter(turns(index) for index in range(2 * cycle))
    assert seen[1] == seen[2] == block  # both crops of photo 1


@pytest.mark.parametrize("batch_size", [1, 3])
def test_pixels_and_losses_of_batches_of_all_sizes(
    tiny_base_dir: Path, photo_dir: Path, tmp_path: Path, batch_size: int
) -> None:
    data = bucketed(photo_dir, batch_size=batch_size, num_class_images=2)
    data.set_class_images([photo_dir / "01.png", photo_dir / "03.png"])
    steps = recorded_fit(tiny_base_dir, data, tmp_path, 5, prior_loss_weight=0.5)
    names = list(BUCKETS_OF_PHOTOS)
    shapes = set()
    for step in steps:
        photos = [names[view] for view in step.batch["instance_view"]]
        assert len({BUCKETS_OF_PHOTOS[name][0] for name in photos}) == 1
        samples = []
        for index, name in zip(step.batch["sample_index"], photos, strict=True):
            (height, width), box = BUCKETS_OF_PHOTOS[name]
            image = Image.open(photo_dir / name).resize((width, height), 1, box=box)  # Lanczos
            samples.append(noised_by_hand(tiny_base_dir, pixels_of(image), "instance", index))
        for index, view in zip(step.batch["sample_index"], step.batch["class_view"], strict=True):
            name, box = (("01.png", (8, 0, 56, 48)), ("03.png", None))[view - 5]
            image = Image.open(photo_dir / name).resize((32, 32), 1, box=box)
            samples.append(noised_by_hand(tiny_base_dir, pixels_of(image), "class", index))

        assert [len(call.noisy) for call in step.calls] in ([2 * batch_size], [batch_size] * 2)
        given = [
            (timestep, noisy, prediction)
            for call in step.calls
            for timestep, noisy, prediction in zip(
                call.timesteps, call.noisy, call.prediction, strict=True
            )
        ]
        losses = []
        for (timestep, noise, noisy), (t, x, prediction) in zip(samples, given, strict=True):
            assert t == timestep
            torch.testing.assert_close(x, noisy, rtol=1e-4, atol=1e-5)
            losses.append((prediction - noise).square().mean().item())
            shapes.add(tuple(x.shape[1:]))
        expected = sum(losses[:batch_size]) / batch_size
        expected += 0.5 * sum(losses[batch_size:]) / batch_size
        assert step.loss == pytest.approx(expected, rel=1e-5)
    assert shapes == {(8, 8), (6, 10), (10, 6)}


def test_a_step_that_the_base_cannot_take_is_refused(photo_dir: Path) -> None:
    with pytest.raises(UserError, match="data.bucket_step: 20 px must be a multiple of 8"):
        bucketed(photo_dir, bucket_step=20)
