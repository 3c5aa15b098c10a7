"""Class images for the prior-preservation loss: the untuned base generates them first."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from dreambooth_pl.bases.base import Base
from dreambooth_pl.data.class_images import default_class_dir, ensure_class_images
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.sampling.batch_size import settle_batch_size
from dreambooth_pl.sampling.settings import SamplingSettings


class ClassImages(Callback):
    """Gives the data module its class images before training starts.

    The images are generated with the run's sampler settings. They stay in a cache folder, where
    later runs find them. Without prior loss (weight 0, or no class images) nothing is generated.

    Args:
        sampling: the run's sampler settings.
        reporter: shows how many images are generated.
    """

    def __init__(self, sampling: SamplingSettings, reporter: ProgressReporter) -> None:
        self.sampling = sampling
        self.reporter = reporter

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generate missing images on the first rank; the others wait and read the same files."""
        data = trainer.datamodule
        count = data.num_class_images if pl_module.settings.prior_loss_weight > 0 else 0
        if count == 0:
            data.set_class_images([])
            return
        if trainer.is_global_zero:
            self._ensure(data, pl_module.base_model, count)
        trainer.strategy.barrier()
        data.set_class_images(self._ensure(data, pl_module.base_model, count))

    def _ensure(self, data: DreamBoothDataModule, base: Base, count: int) -> list[Path]:
        prompt = data.class_prompt
        sampling = settle_batch_size(base, self.sampling, count)
        folder = data.class_dir or default_class_dir(
            base, data.class_noun, prompt, sampling, data.seed
        )
        with self.reporter.task(f"class images ({prompt})", total=count) as task:
            return ensure_class_images(
                base, prompt, count, sampling, folder, data.seed, progress=task.update
            )
