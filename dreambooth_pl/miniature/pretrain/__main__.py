"""Command line of the pretraining: runs the stages asked for, in order, each resumable."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch

from dreambooth_pl.commands.common import run_command
from dreambooth_pl.miniature.pretrain import clip, dino, text_to_image, vae
from dreambooth_pl.miniature.pretrain.stages import STAGES, Pretraining

WORK = Path.home() / ".cache" / "dreambooth_pl" / "pretrain"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dreambooth_pl.miniature.pretrain",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "stages",
        nargs="*",
        default=list(STAGES),
        metavar="STAGE",
        help="any of: " + " ".join(STAGES),
    )
    parser.add_argument("--pictures", type=int, default=60_000, help="drawn training pictures")
    parser.add_argument(
        "--views", type=int, default=40_000, help="drawn pictures of subjects seen several times"
    )
    parser.add_argument(
        "--vae-steps",
        type=int,
        default=8_000,
        help=f"steps of {vae.BATCH} pictures, {vae.GPU_BATCH} on a GPU",
    )
    parser.add_argument(
        "--clip-steps", type=int, default=5_000, help=f"steps of {clip.BATCH} pictures"
    )
    parser.add_argument(
        "--dino-steps", type=int, default=2_500, help=f"steps of {dino.BATCH} pairs of pictures"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=10_300,
        help=f"steps of text-to-image, {text_to_image.BATCH} pictures each, "
        f"{text_to_image.GPU_BATCH} on a GPU",
    )
    parser.add_argument(
        "--photos",
        type=Path,
        action="append",
        default=[],
        help="folder of natural photos for the VAE; may be repeated",
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="folder of a base, such as data/miniature: the stages go on from its weights instead "
        "of from nothing",
    )
    parser.add_argument(
        "--lock-text",
        action="store_true",
        help="leave CLIP's text tower as it is in --start, so that the UNet stays valid",
    )
    parser.add_argument(
        "--lock-encoder",
        action="store_true",
        help="leave the autoencoder's encoder as it is in --start and train its decoder alone, so "
        "that the UNet stays valid",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="pause a stage after so long; the same command goes on",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the UNet, on a GPU the autoencoder too; two CPU cores gain nothing by it",
    )
    parser.add_argument(
        "--pace",
        type=float,
        default=1.0,
        help="part of the stages' learning rates: below 1 for weights in --start that are nearly "
        "as good as they get",
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda"
    )
    parser.add_argument("--work", type=Path, default=WORK, help="pictures and states between calls")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/miniature"),
        help="where the base is written after text-to-image",
    )
    args = parser.parse_args(argv)
    unknown = [s for s in args.stages if s not in STAGES]
    if unknown:
        parser.error(f"unknown stage {unknown[0]!r}; the stages are: {' '.join(STAGES)}")
    if args.start and not (args.start / "model_index.json").is_file():
        parser.error(f"--start {args.start} is not the folder of a base (no model_index.json)")
    if not args.pace > 0:
        parser.error(f"--pace {args.pace:g} is not above 0: it is a part of the learning rates")
    if args.lock_text and not args.start:
        parser.error("--lock-text needs --start, the base whose text tower is to stay")
    if args.lock_encoder and not args.start:
        parser.error("--lock-encoder needs --start, the base whose encoder is to stay")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the stages; exit status 0 when all are done, 3 when one paused."""
    args = parse(argv)
    began = time.monotonic()

    def report(text: str) -> None:
        print(f"[{(time.monotonic() - began) / 60:6.1f} min] {text}", flush=True)

    pretraining = Pretraining(args, report)
    for stage in STAGES:
        if stage in args.stages and not pretraining.run(stage):
            return 3
    return 0


if __name__ == "__main__":
    run_command(main)
