"""Rare tokens of a tokenizer: words to call a subject by that mean little to the base.

The DreamBooth paper (arXiv 2208.12242, section 3.2) takes short sequences of rare tokens. Ours are
single tokens of one to three letters that make a word of their own, so that a prompt holds exactly
one token for the subject. Nothing here depends on the kind of tokenizer: what a token means is
found out by decoding and encoding it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import transformers

from dreambooth_pl.bases.folder import read_model_index
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.errors import UserError

MAX_LETTERS = 3
_CHUNK = 2000  # tokens decoded at a time


@dataclass(frozen=True)
class Word:
    """A word as a tokenizer sees it.

    Attributes:
        text: the word.
        token_ids: what it is encoded to; one, if it is to be an identifier.
        rarer: how many of the vocabulary's tokens come after it; few means rare, for vocabularies
            go from the frequent to the rare. None for a word of several tokens.
    """

    text: str
    token_ids: tuple[int, ...]
    rarer: int | None

    @property
    def is_single(self) -> bool:
        """Whether the word is one token."""
        return len(self.token_ids) == 1


def load_tokenizer(spec: BaseSpec) -> Any:
    """Load the first tokenizer of a base, without the base's networks.

    Args:
        spec: a diffusers folder, or `owner/name` on the hub.

    Raises:
        UserError: no such base, or one without a tokenizer that loads.
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
    """Return a word as the tokenizer sees it inside a prompt.

    Raises:
        UserError: it is empty or holds spaces.
    """
    if not text or text.split() != [text]:
        raise UserError(f"the identifier {text!r} must be one word without spaces")
    ids = _encode(tokenizer, text)
    rarer = _last_id(tokenizer) - ids[0] if len(ids) == 1 else None
    return Word(text, ids, rarer)


def rare_words(tokenizer: Any) -> Iterator[Word]:
    """Yield words of one to three ASCII letters that are single tokens, the rarest first.

    Letters of other scripts and signs are left out: they are awkward to type and to put into the
    names of files.
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
    """Return the ids of a word as it stands between others: between spaces."""
    around = tokenizer("a a", add_special_tokens=False).input_ids
    ids = tokenizer(f"a {word} a", add_special_tokens=False).input_ids
    assert len(around) == 2, "a is one token"
    return tuple(ids[1:-1])


def _last_id(tokenizer: Any) -> int:
    """Highest id of the vocabulary that is no special token."""
    special = set(tokenizer.all_special_ids)
    return max(i for i in tokenizer.get_vocab().values() if i not in special)
