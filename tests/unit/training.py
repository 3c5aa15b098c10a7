"""A little training by hand: drawn data, a module, a trainer without callbacks."""

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from PIL import Image
from torch.utils.data import DataLoader, Sampler

from dreambooth_pl.adapters import AdapterSettings
from dreambooth_pl.data.views import View
from dreambooth_pl.training.module import DreamBooth

SETTINGS = AdapterSettings(rank=4, alpha=8.0)
STEPS = 4


@lru_cache
def drawn_view(prompt: str, key: int) -> View:
    """A view of a picture of noise."""
    folder = Path(tempfile.mkdtemp(prefix="drawn-"))
    atexit.register(shutil.rmtree, folder)
    pixels = np.random.default_rng(key).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "drawn.png")
    return View(folder / "drawn.png", prompt)


class Remaining(Sampler):
    """Yields what a resumed run has left, but has the whole run's length, as Lightning counts."""

    def __init__(self, first: int, total: int) -> None:
        self.first, self.total = first, total

    def __iter__(self):
        return iter(range(self.first, self.total))

    def __len__(self) -> int:
        return self.total


class DrawnData(LightningDataModule):
    """Two instance and three class views; sample i is a function of i, an epoch is the run."""

    resolution = 32
    cache_dir: Path | None = None

    def __init__(self, batch_size: int = 2, prior: bool = True, steps: int = STEPS) -> None:
        super().__init__()
        self.batch_size, self.prior, self.steps = batch_size, prior, steps
        self.views = [drawn_view("a sks dog", 0), drawn_view("a sks dog", 1)]
        if prior:
            self.views += [drawn_view("a dog", 2), drawn_view("a dog", 3), drawn_view("a dog", 4)]

    def sample(self, index: int) -> dict[str, int]:
        sample = {"instance_view": index % 2, "sample_index": index}
        return sample | ({"class_view": 2 + index % 3} if self.prior else {})

    def train_dataloader(self) -> DataLoader:
        samples = [self.sample(index) for index in range(self.steps * self.batch_size)]
        remaining = Remaining(self.trainer.global_step * self.batch_size, len(samples))
        return DataLoader(samples, batch_size=self.batch_size, sampler=remaining)


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.values.append(outputs["loss"].item())


def new_module(folder, **options) -> DreamBooth:
    return DreamBooth(base=str(folder), **({"lora": SETTINGS} | options))


def fit(module, data, folder, *callbacks, steps=STEPS, ckpt_path=None, **options) -> Trainer:
    defaults = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=folder,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        callbacks=list(callbacks),
        log_every_n_steps=1,
        **(defaults | options),
    )
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer
