"""Class images against what `generate` draws; the folder after every way of leaving it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from killed import leave_unfinished
from PIL import Image

from dreambooth_pl.adapters import AdapterSettings, add_adapters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.data.class_images import MANIFEST, default_class_dir, ensure_class_images
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.png_metadata import read_png_metadata
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings

SETTINGS = SamplingSettings(num_inference_steps=2, batch_size=2)


@pytest.fixture(scope="module")
def base(tiny_base_dir: Path) -> Base:
    return load_base(str(tiny_base_dir))


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "dog"


class Counter:
    """Progress that remembers what it was told last."""

    def __init__(self) -> None:
        self.last = (0, 0)

    def __call__(self, done: int, total: int) -> None:
        self.last = (done, total)


def ensure(
    base: Base, folder: Path, count: int, settings: SamplingSettings = SETTINGS, **changes: object
) -> tuple[dict[str, bytes], tuple[int, int]]:
    """Return the images by name and how many of how many were drawn."""
    drawn = Counter()
    arguments = {"prompt": "a dog", "seed": 42, **changes}
    paths = ensure_class_images(
        base, count=count, sampling=settings, folder=folder, progress=drawn, **arguments
    )
    assert len(paths) == count
    return {path.name: Image.open(path).tobytes() for path in paths}, drawn.last


def test_images_are_the_untuned_bases_and_listed(
    base: Base, tiny_base_dir: Path, folder: Path
) -> None:
    tuned = load_base(str(tiny_base_dir))
    add_adapters(tuned, AdapterSettings(rank=2), train_text_encoder=True, seed=0)
    for module in tuned.adaptable.values():
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                parameter.data = torch.ones_like(parameter)
    images, drawn = ensure(tuned, folder, 3)
    assert drawn == (3, 3)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert list(manifest["files"]) == list(images) == ["00000.png", "00001.png", "00002.png"]
    assert manifest["recipe"]["prompt"] == "a dog"
    assert manifest["recipe"]["base_fingerprint"] == base.fingerprint
    seeds = [entry["seed"] for entry in manifest["files"].values()]
    assert len(set(seeds)) == 3
    again = generate(base, [ImageRequest("a dog", seed) for seed in seeds], SETTINGS)
    assert [image.tobytes() for image in again] == list(images.values())
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        metadata = read_png_metadata(folder / name)
        assert (metadata["seed"], metadata["lora_scale_unet"]) == (entry["seed"], 0)


def test_a_growing_count_tops_up(base: Base, folder: Path) -> None:
    three, _ = ensure(base, folder, 3)
    five, drawn = ensure(base, folder, 5)
    assert drawn == (2, 2)
    assert list(five.items())[:3] == list(three.items())
    assert ensure(base, folder, 5) == (five, (0, 0))
    assert ensure(base, folder, 2) == (dict(list(three.items())[:2]), (0, 0))
    (folder / "00001.png").unlink()
    assert ensure(base, folder, 5) == (five, (1, 1))
    assert sorted(p.name for p in folder.iterdir()) == sorted([*five, MANIFEST])


def test_interrupted_drawing_goes_on(base: Base, folder: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_class_images(base, "a dog", 5, SETTINGS, folder, 42, interrupt)
    left = leave_unfinished(folder / "00002.png")
    resumed, drawn = ensure(base, folder, 5)
    assert drawn == (3, 3)
    assert not left.exists()
    assert resumed == ensure(base, tmp_path / "whole", 5)[0]


def test_an_image_not_listed_yet_is_drawn_over(base: Base, folder: Path) -> None:
    images, _ = ensure(base, folder, 2)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"]["00001.png"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert ensure(base, folder, 2) == (images, (1, 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "a cat"},
        {"seed": 43},
        {"settings": replace(SETTINGS, scheduler="ddim")},
        {"settings": replace(SETTINGS, guidance_scale=3.0)},
        {"settings": replace(SETTINGS, num_inference_steps=3)},
        {"settings": replace(SETTINGS, negative_prompt="grey")},
        {"settings": replace(SETTINGS, resolution=48)},
    ],
)
def test_another_recipe_draws_anew(base: Base, folder: Path, changes: dict[str, object]) -> None:
    before, _ = ensure(base, folder, 3)
    (folder / "readme.txt").write_text("mine")
    after, drawn = ensure(base, folder, 2, **changes)
    assert drawn == (2, 2)
    assert not set(before.values()) & set(after.values())
    names = sorted(p.name for p in folder.iterdir())  # the third, stale one is gone
    assert names == ["00000.png", "00001.png", MANIFEST, "readme.txt"]
    assert ensure(base, folder, 2, **changes) == (after, (0, 0))


def test_strengths_and_batch_size_are_no_part_of_the_recipe(base: Base, folder: Path) -> None:
    ensure(base, folder, 2)
    other = replace(SETTINGS, lora_scale_unet=1.0, lora_scale_text_encoder=1.0, batch_size=4)
    assert ensure(base, folder, 2, other)[1] == (0, 0)


def test_another_base_draws_anew(
    base: Base, tiny_v_prediction_base_dir: Path, folder: Path
) -> None:
    ensure(base, folder, 1)
    assert ensure(load_base(str(tiny_v_prediction_base_dir)), folder, 1)[1] == (1, 1)


def test_pictures_of_the_users_own(base: Base, photo_dir: Path) -> None:
    before = {path.name: path.read_bytes() for path in photo_dir.iterdir()}
    paths = ensure_class_images(base, "a dog", 4, SETTINGS, photo_dir, 42)
    assert [path.name for path in paths] == sorted(before)[:4]
    with pytest.raises(UserError, match="holds 5 pictures of your own.*num_class_images is 6"):
        ensure_class_images(base, "a dog", 6, SETTINGS, photo_dir, 42)
    assert {path.name: path.read_bytes() for path in photo_dir.iterdir()} == before


def test_files_of_the_users_are_never_lost(base: Base, folder: Path) -> None:
    ensure(base, folder, 1)
    mine = folder / "00001.png"
    Image.new("RGB", (8, 8), "red").save(mine)
    with pytest.raises(UserError, match="00001.png: is in the way"):
        ensure(base, folder, 2)
    mine.rename(folder / "mine.png")
    ensure(base, folder, 2)
    Image.new("RGB", (8, 8), "blue").save(folder / "00000.png")
    for seed in (42, 43):  # whether the recipe is the same or not
        with pytest.raises(UserError, match=f"00000.png: is not the picture that {MANIFEST}"):
            ensure(base, folder, 2, seed=seed)
    colours = [Image.open(folder / name).getpixel((0, 0)) for name in ("mine.png", "00000.png")]
    assert colours == [(255, 0, 0), (0, 0, 255)]


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"recipe": {}, "files": {"../mine.png": {"sha256": ""}}}']
)
def test_a_broken_manifest(base: Base, folder: Path, content: str) -> None:
    ensure(base, folder, 1)
    (folder / MANIFEST).write_text(content)
    with pytest.raises(UserError, match=f"{MANIFEST}: is not a manifest"):
        ensure(base, folder, 1)


def test_a_file_where_the_folder_should_be(base: Base, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="data.class_dir"):
            ensure(base, path, 1)


def test_the_default_folder_is_one_per_recipe(base: Base) -> None:
    one = default_class_dir(base, "stuffed animal", "a stuffed animal", SETTINGS, 42)
    assert one.parent == Path("data/class_images")
    assert one.name.startswith("stuffed_animal-")
    other_scale = replace(SETTINGS, lora_scale_unet=1.0)
    assert default_class_dir(base, "stuffed animal", "a stuffed animal", other_scale, 42) == one
    assert default_class_dir(base, "stuffed animal", "a stuffed animal", SETTINGS, 43) != one
