"""CLIP's original tokenizer with 49,408 tokens in transformers' format, from open_clip's merges."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from open_clip.tokenizer import bytes_to_unicode, default_bpe
from transformers import CLIPTokenizer

from dreambooth_pl.files.atomic import write_text


def write_clip_tokenizer(
    folder: Path, context_length: int, pad_token: str = "<|endoftext|>"
) -> CLIPTokenizer:
    """Write vocab.json and merges.txt to `folder` and return their tokenizer.

    Args:
        folder: created if needed.
        context_length: number of tokens of a prompt, including start and end.
        pad_token: token that fills up prompts. OpenAI's CLIP uses the end token, OpenCLIP uses `!`
            (id 0).
    """
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    symbols = list(bytes_to_unicode().values())
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(m.split()) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    return CLIPTokenizer.from_pretrained(
        folder, model_max_length=context_length, pad_token=pad_token
    )
