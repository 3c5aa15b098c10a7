"""Distances against torchmetrics' own LPIPS and against loops over patches; when which is used."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import AlexNet_Weights, alexnet

from dreambooth_pl.errors import UserError
from dreambooth_pl.metrics.distances import LpipsDistance, PatchDistance, load_distance
from dreambooth_pl.metrics.encoders import Encoders, EncoderSettings, load_encoders


def photos(count: int, size: tuple[int, int]) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    shape = (count, size[1], size[0], 3)
    return [Image.fromarray(p) for p in generator.integers(0, 256, shape, dtype=np.uint8)]


@pytest.fixture()
def encoders(tiny_clip: str, tiny_dino: str) -> Encoders:
    return load_encoders(EncoderSettings(clip=tiny_clip, dino=tiny_dino))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of torch that holds an AlexNet with random weights."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "checkpoints").mkdir()
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in alexnet().state_dict().items()}
    weights = {
        name: torch.randn(shape, generator=generator) * 0.05
        if name.startswith("features.")
        else torch.zeros(1).expand(shape)  # LPIPS takes none of these; so they make a small file
        for name, shape in shapes.items()
    }
    name = AlexNet_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    torch.save(weights, folder / "checkpoints" / name)
    return folder


@pytest.fixture()
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


def test_lpips_equals_torchmetrics_own(
    cache: Path, encoders: Encoders, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(cache))
    distance = load_distance(EncoderSettings(), encoders)
    assert "LPIPS" in distance.name
    images = photos(3, (80, 72))
    got = distance(images)
    theirs = LearnedPerceptualImagePatchSimilarity("alex", normalize=True)  # from the same cache
    pixels = [torch.tensor(np.asarray(i)).permute(2, 0, 1)[None] / 255 for i in images]
    for i, j in itertools.combinations(range(3), 2):
        expected = theirs(pixels[i], pixels[j]).item()
        assert expected > 0.01, "random weights tell noise apart, too"
        assert got[i, j].item() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(got, got.T) and (got.diagonal() == 0).all()

    file = next((cache / "checkpoints").iterdir())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(cache / "empty"))
    by_file = load_distance(EncoderSettings(lpips=str(file)), encoders)
    assert torch.equal(by_file(images), got)
    small = by_file(photos(2, (20, 30)))
    assert small[0, 1] > 0, "too small for AlexNet as they are"
    with pytest.raises(UserError, match="20 x 20 and 80 x 72"):
        by_file([*images, *photos(1, (20, 20))])


def test_without_weights_dino_patches_stand_in(
    tmp_path: Path,
    encoders: Encoders,
    tiny_dino: str,
    monkeypatch: pytest.MonkeyPatch,
    no_network: None,
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    distance = load_distance(EncoderSettings(), encoders)
    assert isinstance(distance, PatchDistance) and "LPIPS" not in distance.name
    images = photos(3, (32, 32))
    got = distance(images)

    model = timm.create_model(tiny_dino, pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.no_grad():
        tokens = model.forward_features(torch.stack([transform(i) for i in images]))[:, 1:]
    for i, j in itertools.product(range(3), repeat=2):
        cosines = [
            torch.nn.functional.cosine_similarity(a, b, dim=0).item()
            for a, b in zip(tokens[i], tokens[j], strict=True)
        ]
        assert got[i, j].item() == pytest.approx(1 - sum(cosines) / len(cosines), abs=1e-5)
    assert torch.equal(got, got.T) and (got.diagonal() == 0).all()


def test_a_download_that_fails_is_told(
    tmp_path: Path, encoders: Encoders, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"fidelity\.lpips: .* could not be downloaded"):
        load_distance(EncoderSettings(lpips="download"), encoders)


def test_files_that_are_no_alexnet_are_refused(tmp_path: Path, encoders: Encoders) -> None:
    with pytest.raises(UserError, match="there is no file"):
        load_distance(EncoderSettings(lpips=str(tmp_path / "none.pth")), encoders)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match="cannot be read"):
        load_distance(EncoderSettings(lpips=str(tmp_path / "text.pth")), encoders)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not hold AlexNet"):
        load_distance(EncoderSettings(lpips=str(tmp_path / "other.pth")), encoders)


def test_one_image_has_no_distance_to_others(encoders: Encoders) -> None:
    assert PatchDistance(encoders.dino)(photos(1, (32, 32))).tolist() == [[0]]
    assert LpipsDistance.name != PatchDistance.name
