"""Training in process, on the tiny random base, in a working directory of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from dreambooth_pl import cli

STEPS = 6


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


@pytest.fixture()
def checkpoint() -> Callable[[cli.DreamBoothCLI], dict[str, Any]]:
    """Read what a run's last checkpoint holds."""

    def read(command: cli.DreamBoothCLI) -> dict[str, Any]:
        path = command.run_folder / "checkpoints" / "last.ckpt"
        return torch.load(path, weights_only=True)

    return read
