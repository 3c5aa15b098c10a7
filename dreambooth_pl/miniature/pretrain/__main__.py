"""Train the embedded base: run the requested stages in order. Each stage can be resumed."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch

from dreambooth_pl.miniature.pretrain import clip, dino, text_to_image, vae
from dreambooth_pl.miniature.pretrain.stages import STAGES, Pretraining
from dreambooth_pl.start import run_command

WORK = Path.home() / ".cache" / "dreambooth_pl" / "pretrain"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        argv: command-line arguments; `None` for those of the process.
    """
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
    parser.add_argument("--pictures", type=int, default=60_000, help="training pictures to render")
    parser.add_argument(
        "--views",
        type=int,
        default=40_000,
        help="pictures of subjects with several views to render",
    )
    parser.add_argument(
        "--vae-steps",
        type=int,
        default=8_000,
        help=f"steps of {vae.BATCH} pictures, of {vae.GPU_BATCH} on a GPU",
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
        help=f"steps of text-to-image, of {text_to_image.BATCH} pictures, of "
        f"{text_to_image.GPU_BATCH} on a GPU",
    )
    parser.add_argument(
        "--photos",
        type=Path,
        action="append",
        default=[],
        help="folder of natural photos for the autoencoder; may be repeated",
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="folder of a base, such as data/miniature, whose weights the stages start from; "
        "without it, they start from random weights",
    )
    parser.add_argument(
        "--lock-text",
        action="store_true",
        help="freeze CLIP's text tower as it is in --start, so that the UNet stays valid",
    )
    parser.add_argument(
        "--lock-encoder",
        action="store_true",
        help="freeze the autoencoder's encoder as it is in --start and train only its decoder, so "
        "that the UNet stays valid",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="pause a stage after this time; the same command resumes it",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the UNet, and on a GPU the autoencoder; no faster on two CPU cores",
    )
    parser.add_argument(
        "--pace",
        type=float,
        default=1.0,
        help="factor of all learning rates; choose it below 1 if the weights in --start are nearly "
        "converged",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda"
    )
    parser.add_argument("--work", type=Path, default=WORK, help="folder for pictures and states")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/miniature"),
        help="folder for the base, written after text-to-image",
    )
    args = parser.parse_args(argv)
    unknown = [s for s in args.stages if s not in STAGES]
    if unknown:
        parser.error(f"unknown stage {unknown[0]!r}; the stages are: {' '.join(STAGES)}")
    if args.start and not (args.start / "model_index.json").is_file():
        parser.error(f"--start {args.start} is not the folder of a base (no model_index.json)")
    if not args.pace > 0:
        parser.error(f"--pace {args.pace:g} is not above 0: it is a factor of the learning rates")
    if args.lock_text and not args.start:
        parser.error("--lock-text needs --start, the base whose text tower is kept")
    if args.lock_encoder and not args.start:
        parser.error("--lock-encoder needs --start, the base whose encoder is kept")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the stages and return the exit status: 0 if all are done, 3 if one paused."""
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
