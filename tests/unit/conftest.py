"""Finished runs on a tiny random base, for tests of their evaluation."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import yaml

from dreambooth_pl.adapters import (
    AdapterSettings,
    add_adapters,
    save_adapters,
    trainable_parameters,
)
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.evaluation import run_images
from dreambooth_pl.metrics import distances
from dreambooth_pl.metrics.encoders import EncoderSettings, load_encoders
from dreambooth_pl.sampling import batch_size as throughput
from dreambooth_pl.sampling.settings import SamplingSettings

load_base_once, load_encoders_once = lru_cache(load_base), lru_cache(load_encoders)
SAMPLING = SamplingSettings(
    num_inference_steps=2,
    guidance_scale=2.0,
    lora_scale_unet=1.0,
    lora_scale_text_encoder=1.0,
    batch_size=4,
)


@pytest.fixture(scope="session")
def adapters(tiny_base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with a random adapter each, on UNet and text encoder."""
    base = load_base(str(tiny_base_dir))
    lora = AdapterSettings(rank=2, alpha=4.0)
    add_adapters(base, lora, train_text_encoder=True, seed=0)
    folders = {}
    for seed, identifier in enumerate(("sks", "hta")):
        generator = torch.Generator().manual_seed(seed)
        for parameters in trainable_parameters(base).values():
            for parameter in parameters.values():
                parameter.data.normal_(std=0.5, generator=generator)
        folders[identifier] = tmp_path_factory.mktemp(identifier)
        save_adapters(base, lora, folders[identifier])
    return folders


@pytest.fixture(scope="session")
def measured_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for what the machine's best batch size is measured to be."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture()
def make_run(
    measured_once: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    photo_dir: Path,
    tiny_base_dir: Path,
    tiny_clip: str,
    tiny_dino: str,
    adapters: dict[str, Path],
) -> Callable[..., Path]:
    """Write a finished run's folder as training leaves it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(measured_once))
    monkeypatch.setattr(distances, "load_encoders", load_encoders_once)  # loading takes longest
    monkeypatch.setattr(run_images, "load_base", load_base_once)
    monkeypatch.setattr(throughput, "measure_rates", lambda *_: {4: 1.0})

    def make(name: str = "sks/version_0", identifier: str = "sks", **data: str) -> Path:
        folder = tmp_path / "logs" / name
        shutil.copytree(adapters[identifier], folder / "lora")
        config = {
            "seed_everything": 42,
            "model": {"base": str(tiny_base_dir), "revision": None, "variant": None},
            "data": {
                "instance_dir": str(photo_dir),
                "identifier": identifier,
                "class_noun": "dog",
                **data,
            },
            "sampling": asdict(SAMPLING),
            "fidelity": asdict(EncoderSettings(clip=tiny_clip, dino=tiny_dino)),
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return folder

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
