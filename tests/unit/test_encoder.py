"""Encoded pictures and prompts that are kept on the disk, and photos that are read ahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from training import DrawnData, Losses, fit, new_module

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.data.photos import read_ahead, read_photo
from dreambooth_pl.data.views import View
from dreambooth_pl.errors import UserError
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.training.encoder import Encoder, Moments


@pytest.fixture()
def views(photo_dir: Path) -> list[View]:
    """Two ways of looking at each of three photos."""
    photos = sorted(photo_dir.iterdir())[:3]
    return [View(path, "a sks dog", flip=flip) for path in photos for flip in (False, True)]


@pytest.fixture()
def base(tiny_base_dir: Path) -> Base:
    return load_base(str(tiny_base_dir))


class Calls:
    """Counts a network's calls."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.count = 0
        network.register_forward_pre_hook(self._note)

    def _note(self, *_) -> None:
        self.count += 1


def same(one: list[Moments], other: list[Moments]) -> bool:
    return all(
        torch.equal(a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_moments_are_those_of_each_view_alone(base: Base, views: list[View]) -> None:
    found = Encoder(base).latent_moments(views, 32)
    alone = [base.encode_images(view.pixels(32)[None]) for view in views]
    assert same(found, [(mean[0], std[0]) for mean, std in alone])


def test_what_was_kept_is_found_to_the_bit(base: Base, views: list[View], tmp_path: Path) -> None:
    encoder, cache = Calls(base.vae.encoder), tmp_path / "cache"
    first = Encoder(base, cache).latent_moments(views, 32)
    assert encoder.count == len(views)
    assert same(Encoder(base, cache).latent_moments(views[::-1], 32), first[::-1])
    assert encoder.count == len(views), "encoded again"
    assert len(list(cache.iterdir())) == len(views)


def test_whatever_changes_the_result_is_encoded_anew(
    base: Base, views: list[View], tmp_path: Path, tiny_v_prediction_base_dir: Path
) -> None:
    cache, view = tmp_path / "cache", views[0]
    Encoder(base, cache).latent_moments([view], 32)

    def count(base: Base, view: View, resolution: int = 32) -> int:
        calls = Calls(base.vae.encoder)
        Encoder(base, cache).latent_moments([view], resolution)
        return calls.count

    assert count(base, replace(view, prompt="other words")) == 0
    assert count(base, replace(view, flip=True)) == 1
    assert count(base, replace(view, centering=(0.0, 0.5))) == 1
    assert count(base, replace(view, size=(32, 48))) == 1
    assert count(base, view, 48) == 1
    assert count(load_base(str(tiny_v_prediction_base_dir)), view) == 1
    pixels = read_photo(view.path)
    pixels.putpixel((0, 0), (1, 2, 3))
    pixels.save(view.path)
    assert count(base, view) == 1


def test_a_damaged_file_counts_as_none(base: Base, views: list[View], tmp_path: Path) -> None:
    first = Encoder(base, tmp_path / "cache").latent_moments(views[:1], 32)
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    assert same(Encoder(base, tmp_path / "cache").latent_moments(views[:1], 32), first)
    with safe_open(kept, "pt") as file:
        assert torch.equal(file.get_tensor("mean"), first[0][0])


def test_a_file_of_other_facts_counts_as_none(
    base: Base, views: list[View], tmp_path: Path
) -> None:
    first = Encoder(base, tmp_path / "cache").latent_moments(views[:1], 32)
    (kept,) = (tmp_path / "cache").iterdir()
    Encoder(base, tmp_path / "cache").latent_moments(views[2:3], 32)
    (other,) = {*(tmp_path / "cache").iterdir()} - {kept}
    other.replace(kept)  # as a careless copy would
    assert same(Encoder(base, tmp_path / "cache").latent_moments(views[:1], 32), first)


def test_prompts_are_kept_too(base: Base, tmp_path: Path) -> None:
    prompts, calls = ["a sks dog", "a dog"], Calls(base.text_encoders[0])
    first = Encoder(base, tmp_path).conditioning(prompts)
    again = Encoder(base, tmp_path).conditioning(prompts)
    assert calls.count == 1
    assert torch.equal(again.hidden_states, first.hidden_states)
    Encoder(base, tmp_path).conditioning(prompts[::-1])
    assert calls.count == 2


def test_a_run_with_kept_results_is_the_same_run(tiny_base_dir: Path, tmp_path: Path) -> None:
    def losses() -> list[Tensor]:
        data, losses = DrawnData(), Losses()
        data.cache_dir = tmp_path / "cache"
        fit(new_module(tiny_base_dir), data, tmp_path / "run", losses)
        return losses.values

    first = losses()
    assert len(list((tmp_path / "cache").iterdir())) == 6  # five pictures, the prompts
    assert losses() == first


def test_many_pictures_show_their_progress(base: Base, views: list[View], capsys) -> None:
    encoder = Encoder(base, reporter=ProgressReporter())
    encoder.latent_moments(views, 32)
    assert capsys.readouterr().err == ""
    encoder.latent_moments(views * 4, 32)
    assert "encoding pictures 24/24" in capsys.readouterr().err


def test_photos_are_read_ahead_in_their_order(photo_dir: Path) -> None:
    paths = sorted(photo_dir.iterdir()) * 3
    found = [photo.tobytes() for photo in read_ahead(paths)]
    assert found == [read_photo(path).tobytes() for path in paths]
    assert list(read_ahead([])) == []


def test_a_photo_that_cannot_be_read_is_told_when_its_turn_comes(photo_dir: Path) -> None:
    paths = sorted(photo_dir.iterdir())
    paths[2].write_bytes(b"nothing")
    photos = read_ahead(paths)
    assert isinstance(next(photos), Image.Image)
    assert isinstance(next(photos), Image.Image)
    with pytest.raises(UserError, match=paths[2].name):
        next(photos)
