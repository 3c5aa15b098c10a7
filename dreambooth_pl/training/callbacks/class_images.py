"""Class images for the prior-preservation loss: the untuned base generates them first."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from dreambooth_pl.bases.base import Base
from dreambooth_pl.data.class_images import default_class_dir, ensure_class_images
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.distributed import open_waiting_group
from dreambooth_pl.errors import UserError
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.sampling.batch_size import settle_batch_size
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.sampling.shared import work_together


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

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have all ranks ready to wait for images."""
        open_waiting_group()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generate missing images on all ranks; the first one saves them.

        Raises:
            UserError: another rank does not see the images, as on a machine with other disks.
        """
        data = trainer.datamodule
        count = data.num_class_images if pl_module.settings.prior_loss_weight > 0 else 0
        if count == 0:
            data.set_class_images([])
            return
        base = pl_module.base_model
        paths = work_together(base, lambda: self._ensure(data, base, count))
        for path in paths:
            if not path.is_file():
                raise UserError(
                    f"data.class_dir: the class image {path} is not on this machine. Set it to a "
                    "folder that all machines of the run share."
                )
        data.set_class_images(paths)

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
