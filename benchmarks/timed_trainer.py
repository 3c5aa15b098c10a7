"""The trainer that the benchmarks time: with its loggers, without bars and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger


def timed_trainer(folder: str | Path, clock: Callback, **settings: Any) -> Trainer:
    """Return a trainer that logs every tenth step into a folder.

    Args:
        folder: where the logs go.
        clock: notes the times.
        settings: more of `Trainer`'s arguments, such as `max_steps` and `accelerator`.
    """
    return Trainer(
        logger=[CSVLogger(folder), TensorBoardLogger(folder)],
        callbacks=[clock],
        log_every_n_steps=10,
        gradient_clip_val=1.0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **settings,
    )
