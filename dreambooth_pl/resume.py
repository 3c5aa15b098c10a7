"""Going on from a checkpoint: what must be the same as when it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dreambooth_pl.callbacks.checkpoints import CONFIG_KEY
from dreambooth_pl.dotted_keys import flatten
from dreambooth_pl.errors import UserError

SWITCH = "model.allow_changed_settings"
FREE = (SWITCH, "model.gradient_checkpointing")  # change nothing in the results
COMPARED = ("seed_everything", "model", "data", "trainer.accumulate_grad_batches")


def load_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint of this project's training, on the CPU and without running code in it.

    Raises:
        UserError: no such file, or it is no such checkpoint.
    """
    if not Path(path).is_file():
        raise UserError(
            f"ckpt_path: there is no file {path!r}. Checkpoints lie in "
            "lightning_logs/NAME/version_N/checkpoints/."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are no checkpoints
        raise UserError(f"ckpt_path: {path!r} cannot be read as a checkpoint.") from error
    if CONFIG_KEY not in checkpoint:
        raise UserError(f"ckpt_path: {path!r} was not written by train.py.")
    return checkpoint


def check_same_config(checkpoint: dict[str, Any], config: dict[str, Any]) -> None:
    """Raise UserError if `config` differs from the checkpoint's in what shapes the training.

    More steps, other probes or another logger are no difference; model, data, seed and batch are.
    """
    before, now = flatten(checkpoint[CONFIG_KEY]), flatten(config)
    keys = [
        key
        for key in sorted(before.keys() | now.keys())
        if any(key == part or key.startswith(f"{part}.") for part in COMPARED) and key not in FREE
    ]
    changed = [
        f"{key} is {now.get(key)!r}, was {before.get(key)!r}"
        for key in keys
        if now.get(key) != before.get(key)
    ]
    if changed:
        raise UserError(
            f"The config differs from the checkpoint's: {'; '.join(changed)}. Set these back, or "
            f"pass --{SWITCH}=true to go on with the new values."
        )
