"""Rare words against the vocabulary file itself, and with a tokenizer of another kind."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.errors import UserError
from dreambooth_pl.identifiers.rare_tokens import Word, load_tokenizer, look_up, rare_words
from dreambooth_pl.prompts import IDENTIFIERS

MINIATURE = Path(__file__).parents[2] / "data" / "miniature"


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(BaseSpec(str(MINIATURE)))


def test_rare_words_are_the_short_whole_words_of_the_vocabulary(tokenizer) -> None:
    vocabulary = json.loads((MINIATURE / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    whole = {token: i for token, i in vocabulary.items() if re.fullmatch("[a-z]{1,3}</w>", token)}
    expected = sorted(((i, token[:-4]) for token, i in whole.items()), reverse=True)
    got = [(word.token_ids[0], word.text) for word in rare_words(tokenizer)]
    assert got[:500] == expected[:500]
    assert {text for _, text in got} <= {text for _, text in expected}
    assert len(got) > 0.95 * len(expected), "some tokens no text leads to"
    last = max(i for token, i in vocabulary.items() if not token.startswith("<|"))
    assert next(rare_words(tokenizer)) == Word(expected[0][1], (expected[0][0],), last - got[0][0])


def test_identifiers_of_the_project_are_single_tokens_at_their_place_in_a_prompt(tokenizer) -> None:
    clip = CLIPTokenizer.from_pretrained(MINIATURE / "tokenizer")
    for text in IDENTIFIERS:
        word = look_up(tokenizer, text)
        assert word.is_single
        assert list(word.token_ids) == clip(f"a {text} dog").input_ids[2:3]
    assert look_up(tokenizer, "sks").token_ids == (48136,)
    assert look_up(tokenizer, "dog").rarer > look_up(tokenizer, "sks").rarer


def test_words_of_several_tokens_are_told(tokenizer) -> None:
    word = look_up(tokenizer, "zwx")
    assert len(word.token_ids) > 1 and not word.is_single and word.rarer is None
    assert tokenizer.decode(word.token_ids).strip() == "zwx"


@pytest.mark.parametrize("text", ["", "two words", " sks"])
def test_what_is_no_word_is_refused(tokenizer, text: str) -> None:
    with pytest.raises(UserError, match="one word without spaces"):
        look_up(tokenizer, text)


def test_other_kinds_of_tokenizers_work_alike() -> None:
    pieces = ["<unk>", "▁a", "▁the", "▁dog", "xyz", "▁xyz", "▁long", "b", "▁q", "▁", "!", "▁é"]
    model = models.Unigram([(piece, -float(n)) for n, piece in enumerate(pieces)], unk_id=0)
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    assert [word.text for word in rare_words(tokenizer)] == ["q", "xyz", "dog", "the", "a"]
    assert look_up(tokenizer, "xyz") == Word("xyz", (5,), len(pieces) - 1 - 5)


def test_rare_words_come_one_by_one(tokenizer) -> None:
    assert len(list(itertools.islice(rare_words(tokenizer), 3))) == 3


def test_a_base_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        load_tokenizer(BaseSpec(str(tmp_path / "none")))
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(UserError, match="tokenizer .*cannot be loaded"):
        load_tokenizer(BaseSpec(str(tmp_path)))
