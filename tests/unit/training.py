"""A little training by hand: drawn data, a module, a trainer without callbacks."""

from dataclasses import dataclass

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from dreambooth_pl.adapters import AdapterSettings
from dreambooth_pl.training.module import DreamBooth

SETTINGS = AdapterSettings(rank=4, alpha=8.0)
STEPS = 4


@dataclass(frozen=True)
class DrawnView:
    prompt: str
    key: int
    original_size = (32, 32)

    def crop_top_left(self, resolution: int) -> tuple[int, int]:
        return (0, 0)

    def loss_weights(self, resolution: int) -> None:
        return None

    def pixels(self, resolution: int) -> Tensor:
        rng = torch.Generator().manual_seed(self.key)
        return torch.rand(3, resolution, resolution, generator=rng) * 2 - 1


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

    def __init__(self, batch_size: int = 2, prior: bool = True, steps: int = STEPS) -> None:
        super().__init__()
        self.batch_size, self.prior, self.steps = batch_size, prior, steps
        self.views = [DrawnView("a sks dog", 0), DrawnView("a sks dog", 1)]
        if prior:
            self.views += [DrawnView("a dog", 2), DrawnView("a dog", 3), DrawnView("a dog", 4)]

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
