"""Training in process, on the tiny random base, in a working directory of its own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from dreambooth_pl.commands import train as cli
from dreambooth_pl.training.module import DreamBooth

STEPS = 6
os.environ.setdefault("DREAMBOOTH_PL_ALLOW_CLASSES", "interruption")


@dataclass
class Fit:
    """Runs `train.py fit` with few, small steps; what it writes goes below `cwd`."""

    cwd: Path
    base: Path
    photos: Path

    def arguments(self, **keys: Any) -> list[str]:
        """Return the command line; `keys` are the dotted keys with `__` for the dot."""
        settings = {
            "model.base": self.base,
            "data.instance_dir": self.photos,
            "data.resolution": 32,
            "data.num_class_images": 3,
            "sampling.num_inference_steps": 2,
            "probe.every_n_steps": 3,
            "fidelity.clip": f"local-dir:{self.base / 'clip'}",
            "fidelity.dino": f"local-dir:{self.base / 'dino'}",
            "trainer.max_steps": STEPS,
            "trainer.log_every_n_steps": 1,
            "trainer.accelerator": "cpu",
        }
        settings |= {key.replace("__", "."): value for key, value in keys.items()}
        return ["fit", *(f"--{key}={value}" for key, value in settings.items())]

    def main(self, **keys: Any) -> int:
        """Run the command as a user does; return its exit status."""
        return cli.main(self.arguments(**keys))

    def run(self, **keys: Any) -> cli.DreamBoothCLI:
        """Run the command; return it with model, data and trainer as they are afterwards."""
        cli.quiet_libraries()
        command = cli.DreamBoothCLI(self.arguments(**keys))
        assert command.run_folder.is_dir()
        return command


@pytest.fixture()
def fit(
    tmp_path: Path, tiny_base_dir: Path, photo_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Fit:
    """Training in a fresh working directory."""
    cwd = tmp_path / "work"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    return Fit(cwd, tiny_base_dir, photo_dir)


@pytest.fixture(scope="session")
def fit_command() -> type[Fit]:
    """The class, for fixtures that outlive a test."""
    return Fit


@dataclass
class Finished:
    """A finished run in a working directory of its own; `model` is as it was at the end."""

    run: Path
    photos: Path
    model: DreamBooth


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_base_dir: Path,
    write_photos: Callable[[Path], Path],
) -> tuple[Path, Finished]:
    """A run with the settings of `Fit`, trained once, and the working directory that it is in."""
    photos = write_photos(tmp_path_factory.mktemp("trained") / "photos")
    cwd = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["train.py"])
        command = Fit(cwd, tiny_base_dir, photos).run()
    return cwd, Finished(command.run_folder, photos, command.model)


@pytest.fixture()
def finished(
    trained: tuple[Path, Finished], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Finished:
    """A finished run, for a test to do with its folder what it likes."""
    source, found = trained
    monkeypatch.chdir(shutil.copytree(source, tmp_path / "work"))
    monkeypatch.setattr(sys, "argv", ["train.py"])
    return found


@pytest.fixture()
def checkpoint() -> Callable[[cli.DreamBoothCLI], dict[str, Any]]:
    """Read what a run's last checkpoint holds."""

    def read(command: cli.DreamBoothCLI) -> dict[str, Any]:
        path = command.run_folder / "checkpoints" / "last.ckpt"
        return torch.load(path, weights_only=True)

    return read
