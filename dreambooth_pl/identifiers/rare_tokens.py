"""Rare tokens of a tokenizer: words that mean little to the base, as identifiers of a subject.

The DreamBooth paper (arXiv 2208.12242, section 3.2) uses short sequences of rare tokens. This
module finds single tokens of one to three letters that form a whole word, so a prompt contains
exactly one token for the subject. It only decodes and encodes tokens and therefore works with any
kind of tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import transformers

from dreambooth_pl.bases.folder import read_model_index
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import IDENTIFIERS

MAX_LETTERS = 3
"""Length limit of the words that `rare_words` yields."""

_CHUNK = 2000  # tokens decoded at once


@dataclass(frozen=True)
class Word:
    """A word and its tokens."""

    text: str
    """The word."""
    token_ids: tuple[int, ...]
    """Its token ids. A good identifier has one."""
    rarer: int | None
    """Number of tokens after it in the vocabulary; `None` for a word of several tokens.
    Vocabularies are sorted from frequent to rare, so a small number means a rare word."""

    @property
    def is_single(self) -> bool:
        """Whether the word is a single token."""
        return len(self.token_ids) == 1


def load_tokenizer(spec: BaseSpec) -> Any:
    """Load the first tokenizer of a base, without the base's networks.

    Args:
        spec: a diffusers folder, or `owner/name` on the hub.

    Returns:
        The tokenizer.

    Raises:
        UserError: the base does not exist or its tokenizer cannot be loaded.
    """
    read_model_index(spec.base, spec.revision)
    try:
        return transformers.AutoTokenizer.from_pretrained(
            spec.base, subfolder="tokenizer", revision=spec.revision
        )
    except Exception as error:  # the library raises many kinds for missing or broken files
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"model.base: the tokenizer of {spec.base!r} cannot be loaded ({reason}). It must lie "
            "in the base's folder `tokenizer`."
        ) from error


def look_up(tokenizer: Any, text: str) -> Word:
    """Return a word with its tokens inside a prompt.

    Raises:
        UserError: the word is empty or contains spaces.
    """
    if not text or text.split() != [text]:
        raise UserError(f"the identifier {text!r} must be one word without spaces")
    ids = _encode(tokenizer, text)
    rarer = _last_id(tokenizer) - ids[0] if len(ids) == 1 else None
    return Word(text, ids, rarer)


def is_everyday(tokenizer: Any, word: Word) -> bool:
    """Return whether a single token is a common word, which means something to any base.

    Vocabularies are sorted from frequent to rare. The first third is common in any case; a word of
    four letters or more is common unless it is among the last twentieth.
    """
    if word.rarer is None or word.text in IDENTIFIERS:
        return False
    share = word.rarer / max(_last_id(tokenizer), 1)
    return share > 2 / 3 or (len(word.text) > MAX_LETTERS and share > 1 / 20)


def rare_words(tokenizer: Any) -> Iterator[Word]:
    """Find words of one to three ASCII letters that are single tokens.

    Letters of other scripts and other characters are excluded: they are hard to type and to use in
    file names.

    Yields:
        The words, the rarest first.
    """
    special = set(tokenizer.all_special_ids)
    last = _last_id(tokenizer)
    for end in range(last, -1, -_CHUNK):
        ids = [i for i in range(end, max(end - _CHUNK, -1), -1) if i not in special]
        texts = tokenizer.batch_decode([[i] for i in ids])
        for token_id, text in zip(ids, (text.strip() for text in texts), strict=True):
            short = 1 <= len(text) <= MAX_LETTERS and text.isascii() and text.isalpha()
            if short and _encode(tokenizer, text) == (token_id,):
                yield Word(text, (token_id,), last - token_id)


def _encode(tokenizer: Any, word: str) -> tuple[int, ...]:
    """Return the token ids of a word between other words."""
    around = tokenizer("a a", add_special_tokens=False).input_ids
    ids = tokenizer(f"a {word} a", add_special_tokens=False).input_ids
    assert len(around) == 2, "a is one token"
    return tuple(ids[1:-1])


def _last_id(tokenizer: Any) -> int:
    """Return the highest id of the vocabulary that is not a special token."""
    special = set(tokenizer.all_special_ids)
    return max(i for i in tokenizer.get_vocab().values() if i not in special)
