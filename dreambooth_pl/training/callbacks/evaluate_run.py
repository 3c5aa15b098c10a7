"""A protocol's images of a run's adapters, drawn by all ranks together and scored by the first."""

from __future__ import annotations

from dataclasses import dataclass

from lightning.pytorch import Callback, LightningModule, Trainer

from dreambooth_pl.adapters import save_adapters
from dreambooth_pl.evaluation.evaluate import generate_images, score_runs, settle_batch_sizes
from dreambooth_pl.evaluation.lines import Line
from dreambooth_pl.evaluation.protocols import PROBES
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.runs.finished import Run


@dataclass(frozen=True)
class RunEvaluationSettings:
    """What `train.py test` evaluates."""

    __test__ = False  # not pytest's

    protocol: str = PROBES
    """`probes`, `dreambench`, or the path of a YAML file of your own prompts."""


class RunEvaluation(Callback):
    """Evaluates as `evaluate.py` does, while Lightning spreads the drawing over ranks.

    Each rank draws its share of the images into the run's `evaluation/` folder; then the first
    finds them all there, verified, and scores them. Every image depends on its own prompt and seed
    alone, so the number of ranks does not show in the table.

    Args:
        run: what is evaluated. Where it has an `adapter`, the file is written first, from the
            adapters that Lightning has loaded from a checkpoint.
        settings: which protocol.
        reporter: shows how many images are drawn.
    """

    def __init__(
        self, run: Run, settings: RunEvaluationSettings, reporter: ProgressReporter
    ) -> None:
        self.run = run
        self.settings = settings
        self.reporter = reporter
        self.lines: list[Line] = []
        """The table's, on the first rank."""

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do all the work."""
        first, device = trainer.is_global_zero, pl_module.device
        if self.run.adapter is not None and first:
            save_adapters(pl_module.base_model, pl_module.settings.lora, self.run.adapter.parent)
        if first:  # alone: two that measure at once would disturb each other
            settle_batch_sizes([self.run], self.settings.protocol, device)
        trainer.strategy.barrier()
        generate_images(
            [self.run],
            self.settings.protocol,
            device=device,
            reporter=self.reporter if first else None,
            shard=(trainer.global_rank, trainer.world_size),
        )
        trainer.strategy.barrier()
        if first:
            self.lines = score_runs(
                [self.run], self.settings.protocol, device=device, reporter=self.reporter
            )
        trainer.strategy.barrier()
