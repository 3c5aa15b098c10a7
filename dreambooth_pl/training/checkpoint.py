"""What a checkpoint of training holds, and what must agree for it to be continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreambooth_pl.adapters import adapter_state_dict
from dreambooth_pl.bases.base import Base
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.dotted_keys import flatten
from dreambooth_pl.training.settings import ModelSettings

CONFIG_KEY = "dreambooth_pl_config"  # where the run's whole configuration is, in plain types
PROCESSES_KEY = "dreambooth_pl_processes"  # how many processes have trained together
SWITCH = "model.allow_changed_settings"
# Change nothing in the results, or their rounding alone.
FREE = (SWITCH, "model.gradient_checkpointing", "model.compile", "model.cuda_graph")
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
    _check_same(_shaping(checkpoint[CONFIG_KEY]), _shaping(config))


def check_steps(checkpoint: dict[str, Any], path: str | Path, max_steps: int) -> None:
    """Raise UserError if the checkpoint has more steps than the run is to have."""
    step = checkpoint["global_step"]
    if step > max_steps:
        raise UserError(
            f"{path} is at step {step} already; raise trainer.max_steps, which is {max_steps}."
        )


def check_same_processes(checkpoint: dict[str, Any], count: int) -> None:
    """Raise UserError if a checkpoint was written by another number of processes than `count`.

    The processes share the samples of a step, so with another number other samples would follow. A
    checkpoint without the number, of an earlier version, agrees with all.
    """
    before = checkpoint.get(PROCESSES_KEY, count)
    if before != count:
        raise UserError(
            f"The checkpoint is of a run with {before} process{'es' * (before > 1)} "
            f"(trainer.devices times trainer.num_nodes), this one has {count}. Set these back, or "
            f"pass --{SWITCH}=true to go on with other samples in a step."
        )


def write_contract(checkpoint: dict[str, Any], base: Base, settings: dict[str, Any]) -> None:
    """Put what is trained, the settings and the fingerprint of the base into a checkpoint."""
    checkpoint["state_dict"] = {n: _alone(t) for n, t in adapter_state_dict(base).items()}
    checkpoint["base"] = {"name": base.name, "fingerprint": base.fingerprint}
    checkpoint["settings"] = settings


def check_contract(
    checkpoint: dict[str, Any], base: Base, settings: dict[str, Any], allow_changed_settings: bool
) -> None:
    """Check that a checkpoint can be continued with this base and these settings.

    A setting that the checkpoint does not know had its default.

    Raises:
        UserError: naming what differs and what to do.
    """
    written = checkpoint.get("base")
    if written is None:
        raise UserError("the checkpoint was not written by this project's training")
    if written["fingerprint"] != base.fingerprint:
        raise UserError(
            f"the checkpoint belongs to the base {written['name']!r} (fingerprint "
            f"{written['fingerprint']}), model.base is {base.name!r} (fingerprint "
            f"{base.fingerprint}). Set model.base to the checkpoint's base."
        )
    if not allow_changed_settings:
        before = ModelSettings().contract() | checkpoint["settings"]
        _check_same(*({f"model.{k}": v for k, v in own.items()} for own in (before, settings)))
    mine, theirs = adapter_state_dict(base), checkpoint["state_dict"]
    shapes = {name: tensor.shape for name, tensor in mine.items()}
    if shapes != {name: tensor.shape for name, tensor in theirs.items()}:
        raise UserError(
            f"the checkpoint's {len(theirs)} adapter weights do not fit the {len(mine)} of "
            "this run; model.lora and model.train_text_encoder must be those of its run."
        )


def _alone(tensor: Tensor) -> Tensor:
    """Return a tensor in memory of its own: a file holds a tensor's memory whole."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _shaping(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a config that shape the training, by dotted key."""
    return {
        key: value
        for key, value in flatten(config).items()
        if key not in FREE and any(f"{key}.".startswith(f"{part}.") for part in COMPARED)
    }


def _check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise UserError that names the settings, by dotted key, which are not what they were."""
    if changed := _differences(before, now):
        raise UserError(
            f"The config differs from the checkpoint's: {'; '.join(changed)}. Set these back, or "
            f"pass --{SWITCH}=true to go on with the new values."
        )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{key} is {now.get(key)!r}, was {before.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if now.get(key) != before.get(key)
    ]
