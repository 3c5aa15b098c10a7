"""Measure the quality of the embedded base: `python -m dreambooth_pl.miniature.report`.

All figures are measured on scenes and subjects that no training picture shows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bounds import Bounds
from dreambooth_pl.commands.common import whole_number
from dreambooth_pl.data.photos import read_photo
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.contact_sheet import contact_sheet
from dreambooth_pl.files.png_metadata import save_png
from dreambooth_pl.files.writable import check_writable
from dreambooth_pl.metrics.encoders import load_encoders
from dreambooth_pl.miniature import sheets, world
from dreambooth_pl.miniature.base_folder import encoders_of
from dreambooth_pl.miniature.pretrain.pictures import scene
from dreambooth_pl.miniature.quality import (
    HELD_OUT_SEED,
    generated_accuracy,
    identifier_gap,
    rendered_accuracy,
    subject_figures,
    through_vae,
)
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.start import run_command, tells_mistakes

Progress = Callable[[str], None]


def photo_squares(folder: Path) -> list[Image.Image]:
    """Read the JPEG photos below a folder: upright, cropped to the middle square, 128 px.

    Raises:
        UserError: there is no photo, or one cannot be read.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg"})
    if not found:
        raise UserError(
            f"--photos {folder}: no JPEG photo is there. Name a folder that holds some."
        )
    return [ImageOps.fit(read_photo(path), (128, 128)) for path in found]


def figures(
    folder: Path,
    photos: Path | None,
    count: int,
    out: Path | None,
    progress: Progress,
) -> dict[str, float]:
    """Measure all figures of a base.

    Args:
        folder: the base's folder.
        photos: folder of natural photos for `vae_psnr_photo`; `None` omits this figure.
        count: generated images per figure that needs them.
        out: folder for contact sheets; `None` writes none.
        progress: called with the name of each step before it starts.

    Returns:
        The figures by name.

    Raises:
        UserError: `folder` holds no base, `photos` holds no photo, or `out` cannot be written to.
    """
    names = encoders_of(folder)
    natural = [] if photos is None else photo_squares(photos)
    if out is not None:
        check_writable(out, "--out")
    base = load_base(str(folder))
    encoders = load_encoders(names)
    sampling = SamplingSettings()
    progress("VAE")
    rendered = [world.render(scene(HELD_OUT_SEED, i)[0]) for i in range(64)]
    value, decoded = through_vae(base, rendered)
    result = {"vae_psnr_drawn": value}
    shown = list(zip(rendered[:8], decoded[:8], ["rendered"] * 8, strict=True))
    if natural:
        result["vae_psnr_photo"], decoded = through_vae(base, natural)
        shown += zip(natural[:4], decoded[:4], ["photo"] * len(natural[:4]), strict=True)
    progress("encoders on rendered pictures")
    result |= rendered_accuracy(encoders, 400)
    result |= subject_figures(encoders)
    progress("generated images")
    generated, images, prompts = generated_accuracy(base, encoders, sampling, count)
    result |= generated
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        sheet = contact_sheet(images[:32], prompts[:32], columns=8, title="untuned base")
        save_png(sheet, out / "generated.png")
        save_png(sheets.autoencoder_sheet(*zip(*shown, strict=True)), out / "autoencoder.png")
        save_png(sheets.world_sheet(HELD_OUT_SEED), out / "world.png")
        save_png(sheets.subjects_sheet(), out / "subjects.png")
    progress("identifiers")
    gap, images, labels = identifier_gap(base, encoders, sampling, count)
    if out is not None:
        path = out / "identifiers.png"
        path.unlink(missing_ok=True)  # a previous report's, in case no pair differs now
        if images:
            title = "class recognised in one of two"
            save_png(contact_sheet(images[:48], labels[:48], columns=6, title=title), path)
    return result | gap


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m dreambooth_pl.miniature.report`."""
    parser = argparse.ArgumentParser(
        prog="python -m dreambooth_pl.miniature.report", description=__doc__
    )
    parser.add_argument(
        "--base", type=Path, default=Path("data/miniature"), help="folder of the base"
    )
    parser.add_argument("--photos", type=Path, help="folder of natural photos (JPEG)")
    parser.add_argument(
        "--images",
        type=whole_number(Bounds(1, 10_000)),
        default=96,
        help="generated images per figure",
    )
    parser.add_argument("--out", type=Path, help="folder for contact sheets")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    return parser


@tells_mistakes
def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        args: command-line arguments; `None` for those of the process.
    """
    options = build_parser().parse_args(args)
    console = Console(stderr=True)
    result = figures(options.base, options.photos, options.images, options.out, console.print)
    if options.format == "json":
        print(json.dumps(result, indent=2))
        return 0
    table = Table("figure", "value")
    for key, value in result.items():
        table.add_row(key, f"{value:.3f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    run_command(main)
