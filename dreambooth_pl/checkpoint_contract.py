"""What a checkpoint of training holds, and what must agree for it to be continued."""

from __future__ import annotations

from typing import Any

from dreambooth_pl.errors import UserError
from dreambooth_pl.lora import adapter_state_dict
from dreambooth_pl.models import Base


def write_contract(checkpoint: dict[str, Any], base: Base, settings: dict[str, Any]) -> None:
    """Put what is trained, the settings and the fingerprint of the base into a checkpoint."""
    checkpoint["state_dict"] = adapter_state_dict(base)
    checkpoint["base"] = {"name": base.name, "fingerprint": base.fingerprint}
    checkpoint["settings"] = settings


def check_contract(
    checkpoint: dict[str, Any], base: Base, settings: dict[str, Any], allow_changed_settings: bool
) -> None:
    """Check that a checkpoint can be continued with this base and these settings.

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
    older = {"frozen_dtype": "float32", "noise_offset": 0.0}  # what was so before it was said
    before = older | checkpoint["settings"]
    differing = [
        f"model.{name} is {value!r}, was {before.get(name)!r}"
        for name, value in settings.items()
        if before.get(name) != value
    ]
    if differing and not allow_changed_settings:
        raise UserError(
            f"the checkpoint was trained with other settings: {'; '.join(differing)}. Set them "
            "back, or pass --model.allow_changed_settings=true to go on with the new ones."
        )
    mine, theirs = adapter_state_dict(base), checkpoint["state_dict"]
    shapes = {name: tensor.shape for name, tensor in mine.items()}
    if shapes != {name: tensor.shape for name, tensor in theirs.items()}:
        raise UserError(
            f"the checkpoint's {len(theirs)} adapter weights do not fit the {len(mine)} of "
            "this run; model.lora and model.train_text_encoder must be those of its run."
        )
