"""Command-line options of `evaluate.py`."""

from __future__ import annotations

import argparse
from pathlib import Path

from dreambooth_pl.bounds import Bounds
from dreambooth_pl.commands.common import real_number, whole_number
from dreambooth_pl.evaluation.protocols import DEFAULT
from dreambooth_pl.evaluation.run_images import CLASS_IMAGES
from dreambooth_pl.reporting.tables import TABLE_FORMATS
from dreambooth_pl.runs.folder import LOGS
from dreambooth_pl.sampling.settings import AUTOCAST, LORA_SCALE


def _share(text: str) -> tuple[int, int]:
    """Read `3/10` as the rank and the number of ranks, (2, 10)."""
    first, _, second = text.partition("/")
    if not (first.isdecimal() and second.isdecimal() and 0 < int(first) <= int(second)):
        raise argparse.ArgumentTypeError(f"{text!r} is no share, such as 3/10.")
    return int(first) - 1, int(second)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `evaluate.py`."""
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        description="Score runs: DINO and CLIP-I (is it the subject?), CLIP-T (does it follow the "
        "prompt?), PRES and drift (is the rest of the class still there?), DIV (are the images of "
        "a prompt different?), copy (are they copies of a photo?), with the real photos "
        "(ceiling) and the untuned base (floor) for comparison.",
    )
    add = parser.add_argument
    add(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="a run's folder, such as lightning_logs/sks/version_0, a checkpoint (.ckpt) of it, or "
        "a LoRA file from any tool "
        "with --config or with --base, --photos, --class-noun and --identifier (default: all "
        "finished runs)",
    )
    default = " (default: %(default)s)"
    add("--logs", type=Path, default=Path(LOGS), help=f"folder to search for runs{default}")
    add(
        "--protocol",
        default=DEFAULT,
        help="short (13 of the paper's prompts for the class, 2 images each), dreambench (all 25, "
        "4 images each), probes (the 8 images that training generates), or the path of a YAML file "
        f"of your own prompts{default}",
    )
    add(
        "--lora-scale",
        nargs="+",
        type=real_number(LORA_SCALE),
        metavar="SCALE",
        help="evaluate at these LoRA scales; each has a row in the table and a point in the plot",
    )
    add(
        "--autocast",
        choices=AUTOCAST,
        help="data type of the denoising: less exact, often faster; compare only rows with the "
        "same setting",
    )
    add(
        "--class-images",
        type=whole_number(Bounds(0, 10_000, too_high="too many")),
        default=CLASS_IMAGES,
        metavar="N",
        help=f'number of images of "a CLASS" for PRES and drift; 0 for neither{default}',
    )
    add(
        "--share",
        type=_share,
        metavar="K/N",
        help="generate only the K-th of N equal shares of the images, and score nothing: for "
        "several machines that work on the same runs; the same command without it then scores",
    )
    add(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("A", "B"),
        help="paired differences, A minus B; each is a run, or a folder of runs, one per subject",
    )
    group = parser.add_argument_group("a folder of images from any tool")
    group.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of images to score: its metadata.jsonl has the file_name and prompt of each "
        "image, or the files are called PROMPT_NUMBER.png after the prompts of --prompts, counted "
        "from 0",
    )
    group.add_argument("--photos", type=Path, metavar="DIR", help="folder of the subject's photos")
    group.add_argument(
        "--prompts", metavar="FILE", help="probes, dreambench or a YAML file of prompts"
    )
    group.add_argument("--identifier", help="identifier in the prompts, such as sks")
    group.add_argument("--class-noun", help="noun of the subject's class, such as dog")
    group = parser.add_argument_group("encoders and base of the scores (default: the run's own)")
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="a run's config.yaml: subject, photos and encoders for --images or a LoRA file",
    )
    group.add_argument(
        "--base", help="base of a LoRA file without --config: folder, file or hub id"
    )
    for name, what in (
        ("clip", "CLIP: a model name of open_clip, local-dir:FOLDER or hf-hub:NAME"),
        ("clip-pretrained", "weights of CLIP, if --clip is a model name of open_clip"),
        ("dino", "DINO: a model name of timm, local-dir:FOLDER or hf-hub:NAME"),
        ("dino-pretrained", "file with weights of DINO, if --dino is a model name of timm"),
        ("lpips", "weights of AlexNet for DIV: a file, or download"),
    ):
        group.add_argument(f"--{name}", help=what)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--format",
        choices=TABLE_FORMATS,
        default=TABLE_FORMATS[0],
        help=f"format of the table{default}",
    )
    group.add_argument(
        "--save",
        type=Path,
        metavar="DIR",
        help="save report.html, score tensors, images, contact sheets, plots and tables in all "
        "formats here",
    )
    group.add_argument(
        "--paper",
        action="store_true",
        help="also show the paper's results, which are from another base",
    )
    add("--device", default="auto", help=f"device: auto, cpu, cuda, cuda:1, ...{default}")
    return parser
