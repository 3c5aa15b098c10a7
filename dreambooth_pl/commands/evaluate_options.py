"""The options of ``evaluate.py``."""

from __future__ import annotations

import argparse
from pathlib import Path

from dreambooth_pl.bounds import Bounds
from dreambooth_pl.commands.common import real_number, whole_number
from dreambooth_pl.evaluation.protocols import PROBES
from dreambooth_pl.evaluation.run_images import CLASS_IMAGES
from dreambooth_pl.reporting.tables import TABLE_FORMATS
from dreambooth_pl.runs.folder import LOGS
from dreambooth_pl.sampling.settings import AUTOCAST, LORA_SCALE


def build_parser() -> argparse.ArgumentParser:
    """The options of ``evaluate.py``."""
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        description="Score runs: DINO and CLIP-I (is it the subject?), CLIP-T (does it follow the "
        "prompt?), PRES and drift (is the rest of the class still there?), DIV (are the images of "
        "a prompt different?), copy (are they copies of a photo?), beside the real photos "
        "(ceiling) and the untuned base (floor).",
    )
    add = parser.add_argument
    add(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="a run's folder, such as lightning_logs/sks/version_0, or a LoRA file of any tool "
        "with --config or with --base, --photos, --class-noun and --identifier (default: every "
        "finished run)",
    )
    default = " (default: %(default)s)"
    add("--logs", type=Path, default=Path(LOGS), help=f"where runs are looked for{default}")
    add(
        "--protocol",
        default=PROBES,
        help="probes, dreambench (the paper's 25 prompts of the class, 4 images each), or the path "
        f"of a YAML file of your own prompts{default}",
    )
    add(
        "--lora-scale",
        nargs="+",
        type=real_number(LORA_SCALE),
        metavar="SCALE",
        help="evaluate at these LoRA scales, a row and a point of a plot for each",
    )
    add(
        "--autocast",
        choices=AUTOCAST,
        help="denoise in it: less exact, often faster; compare only what was drawn alike",
    )
    add(
        "--class-images",
        type=whole_number(Bounds(0, 10_000, too_high="too many")),
        default=CLASS_IMAGES,
        metavar="N",
        help=f'images of "a CLASS" for PRES and drift, 0 for neither{default}',
    )
    add(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("A", "B"),
        help="paired differences, A less B: each a run, or a folder of runs, one per subject",
    )
    group = parser.add_argument_group("a folder of images, of any tool")
    group.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="score its images: a metadata.jsonl in it says each one's file_name and prompt, or "
        "they are called PROMPT_NUMBER.png after the prompts of --prompts, counted from 0",
    )
    group.add_argument("--photos", type=Path, metavar="DIR", help="the subject's photos")
    group.add_argument(
        "--prompts", metavar="FILE", help="probes, dreambench or a YAML file of prompts"
    )
    group.add_argument("--identifier", help="the identifier in the prompts, such as sks")
    group.add_argument("--class-noun", help="what the subject is, such as dog")
    group = parser.add_argument_group("what scores are measured with (default: as in the run)")
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="a run's config.yaml: words, photos and encoders for --images or a LoRA file",
    )
    group.add_argument("--base", help="of a LoRA file without --config: folder, file or hub id")
    for name, what in (
        ("clip", "CLIP: a name of open_clip's, local-dir:FOLDER or hf-hub:NAME"),
        ("clip-pretrained", "CLIP's weights, where --clip is a name of open_clip's"),
        ("dino", "DINO: a name of timm's, local-dir:FOLDER or hf-hub:NAME"),
        ("dino-pretrained", "DINO's weights, a file, where --dino is a name of timm's"),
        ("lpips", "AlexNet's weights for DIV: a file, or download"),
    ):
        group.add_argument(f"--{name}", help=what)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--format", choices=TABLE_FORMATS, default=TABLE_FORMATS[0], help=f"of it{default}"
    )
    group.add_argument(
        "--save",
        type=Path,
        metavar="DIR",
        help="write score tensors, images, contact sheets, plots and tables in all formats there",
    )
    group.add_argument(
        "--paper", action="store_true", help="show the paper's own results, of another base, below"
    )
    add("--device", default="auto", help=f"auto, cpu, cuda, cuda:1, ...{default}")
    return parser
