"""What `train.py` says before it trains: words that will not do well, settings without effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from dreambooth_pl.adapters.ranks import rank_note
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.checks.resolution import check_resolution
from dreambooth_pl.bases.families import is_text_encoder
from dreambooth_pl.data.masks import find_masks
from dreambooth_pl.data.settings import DataSettings
from dreambooth_pl.errors import UserError
from dreambooth_pl.identifiers.rare_tokens import is_everyday, look_up
from dreambooth_pl.sampling.settings import SamplingSettings, negative_note
from dreambooth_pl.training.settings import ModelSettings

_MANY_TOKENS = 3
_REMEDY = "python -m dreambooth_pl.identifiers lists rare words of one token"


def check_with_base(base: Base, data: DataSettings, sampling: SamplingSettings) -> None:
    """Check what needs the base, before anything is written.

    Raises:
        UserError: images are to be far larger than those that the base was made for.
    """
    check_resolution(base, data.resolution, "data.resolution")
    check_resolution(base, sampling.resolution, "sampling.resolution")


def training_notes(
    base: Base,
    photos: tuple[Path, ...],
    data: DataSettings,
    model: ModelSettings,
    sampling: SamplingSettings,
) -> list[str]:
    """Return a line for each thing that is allowed and probably not meant."""
    notes = list(_word_notes(base.tokenizers[0], data.identifier))
    for component in base.adaptable:
        if model.train_text_encoder or not is_text_encoder(component):
            note = rank_note(base, component, model.lora, model.adapter)
            notes += [note] if note else []
    masks = find_masks(photos, None if data.mask_dir is None else Path(data.mask_dir))
    notes += _idle_data(data, any(masks))
    notes += _idle_prior(data, model)
    notes += _idle_model(model)
    note = negative_note(sampling)
    return [*notes, note] if note else notes


def _word_notes(tokenizer: Any, identifier: str) -> Iterator[str]:
    """Yield what is unfortunate about an identifier."""
    try:
        word = look_up(tokenizer, identifier)
    except UserError:
        yield f"data.identifier: {identifier!r} is not one word; {_REMEDY}"
        return
    count = len(word.token_ids)
    if count >= _MANY_TOKENS:
        yield (
            f"data.identifier: {identifier!r} is {count} tokens to the base, whose parts mean "
            f"something already; {_REMEDY}"
        )
    elif is_everyday(tokenizer, word):
        yield (
            f"data.identifier: {identifier!r} is a word that the base knows well, so that prompts "
            f"with it may show something else than the subject; {_REMEDY}"
        )


def _idle_data(data: DataSettings, has_masks: bool) -> Iterator[str]:
    if data.crop != "random" and _is_set(data, "num_crops"):
        yield _idle("data.num_crops", "data.crop is center; set it to random")
    if not data.aspect_ratio_buckets and _is_set(data, "bucket_step"):
        yield _idle("data.bucket_step", "data.aspect_ratio_buckets is false")
    if not has_masks and _is_set(data, "mask_background_weight"):
        yield _idle(
            "data.mask_background_weight",
            "no photo has a mask; put NAME.mask.png beside each or set data.mask_dir",
        )


def _idle_prior(data: DataSettings, model: ModelSettings) -> Iterator[str]:
    off = "model.prior_loss_weight is 0" if model.prior_loss_weight == 0 else None
    if data.num_class_images == 0:
        off = off or "data.num_class_images is 0"
        if model.prior_loss_weight and _is_set(model, "prior_loss_weight"):
            yield _idle("model.prior_loss_weight", off)
    elif off and _is_set(data, "num_class_images"):
        yield _idle("data.num_class_images", off)
    for name in ("class_dir", "class_prompt"):
        if off and _is_set(data, name):
            yield _idle(f"data.{name}", off)


def _idle_model(model: ModelSettings) -> Iterator[str]:
    if not model.train_text_encoder:
        why = "model.train_text_encoder is false"
        if _is_set(model, "text_encoder_learning_rate"):
            yield _idle("model.text_encoder_learning_rate", why)
        if _is_set(model.lora, "text_encoder_target_modules"):
            yield _idle("model.lora.text_encoder_target_modules", why)
    if model.optimizer is not None:
        for name in ("weight_decay", "adam_betas"):
            if _is_set(model, name):
                yield _idle(
                    f"model.{name}", "model.optimizer is another one; give it in its init_args"
                )
    if model.adapter == "oft" and _is_set(model.lora, "alpha"):
        yield _idle("model.lora.alpha", "model.adapter is oft")


def _idle(key: str, why: str) -> str:
    return f"{key} has no effect: {why}"


def _is_set(settings: Any, name: str) -> bool:
    """Return whether a setting differs from its default."""
    (own,) = (one for one in fields(settings) if one.name == name)
    default = own.default_factory() if callable(own.default_factory) else own.default
    value = getattr(settings, name)
    return list(value) != list(default) if isinstance(value, (list, tuple)) else value != default
