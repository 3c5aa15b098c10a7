"""Which runs can train together, by their configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.dotted_keys import flatten

_ONLY: dict[str, tuple[Any, ...]] = {
    "model.adapter": ("lora",),
    "model.lora.use_dora": (False,),
    "model.lora.dropout": (0, 0.0),
    "model.optimizer": (None,),
    "model.compile": (False,),
    "data.aspect_ratio_buckets": (False,),
    "trainer.strategy": ("auto",),
    "trainer.devices": (1, "1", [0]),
    "trainer.num_nodes": (1,),
    "trainer.precision": (None, 32, "32", "32-true", "bf16", "bf16-mixed"),
    "trainer.callbacks": (None,),
    "trainer.max_time": (None,),
    "trainer.gradient_clip_algorithm": (None, "norm"),
    "trainer.profiler": (None,),
    "trainer.detect_anomaly": (False,),
    "trainer.plugins": (None,),
}
"""The values of keys with which a run can train with others."""
_OWN = (
    "model.seed",
    "model.learning_rate",
    "model.text_encoder_learning_rate",
    "model.prior_loss_weight",
    "model.weight_decay",
    "model.adam_betas",
    "model.min_snr_gamma",
    "model.noise_offset",
    "model.allow_changed_settings",
    "model.lora.alpha",
    "model.lora.use_rslora",
    "trainer.logger",
    "trainer.max_steps",
    "trainer.log_every_n_steps",
    "trainer.enable_progress_bar",
    "trainer.gradient_clip_val",
    "trainer.default_root_dir",
)
"""Keys of model and trainer that each run has for itself."""
_PRIOR = "prior preservation (data.num_class_images, model.prior_loss_weight)"
_SHARED_DATA = ("data.resolution", "data.batch_size")


def why_alone(config: Mapping[str, Any]) -> str | None:
    """Return why a run cannot train with others: a key and its value; None if it can.

    Args:
        config: of `train.py`, whole, in plain types.
    """
    for key, allowed in _ONLY.items():
        value: Any = config
        for name in key.split("."):
            value = value.get(name, allowed[0]) if isinstance(value, Mapping) else allowed[0]
        if value not in allowed:
            return f"{key} is {value!r}"
    return None


def shared(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what runs that train together must agree in, by dotted key.

    That is the base, its adapters' places and sizes, the batch, and how the steps are computed.
    Seeds, photos, prompts, rates, losses, lengths, images and checkpoints are each run's own.
    """
    flat = flatten(config)
    own = tuple(f"{key}." for key in _OWN)
    agreed = {
        key: value
        for key, value in flat.items()
        if key.startswith(("model.", "trainer.")) and not f"{key}.".startswith(own)
    }
    agreed |= {key: flat.get(key) for key in _SHARED_DATA}
    prior = flat.get("data.num_class_images") and flat.get("model.prior_loss_weight")
    return agreed | {_PRIOR: "on" if prior else "off"}


def check_together(first: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check that a run can train together with a first one.

    Raises:
        UserError: it cannot; names the keys.
    """
    for of_run in (first, config):
        if why := why_alone(of_run):
            raise UserError(f"A run with this setting trains by itself: {why}.")
    before, now = shared(first), shared(config)
    differing = [
        f"{key} is {now.get(key)!r}, there {before.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if differing:
        raise UserError(f"The run differs from the first of its group: {'; '.join(differing)}.")


def shape(config: Mapping[str, Any]) -> str:
    """Return `shared` as one text, equal for runs that can train together."""
    return json.dumps(shared(config), sort_keys=True, default=str)
