"""Masks: found, read, cropped as their photos are, and what they leave of the loss."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image, ImageDraw
from recorded_fit import noised_by_hand, pixels_of, recorded_fit

from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.data.masks import find_masks, read_mask
from dreambooth_pl.data.views import View
from dreambooth_pl.errors import UserError

NAMES = ("00.png", "01.png", "02.jpg", "03.png", "04.jpg")


def draw_mask(photo: Path, box: tuple[float, float, float, float], scale: int = 1) -> Image.Image:
    """A white box, in shares of width and height, on black, of the photo's shape."""
    width, height = (scale * side for side in Image.open(photo).size)
    mask = Image.new("L", (width, height), 0)
    left, top, right, bottom = box
    corners = (left * width, top * height, right * width - 1, bottom * height - 1)
    ImageDraw.Draw(mask).rectangle(corners, fill=255)
    return mask


def mask_all(photo_dir: Path, folder: Path, suffix: str = ".mask.png") -> None:
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        mask = draw_mask(photo_dir / name, (0.25, 0.25, 0.75, 0.75))
        mask.save(folder / (Path(name).stem + suffix))


def test_masks_beside_the_photos_or_in_a_folder(photo_dir: Path, tmp_path: Path) -> None:
    photos = [photo_dir / name for name in NAMES]
    assert find_masks(photos, None) == [None] * 5
    mask_all(photo_dir, photo_dir)
    assert find_masks(photos, None) == [photo_dir / f"0{n}.mask.png" for n in range(5)]
    mask_all(photo_dir, tmp_path / "masks", ".png")
    masks = [tmp_path / "masks" / f"0{n}.png" for n in range(5)]
    assert find_masks(photos, tmp_path / "masks") == masks
    mask_all(photo_dir, tmp_path / "more", ".jpg")
    assert find_masks(photos, tmp_path / "more")[0] == tmp_path / "more/00.jpg"
    data = DreamBoothDataModule(instance_dir=str(photo_dir), resolution=32)
    assert data.report.used == tuple(photos)  # the masks beside them are no photos
    assert data.report.remarks == ("masks: 5; background weighs 0",)


def test_mistakes_with_masks_name_the_file(photo_dir: Path, tmp_path: Path) -> None:
    def refuse(message: str, mask_dir: Path | None = None, **settings: object) -> None:
        data = DreamBoothDataModule(
            instance_dir=str(photo_dir),
            resolution=32,
            mask_dir=None if mask_dir is None else str(mask_dir),
            **settings,
        )
        with pytest.raises(UserError, match=message):
            data.setup("fit")

    refuse("data.mask_dir: there is no folder .*nowhere", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refuse("data.mask_dir: .*holds no mask for 00.png.*00.png", tmp_path / "empty")
    mask_all(photo_dir, photo_dir)
    (photo_dir / "03.mask.png").unlink()
    refuse("03.png: other photos have a mask, this one has none beside it")
    Image.new("L", (40, 30), 255).save(photo_dir / "03.mask.png")
    refuse("03.mask.png: the mask is 40 x 30 pixels, its photo 03.png 40 x 40")
    (photo_dir / "03.mask.png").write_text("no picture")
    refuse("03.mask.png: cannot be read as a mask")
    Image.new("L", (40, 40), 0).save(photo_dir / "03.mask.png")
    refuse("03.mask.png: is black everywhere in the part of 03.png")
    data = DreamBoothDataModule(
        instance_dir=str(photo_dir), resolution=32, mask_background_weight=0.5
    )
    assert len(data.views) == 5  # then black is only less


def test_masks_of_all_kinds_are_read_as_greys(photo_dir: Path, tmp_path: Path) -> None:
    photo = photo_dir / "01.png"  # 64 x 48
    mask = draw_mask(photo, (0.5, 0, 1, 1))
    expected = np.asarray(mask)

    def read(name: str) -> np.ndarray:
        return np.asarray(read_mask(tmp_path / name, photo))

    mask.save(tmp_path / "grey.png")
    mask.convert("1").save(tmp_path / "bits.png")
    mask.convert("RGB").save(tmp_path / "colour.png")
    Image.fromarray(expected.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    cut_out = Image.new("RGBA", mask.size, (255, 255, 255, 0))
    cut_out.paste((255, 255, 255, 255), (32, 0, 64, 48))
    cut_out.save(tmp_path / "cut_out.png")
    turned = mask.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    for name in ("grey", "bits", "colour", "deep", "cut_out", "turned"):
        assert np.array_equal(read(f"{name}.png"), expected), name
    draw_mask(photo, (0.5, 0, 1, 1), scale=3).save(tmp_path / "large.png")
    assert read("large.png").shape == (144, 192)


def test_pixels_weights_go_through_the_photos_crop_and_flip(photo_dir: Path) -> None:
    photo = photo_dir / "01.png"
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (48, 64), dtype=np.uint8)
    Image.fromarray(values).save(photo_dir / "01.mask.png")
    settings = {"mask": photo_dir / "01.mask.png", "mask_background_weight": 0.25}
    # 24 px of 48: each weight is the mean of 2 x 2 pixels; the crop begins at 0.75 of 16 pixels
    view = View(photo, "", size=(24, 24), centering=(0.75, 0.5), **settings)
    part = values[:, 12 : 12 + 48].astype(np.float64) / 255
    means = (part[::2, ::2] + part[1::2, ::2] + part[::2, 1::2] + part[1::2, 1::2]) / 4
    expected = torch.tensor(means + (1 - means) * 0.25, dtype=torch.float32)[None]
    torch.testing.assert_close(view.loss_weights(24), expected, rtol=0, atol=1e-6)
    flipped = View(photo, "", True, (24, 24), (0.75, 0.5), **settings)
    assert torch.equal(flipped.loss_weights(24), view.loss_weights(24).flip(-1))
    assert View(photo, "").loss_weights(24) is None


def test_random_crops_that_miss_the_subject_are_left_out(tmp_path: Path) -> None:
    Image.new("RGB", (128, 32), "green").save(tmp_path / "a.png")
    mask = Image.new("L", (128, 32), 0)
    mask.paste(255, (0, 0, 8, 32))  # in the 8 windows that begin left of x = 8
    mask.save(tmp_path / "a.mask.png")
    data = DreamBoothDataModule(
        instance_dir=str(tmp_path), resolution=32, num_class_images=0, crop="random", num_crops=64
    )
    lefts = {view.crop_top_left(32)[1] for view in data.views}
    everywhere = DreamBoothDataModule(
        instance_dir=str(tmp_path), resolution=32, num_class_images=0, crop="random", num_crops=64,
        mask_background_weight=0.1,
    )  # fmt: skip
    all_lefts = {view.crop_top_left(32)[1] for view in everywhere.views}
    assert len(all_lefts) == 64
    assert lefts == {left for left in all_lefts if left < 8}
    assert lefts


@pytest.mark.parametrize(
    ("prediction_type", "background"),
    [("epsilon", 0.0), ("epsilon", 0.3), ("v_prediction", 0.0)],
)
def test_the_loss_is_that_of_the_white_cells(
    tiny_base_dir: Path,
    tiny_v_prediction_base_dir: Path,
    photo_dir: Path,
    tmp_path: Path,
    prediction_type: str,
    background: float,
) -> None:
    epsilon = prediction_type == "epsilon"
    base = tiny_base_dir if epsilon else tiny_v_prediction_base_dir
    for name in NAMES:
        draw_mask(photo_dir / name, (0.1, 0.2, 0.55, 0.8), scale=2).save(
            photo_dir / f"{Path(name).stem}.mask.png"
        )
    data = DreamBoothDataModule(
        instance_dir=str(photo_dir), resolution=32, batch_size=2, horizontal_flip=True,
        mask_background_weight=background,
    )  # fmt: skip
    data.set_class_images([photo_dir / "00.png"])
    steps = recorded_fit(base, data, tmp_path, 3, prior_loss_weight=0.5)
    for step in steps:
        (call,) = step.calls
        losses = []
        for row, (index, view) in enumerate(
            zip(step.batch["sample_index"], step.batch["instance_view"], strict=True)
        ):
            name, flip = NAMES[view // 2], view % 2
            photo = square(Image.open(photo_dir / name), Image.Resampling.LANCZOS)
            mask = Image.open(photo_dir / f"{Path(name).stem}.mask.png").convert("F")
            greys = np.asarray(square(mask, Image.Resampling.BOX), dtype=np.float64)
            if flip:
                photo, greys = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT), greys[:, ::-1]
            timestep, noise, noisy = noised_by_hand(base, pixels_of(photo), "instance", index)
            torch.testing.assert_close(call.noisy[row], noisy, rtol=1e-4, atol=1e-5)
            target = noise if epsilon else velocity(noisy, noise, timestep, base)
            losses.append(weighted_error(call.prediction[row], target, greys / 255, background))
        for row, index in enumerate(step.batch["sample_index"], start=2):
            photo = square(Image.open(photo_dir / "00.png"), Image.Resampling.LANCZOS)
            if step.batch["class_view"][row - 2] % 2:
                photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            timestep, noise, noisy = noised_by_hand(base, pixels_of(photo), "class", index)
            target = noise if epsilon else velocity(noisy, noise, timestep, base)
            losses.append((call.prediction[row] - target).square().mean().item())
        expected = sum(losses[:2]) / 2 + 0.5 * sum(losses[2:]) / 2
        assert step.loss == pytest.approx(expected, rel=1e-4)


def square(image: Image.Image, filter_: Image.Resampling) -> Image.Image:
    """The middle of an image at 32 x 32."""
    left, top = ((side - min(image.size)) / 2 for side in image.size)
    box = (left, top, left + min(image.size), top + min(image.size))
    return image.resize((32, 32), filter_, box=box)


def velocity(noisy: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor, base: Path):
    """sqrt(a) noise - sqrt(1 - a) x_0, with x_0 solved from the noisy latent."""
    alpha = DDPMScheduler.from_pretrained(base / "scheduler").alphas_cumprod[timestep].double()
    start = (noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt()
    return (alpha.sqrt() * noise - (1 - alpha).sqrt() * start).float()


def weighted_error(
    prediction: torch.Tensor, target: torch.Tensor, greys: np.ndarray, background: float
) -> float:
    """Sum over channels and cells of weight * error^2, over the sum of the weights, one by one."""
    total = weights = 0.0
    channels, height, width = prediction.shape
    for channel in range(channels):
        for y in range(height):
            for x in range(width):
                cell = greys[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean()
                weight = cell + (1 - cell) * background
                error = (prediction[channel, y, x] - target[channel, y, x]).item() ** 2
                total += weight * error
                weights += weight
    return total / weights


@pytest.mark.parametrize(
    "suffix",
    [".mask.png", "-masklabel.png", "-mask.png", "_mask.png", ".MASK.PNG", "-mask.webp"],
)
def test_masks_of_other_tools(photo_dir: Path, suffix: str) -> None:
    mask_all(photo_dir, photo_dir, suffix)
    data = DreamBoothDataModule(instance_dir=str(photo_dir), resolution=32)
    assert [path.name for path in data.report.used] == list(NAMES)
    assert [view.mask.name for view in data.views] == [Path(n).stem + suffix for n in NAMES]
    (photo_dir / "00.png").unlink()
    report = DreamBoothDataModule(instance_dir=str(photo_dir), resolution=32).report
    assert [path.name for path in report.used] == list(NAMES[1:])
    (note,) = report.refused
    assert note.path.name == f"00{suffix}"
    assert "named like the mask of a photo 00, which is not here" in note.text


@pytest.mark.parametrize("in_folder", [False, True])
def test_the_names_of_masks_are_compared_in_one_form(
    photo_dir: Path, tmp_path: Path, in_folder: bool
) -> None:
    folder = tmp_path / "masks" if in_folder else photo_dir
    mask_all(photo_dir, folder, ".png" if in_folder else "-masklabel.png")
    composed, split = (unicodedata.normalize(form, "Hündin") for form in ("NFC", "NFD"))
    (photo_dir / "00.png").rename(photo_dir / f"{composed}.png")
    mask = next(path for path in folder.glob("00*"))
    mask = mask.rename(folder / mask.name.replace("00", split))
    data = DreamBoothDataModule(
        instance_dir=str(photo_dir), resolution=32, mask_dir=str(folder) if in_folder else None
    )
    assert len(data.report.used) == 5
    assert mask in {view.mask for view in data.views}


def test_masks_in_a_folder_may_have_any_of_the_names(photo_dir: Path, tmp_path: Path) -> None:
    photos = [photo_dir / name for name in NAMES]
    for suffix in ("-masklabel.png", ".PNG", ".webp"):
        folder = tmp_path / f"masks{suffix}"
        mask_all(photo_dir, folder, suffix)
        assert find_masks(photos, folder) == [folder / f"0{n}{suffix}" for n in range(5)]
    mask_all(photo_dir, photo_dir, "_mask.png")  # the photos are not their own masks
    assert find_masks(photos, photo_dir) == [photo_dir / f"0{n}_mask.png" for n in range(5)]
    (photo_dir / "02_mask.png").rename(photo_dir / "00.mask.png")
    with pytest.raises(UserError, match="00.png: has two masks, 00.mask.png and 00_mask.png"):
        find_masks(photos, photo_dir)


def test_odd_pictures_as_masks(photo_dir: Path, tmp_path: Path) -> None:
    photo = photo_dir / "01.png"
    mask = draw_mask(photo, (0.5, 0, 1, 1))
    labels = np.asarray(mask) // 255
    Image.fromarray(labels).save(tmp_path / "labels.png")
    Image.fromarray(labels.astype(np.float32)).save(tmp_path / "floats.tif")
    for name in ("labels.png", "floats.tif"):
        assert np.array_equal(np.asarray(read_mask(tmp_path / name, photo)), np.asarray(mask))
    Image.fromarray(np.full((48, 64), np.nan, np.float32)).save(tmp_path / "nan.tif")
    (tmp_path / "cut.png").write_bytes((tmp_path / "labels.png").read_bytes()[:50])
    for name in ("nan.tif", "cut.png", "gone.png"):
        with pytest.raises(UserError, match=f"{name}: cannot be read as a mask"):
            read_mask(tmp_path / name, photo)
