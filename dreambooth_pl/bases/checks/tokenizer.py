"""A base's tokenizer is whole and belongs to its text encoder, or it is refused."""

from __future__ import annotations

from typing import Any

from torch import nn

from dreambooth_pl.errors import UserError

_PROMPTS = ("a photo of a dog", "the red house in winter")
_UNLIMITED = 100_000
"""Above it, a `model_max_length` is transformers' way to say that there is none."""
_SHORTEST = 3
"""Tokens of the shortest prompt: start, a word, end."""


def check_tokenizer(tokenizer: Any, text_encoder: nn.Module, component: str, name: str) -> None:
    """Check a tokenizer against its text encoder, and give it the length that it lacks.

    Args:
        tokenizer: its `model_max_length` becomes the text encoder's where it has none.
        text_encoder: reads its tokens.
        component: the tokenizer's folder, for messages.
        name: of the base, for messages.

    Raises:
        UserError: it knows no words, or more than the text encoder, or no length is known.
    """
    where = f"model.base: {component!r} of {name!r}"
    remedy = "Copy its files from the model that the base was made from."
    rows = text_encoder.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise UserError(
            f"{where} knows {len(tokenizer)} tokens, but the text encoder only {rows}; they do not "
            f"belong together. {remedy}"
        )
    first, second = (tuple(tokenizer(prompt, verbose=False).input_ids) for prompt in _PROMPTS)
    if first == second or len(set(first)) < _SHORTEST:
        raise UserError(
            f"{where} makes the same tokens of different words; its vocabulary is missing. {remedy}"
        )
    if max(*first, *second) >= rows:
        raise UserError(
            f"{where} makes tokens that the text encoder does not know; they do not belong "
            f"together. {remedy}"
        )
    positions = getattr(text_encoder.config, "max_position_embeddings", None)
    length = tokenizer.model_max_length
    if positions is not None and length > _UNLIMITED:
        tokenizer.model_max_length = length = positions
    if length > _UNLIMITED or length < _SHORTEST or (positions or length) < length:
        raise UserError(
            f"{where} says model_max_length {length}; the text encoder reads "
            f"{positions or 'some other number of'} tokens. Mend it in tokenizer_config.json."
        )
