"""The command `python -m dreambooth_pl.identifiers`: list rare words to use as identifiers."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.bounds import MAX_SEED, Bounds
from dreambooth_pl.commands.common import find_device, quiet_libraries, table_width
from dreambooth_pl.errors import UserError
from dreambooth_pl.identifiers.rare_tokens import Word, load_tokenizer, look_up, rare_words
from dreambooth_pl.identifiers.trial import Trial, check_folder, save_trials, try_identifiers
from dreambooth_pl.memory.exhausted import tells_out_of_memory
from dreambooth_pl.metrics.encoders import EncoderSettings, load_encoders
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.prompts import IDENTIFIERS, fill
from dreambooth_pl.reporting.tables import TABLE_FORMATS
from dreambooth_pl.reporting.text_table import TextTable, render_table
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.start import tells_mistakes
from dreambooth_pl.stop_signals import NOTHING, advising

PAPERS_ENCODERS = EncoderSettings(
    clip="ViT-B-32-quickgelu", clip_pretrained="openai", dino="vit_small_patch16_224.dino"
)
_BOUNDS = {
    "count": Bounds(0, 10_000, too_high="too many"),
    "images": Bounds(1, 1000, too_high="too many"),
    "batch-size": Bounds(1, 512),
    "seed": Bounds(0, MAX_SEED),
}
"""Of the options that are numbers."""
_KEYS = {
    "model.base": "--base",
    "fidelity.clip": "--clip",
    "fidelity.dino": "--dino",
    "sampling.batch_size": "--batch-size",
}


@tells_mistakes
@tells_out_of_memory("Lower --batch-size, --images or --count.")
def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: command-line arguments; None for those of the process.

    Returns:
        The exit status.
    """
    options = build_parser().parse_args(args)
    quiet_libraries()
    try:
        with advising(NOTHING):
            _run(options)
    except UserError as error:
        text = str(error)
        for key, option in _KEYS.items():  # messages name config keys; here they are options
            text = text.replace(f"{key}_pretrained", f"{option}-pretrained").replace(key, option)
        raise UserError(text) from error
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m dreambooth_pl.identifiers`."""
    parser = argparse.ArgumentParser(
        prog="python -m dreambooth_pl.identifiers",
        description="List rare words to use as identifiers; each is one token of the base's "
        "tokenizer. With --draw, also generate images of each word with the untuned base and show "
        "how far they are from images of the class alone: the nearer, the less the word means.",
    )
    parser.add_argument(
        "--class", dest="class_noun", required=True, metavar="NOUN", help="class noun, such as dog"
    )
    parser.add_argument(
        "--base",
        default="data/miniature",
        help="folder or hub id of the base (default: %(default)s)",
    )
    parser.add_argument("--revision", help="branch, tag or commit of a base on the hub")
    parser.add_argument(
        "--count", type=int, default=20, help="number of rare words (default: %(default)s)"
    )
    parser.add_argument(
        "--identifiers",
        nargs="+",
        default=[],
        metavar="WORD",
        help=f"words to look up in addition to {', '.join(IDENTIFIERS)}",
    )
    parser.add_argument(
        "--draw",
        type=Path,
        metavar="DIR",
        help="generate images of each word, and save a contact sheet to DIR",
    )
    parser.add_argument(
        "--images", type=int, default=4, help="images per word (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, help="images generated at once (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the images (default: %(default)s)"
    )  # fmt: skip
    parser.add_argument(
        "--clip", help="CLIP model for the distance (default: the base's own, or B/32)"
    )
    parser.add_argument("--clip-pretrained", help="weights of --clip, such as openai")
    parser.add_argument(
        "--dino", help="DINO model for the distance (default: the base's own, or ViT-S/16)"
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="device: auto, cpu, cuda, cuda:1, ... (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=[form for form in TABLE_FORMATS if form != "json"],
        default=TABLE_FORMATS[0],
        help="format of the list (default: %(default)s)",
    )
    return parser


def _run(options: argparse.Namespace) -> None:
    for name in ("count", "images"):
        least = 0 if name == "count" else 1
        if getattr(options, name) < least:
            raise UserError(f"--{name}: {getattr(options, name)} is below {least}.")
    for option, bounds in _BOUNDS.items():
        bounds.check(f"--{option}", getattr(options, option.replace("-", "_")), whole=True)
    if not options.class_noun.strip():
        raise UserError("--class: is empty. Give the noun of the subject, such as dog.")
    device = find_device(options.device)
    if options.draw is not None:
        check_folder(options.draw)
    tokenizer = load_tokenizer(BaseSpec(options.base, options.revision))
    named = dict.fromkeys([*IDENTIFIERS, *options.identifiers])
    words = [look_up(tokenizer, text) for text in named]
    fresh = (word for word in rare_words(tokenizer) if word.text not in named)
    words += itertools.islice(fresh, options.count)
    trials = _generate_trials(options, words, device) if options.draw is not None else []
    sys.stdout.write(render_table(_table(options, words, trials), options.format, table_width()))


def _generate_trials(
    options: argparse.Namespace, words: Sequence[Word], device: torch.device
) -> list[Trial]:
    encoders = load_encoders(_encoder_settings(options)).to(device)
    base = load_base(BaseSpec(options.base, options.revision)).to(device)
    settings = SamplingSettings(batch_size=options.batch_size)
    texts = [word.text for word in words]
    reporter = ProgressReporter()
    with reporter.task("images", (len(texts) + 1) * options.images) as task:
        trials = try_identifiers(
            base,
            encoders,
            texts,
            options.class_noun,
            settings,
            options.images,
            options.seed,
            task.update,
        )
    with advising(f"Some images are in {options.draw}; start again with the same command."):
        sheet = save_trials(trials, base, settings, options.draw, options.seed)
    reporter.line(f"contact sheet: {sheet}")
    return trials


def _encoder_settings(options: argparse.Namespace) -> EncoderSettings:
    """Return the encoders that the options name; else the base's own, or the paper's."""
    settings = PAPERS_ENCODERS
    own = {name: Path(options.base) / name for name in ("clip", "dino")}
    if all(folder.is_dir() for folder in own.values()):
        settings = EncoderSettings(
            **{name: f"local-dir:{folder}" for name, folder in own.items()}, clip_pretrained=None
        )
    if options.clip is not None:
        settings = replace(settings, clip=options.clip, clip_pretrained=options.clip_pretrained)
    elif options.clip_pretrained is not None:
        raise UserError("--clip-pretrained: goes with --clip, which names the model.")
    return settings if options.dino is None else replace(settings, dino=options.dino)


def _table(
    options: argparse.Namespace, words: Sequence[Word], trials: Sequence[Trial]
) -> TextTable:
    """Return the list of words.

    With trials, the words nearest to the class come first; else the named words, then the rest.
    """
    plain = fill("a {class}", None, options.class_noun)
    rows = {word.text: _cells(word) for word in words}
    headings = ["identifier", "token id", "rarer tokens"]
    caption = (
        "Rarer tokens: how many tokens of the vocabulary come after it; few means rare. --draw DIR "
        "shows what the words mean to the base."
    )
    if trials:
        distances = {t.identifier: (f"{t.dino:.3f}", f"{t.clip:.3f}") for t in trials[1:]}
        rows = {text: (*rows[text], *cells) for text, cells in distances.items() if text}
        headings += ["DINO", "CLIP"]
        caption = f"DINO, CLIP: distance of the untuned base's images from {plain!r}; 0 is none."
    title = f"Identifiers for {plain!r} on {options.base}"
    return TextTable(title, tuple(headings), tuple(rows.values()), caption)


def _cells(word: Word) -> tuple[str, str, str]:
    ids = " ".join(str(token_id) for token_id in word.token_ids)
    rarer = f"{word.rarer}" if word.is_single else f"{len(word.token_ids)} tokens"
    return word.text, ids, rarer
