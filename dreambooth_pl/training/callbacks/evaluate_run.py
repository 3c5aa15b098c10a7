"""Evaluation of a run by `train.py test`: all ranks generate images, the first scores them."""

from __future__ import annotations

from dataclasses import dataclass

from lightning.pytorch import Callback, LightningModule, Trainer

from dreambooth_pl import distributed
from dreambooth_pl.adapters import save_adapters
from dreambooth_pl.evaluation.evaluate_runs import score_runs
from dreambooth_pl.evaluation.protocols import DEFAULT
from dreambooth_pl.evaluation.results import Result
from dreambooth_pl.evaluation.run_images import generate_images, settle_batch_sizes
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.runs.finished import Run


@dataclass(frozen=True)
class RunEvaluationSettings:
    """What `train.py test` evaluates."""

    protocol: str = DEFAULT
    """`short`, `dreambench`, `probes`, or the path of a YAML file of your own prompts."""


class RunEvaluation(Callback):
    """Evaluates a run as `evaluate.py` does, with the images split over Lightning's ranks.

    Each rank generates its share of the images into the run's `evaluation/` folder. The first rank
    then verifies and scores them all. An image depends only on its own prompt and seed, so the
    table is the same for any number of ranks.

    Args:
        run: the run to evaluate. If it has an `adapter`, that file is written first, from the
            adapters that Lightning has loaded from a checkpoint.
        settings: the protocol.
        reporter: shows how many images are generated.
    """

    def __init__(
        self, run: Run, settings: RunEvaluationSettings, reporter: ProgressReporter
    ) -> None:
        self.run = run
        self.settings = settings
        self.reporter = reporter
        self.results: list[Result] = []
        """Lines of the table; filled on the first rank only."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have all ranks ready to wait for each other."""
        distributed.open_waiting_group()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the adapter if needed, generate the images and score them."""
        first, device = trainer.is_global_zero, pl_module.device
        if self.run.adapter is not None and first:
            save_adapters(pl_module.base_model, pl_module.settings.lora, self.run.adapter.parent)
        if first:  # one rank alone: simultaneous measurements would disturb each other
            settle_batch_sizes([self.run], self.settings.protocol, device)
        distributed.wait()
        generate_images(
            [self.run],
            self.settings.protocol,
            device=device,
            reporter=self.reporter if first else None,
            shard=(trainer.global_rank, trainer.world_size),
        )
        distributed.wait()
        if first:
            self.results = score_runs(
                [self.run], self.settings.protocol, device=device, reporter=self.reporter
            )
        distributed.wait()
