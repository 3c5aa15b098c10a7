"""The command line of ``evaluate.py``: runs to a table on standard output."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation import evaluate
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.report import FORMATS, to_csv, to_json, to_markdown, to_table
from dreambooth_pl.run_folder import LOGS
from dreambooth_pl.runs import find_runs, read_run
from dreambooth_pl.scores import Row


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status.

    Args:
        args: what stands after ``evaluate.py``; None for the process's own arguments.
    """
    options = build_parser().parse_args(args)
    _quiet_libraries()
    try:
        runs = [read_run(folder) for folder in options.runs] or find_runs(options.logs)
        rows = evaluate(runs, device=_device(options.device), reporter=ProgressReporter())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _write(rows, options.format)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options of ``evaluate.py``."""
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        description="Score runs: DINO and CLIP-I (is it the subject?), CLIP-T (does it follow the "
        "prompt?), beside the real photos (ceiling) and the untuned base (floor).",
    )
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="a run's folder, such as lightning_logs/sks/version_0 (default: every finished run)",
    )
    parser.add_argument(
        "--logs",
        type=Path,
        default=Path(LOGS),
        help="where runs are looked for (default: %(default)s)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0], help="of the output (default: %(default)s)"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: %(default)s)"
    )
    return parser


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name} is not there. Use cpu, or leave it out.") from error
    return device


def _quiet_libraries() -> None:
    """Silence what the libraries say at every start and no user can act on."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"timm|open_clip|diffusers|transformers")


def _write(rows: Sequence[Row], form: str) -> None:
    if form == "table":
        # A pipe or a file has no width of its own; there the table must not be squeezed.
        console = Console() if sys.stdout.isatty() else Console(width=120)
        narrow = console.measure(to_table(rows)).maximum > console.width
        console.print(to_table(rows, narrow))
        return
    writers = {"markdown": to_markdown, "csv": to_csv, "json": to_json}
    sys.stdout.write(writers[form](rows))
