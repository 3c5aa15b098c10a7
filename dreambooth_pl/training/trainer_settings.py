"""Which of the trainer's settings are the user's, their defaults, and what holds for every run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dreambooth_pl.bounds import Bounds, Filled

MAX_STEPS = 10_000_000

TRAINER_DEFAULTS = {
    "accelerator": "auto",
    "devices": 1,
    "max_steps": 1300,
    "log_every_n_steps": 10,
    "gradient_clip_val": 1.0,
}
# Settings of the trainer that would break the shape of a run, or change nothing in it: a run has
# one epoch, no validation, its own checkpoints, and an order of samples that is keyed by index.
TRAINER_FIXED = {
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}
TRAINER_HIDDEN = {
    "barebones",
    "check_val_every_n_epoch",
    "enable_autolog_hparams",
    "enable_checkpointing",
    "fast_dev_run",
    "inference_mode",
    "limit_predict_batches",
    "limit_test_batches",
    "limit_train_batches",
    "limit_val_batches",
    "max_epochs",
    "min_epochs",
    "min_steps",
    "model_registry",
    "overfit_batches",
    "reload_dataloaders_every_n_epochs",
    "sync_batchnorm",
    "val_check_interval",
}
TRAINER_HELP = {
    "max_steps": "Length of the run in optimiser steps.",
    "default_root_dir": "Folder in which lightning_logs/ is; null for the working directory.",
    "logger": "Loggers beside the run's own two (TensorBoard, CSV); false for none at all.",
    "gradient_clip_val": "Largest norm of the gradient; longer ones are shortened. null: no limit.",
    "log_every_n_steps": "Optimiser steps between two points of the training curves.",
}
# The trainer's settings by which runs compare in TensorBoard; the others are about the machine.
COMPARED_TRAINER = {
    "trainer.max_steps",
    "trainer.accumulate_grad_batches",
    "trainer.gradient_clip_val",
    "trainer.precision",
}
# Adapters and optimiser are float32 in all of these; Lightning's "true" half precisions cast them.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
PRECISION_ALIASES = {None, 32, 16, "32", "16", "bf16", *PRECISIONS}


@dataclass(frozen=True)
class TrainerNumbers:
    """The numbers among the trainer's settings, as Lightning names them."""

    max_steps: Annotated[int, Bounds(1, MAX_STEPS)]
    accumulate_grad_batches: Annotated[
        int, Bounds(1, 10_000, remedy="1 makes a step of every batch.")
    ]
    log_every_n_steps: Annotated[int, Bounds(1, MAX_STEPS)] | None
    gradient_clip_val: (
        Annotated[float, Bounds(0, 1e6, open_low=True, remedy="null is no limit.")] | None
    )
    num_nodes: Annotated[int, Bounds(1, 10_000)]
    devices: Annotated[int, Bounds(-1, 1024, remedy="auto takes all there are.")] | list[int] | str
    default_root_dir: Annotated[str, Filled("the path of a folder, or null")] | None
