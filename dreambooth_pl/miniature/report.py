"""What the embedded base can do, in figures: `python -m dreambooth_pl.miniature.report`.

Everything is measured on scenes and subjects that no training picture shows.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dreambooth_pl.bases.base import Base, load_base
from dreambooth_pl.commands.common import positive, run_command, tells_mistakes
from dreambooth_pl.data.photos import read_photo
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.comparison import paired_difference
from dreambooth_pl.files.contact_sheet import contact_sheet
from dreambooth_pl.files.png_metadata import save_png
from dreambooth_pl.files.writable import check_writable
from dreambooth_pl.metrics.encoders import Encoders, load_encoders
from dreambooth_pl.miniature import sheets, subjects, world
from dreambooth_pl.miniature.base_folder import encoders_of
from dreambooth_pl.miniature.pretrain.pictures import NOUNS, SETTINGS, scene
from dreambooth_pl.miniature.settings import SETTINGS as PLACES
from dreambooth_pl.prompts import IDENTIFIERS, SUBJECTS, fill
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest, image_seed
from dreambooth_pl.sampling.settings import SamplingSettings

HELD_OUT_SEED = 1
"""Training pictures come from seed 0."""
KNOWN = tuple(dict.fromkeys(NOUNS))
Progress = Callable[[str], None]


@torch.no_grad()
def through_vae(base: Base, images: Sequence[Image.Image]) -> tuple[float, list[Image.Image]]:
    """Mean over images of the PSNR in dB of decode(encode(image)), values in [0, 1]; and those."""
    values, decoded_images = [], []
    for image in images:
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 127.5 - 1
        mean, _ = base.encode_images(pixels)
        decoded = base.vae.decode(mean / base.vae.config.scaling_factor).sample.clamp(-1, 1)
        error = ((decoded - pixels) / 2).pow(2).mean()
        values.append(float(-10 * error.log10()))
        array = ((decoded[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8)
        decoded_images.append(Image.fromarray(array.numpy()))
    return float(np.mean(values)), decoded_images


def nearest_subject(features: Tensor, labels: Tensor) -> float:
    """Share of rows of `features` [N, D] whose nearest other row has the same label [N]."""
    similarity = features @ features.T
    similarity.fill_diagonal_(-2)
    return float((labels[similarity.argmax(1)] == labels).float().mean())


def same_subject_auc(features: Tensor, subjects_: Tensor, classes: Tensor) -> float:
    """Area under the ROC curve: pairs of one subject against pairs of two of the same class."""
    similarity = features @ features.T
    upper = torch.ones_like(similarity, dtype=torch.bool).triu(1)
    same = subjects_[:, None] == subjects_[None]
    other = ~same & (classes[:, None] == classes[None])
    positive, negative = similarity[upper & same], similarity[upper & other]
    greater = (positive[:, None] > negative[None]).float().mean()
    ties = (positive[:, None] == negative[None]).float().mean()
    return float(greater + ties / 2)


def zero_shot(encoders: Encoders, images: Sequence[Image.Image], texts: Sequence[str]) -> list[int]:
    """Index of the text nearest to each image."""
    similarity = encoders.clip.encode_images(images) @ encoders.clip.encode_texts(texts).T
    return similarity.argmax(1).tolist()


def drawn_accuracy(encoders: Encoders, count: int) -> dict[str, float]:
    """CLIP's class and setting accuracy on held-out drawn pictures without other changes."""
    rng = random.Random(HELD_OUT_SEED)
    scenes = []
    for _ in range(count):
        noun, setting = rng.choice(KNOWN), rng.choice(SETTINGS)
        scenes.append(world.sample_scene(rng, (noun,), (setting,)).plain())
    images = [world.draw(s) for s in scenes]
    return {
        f"clip_drawn_{name}": value
        for name, value in _accuracy(encoders, images, [(s.noun, s.setting) for s in scenes])
    }


def generated_accuracy(
    base: Base, encoders: Encoders, sampling: SamplingSettings, count: int
) -> tuple[dict[str, float], list[Image.Image], list[str]]:
    """The same on generated pictures; also returns the pictures and their prompts."""
    rng = random.Random(HELD_OUT_SEED + 1)
    wanted = [(rng.choice(KNOWN), rng.choice(SETTINGS)) for _ in range(count)]
    prompts = [f"a {noun} {PLACES[setting].phrases[0]}" for noun, setting in wanted]
    images = _generate(base, prompts, sampling)
    figures = {f"clip_generated_{k}": v for k, v in _accuracy(encoders, images, wanted)}
    return figures, images, prompts


def identifier_gap(
    base: Base, encoders: Encoders, sampling: SamplingSettings, count: int
) -> tuple[dict[str, float], list[Image.Image], list[str]]:
    """Class accuracy of "a {identifier} {class}" less that of "a {class}", mean over identifiers.

    `count` pictures with each identifier, and for each a plain one on the same seed, which no other
    pair has: plain pictures shared by all identifiers would lend their luck to the whole figure.

    Returns:
        The figure with its 95 % interval by paired bootstrap; the pictures of the pairs that CLIP
        names rightly only once, one pair after the other; and their prompts with what it took them
        for.
    """
    asked = [(name, KNOWN[i % len(KNOWN)]) for name in IDENTIFIERS for i in range(count)]
    texts = [f"a {noun}" for noun in KNOWN]

    def draw(prompts: Sequence[str]) -> tuple[Tensor, list[Image.Image], list[str]]:
        images = _generate(base, prompts, sampling)
        found = [KNOWN[index] for index in zero_shot(encoders, images, texts)]
        hits = [f == noun for f, (_, noun) in zip(found, asked, strict=True)]
        labels = [f"{prompt}: {f}" for prompt, f in zip(prompts, found, strict=True)]
        return torch.tensor(hits).float(), images, labels

    plain = draw([fill("a {identifier} {class}", None, noun) for _, noun in asked])
    named = draw([fill("a {identifier} {class}", name, noun) for name, noun in asked])
    gap = paired_difference(named[0].view(1, 1, -1), plain[0].view(1, 1, -1))
    figures = {
        "identifier_gap": gap.mean,
        "identifier_gap_low": gap.low,
        "identifier_gap_high": gap.high,
    }
    unlike = torch.nonzero(named[0] != plain[0])[:, 0].tolist()
    images = [side[1][i] for i in unlike for side in (plain, named)]
    labels = [side[2][i] for i in unlike for side in (plain, named)]
    return figures, images, labels


def subject_figures(encoders: Encoders) -> dict[str, float]:
    """How well DINO and CLIP tell the thirty subjects apart."""
    images, subject_labels, class_labels = [], [], []
    nouns = sorted(set(SUBJECTS.values()))
    for index, (name, noun) in enumerate(SUBJECTS.items()):
        for photo in subjects.photos(name):
            images.append(world.draw(photo))
            subject_labels.append(index)
            class_labels.append(nouns.index(noun))
    who, what = torch.tensor(subject_labels), torch.tensor(class_labels)
    dino, clip = encoders.dino.encode_images(images), encoders.clip.encode_images(images)
    return {
        "dino_nearest_subject": nearest_subject(dino, who),
        "dino_auc": same_subject_auc(dino, who, what),
        "clip_auc": same_subject_auc(clip, who, what),
    }


def photo_squares(folder: Path) -> list[Image.Image]:
    """The JPEG photos below a folder, upright, their middle squares at 128 px.

    Raises:
        UserError: there is none, or one cannot be read.
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
    """All figures of the base in `folder`; `count` generated pictures for each that needs them.

    Args:
        photos: folder of natural photos for `vae_psnr_photo`; without it the figure is left out.
        out: where contact sheets go, or None.

    Raises:
        UserError: no base or no photo is there, or `out` cannot be written to.
    """
    names = encoders_of(folder)
    natural = [] if photos is None else photo_squares(photos)
    if out is not None:
        check_writable(out, "--out")
    base = load_base(str(folder))
    encoders = load_encoders(names)
    sampling = SamplingSettings()
    progress("VAE")
    drawn = [world.draw(scene(HELD_OUT_SEED, i)[0]) for i in range(64)]
    value, decoded = through_vae(base, drawn)
    result = {"vae_psnr_drawn": value}
    shown = list(zip(drawn[:8], decoded[:8], ["drawn"] * 8, strict=True))
    if natural:
        result["vae_psnr_photo"], decoded = through_vae(base, natural)
        shown += zip(natural[:4], decoded[:4], ["photo"] * len(natural[:4]), strict=True)
    progress("encoders on drawn pictures")
    result |= drawn_accuracy(encoders, 400)
    result |= subject_figures(encoders)
    progress("generated pictures")
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
        path.unlink(missing_ok=True)  # of a report before, where no pair differs now
        if images:
            title = "named rightly once only"
            save_png(contact_sheet(images[:48], labels[:48], columns=6, title=title), path)
    return result | gap


def _accuracy(
    encoders: Encoders, images: Sequence[Image.Image], wanted: Sequence[tuple[str, str]]
) -> list[tuple[str, float]]:
    classes = zero_shot(encoders, images, [f"a {noun}" for noun in KNOWN])
    hits = [KNOWN[c] == noun for c, (noun, _) in zip(classes, wanted, strict=True)]
    place_hits = []
    for noun in KNOWN:
        chosen = [i for i, (n, _) in enumerate(wanted) if n == noun]
        if chosen:
            texts = [f"a {noun} {PLACES[s].phrases[0]}" for s in SETTINGS]
            places = zero_shot(encoders, [images[i] for i in chosen], texts)
            place_hits += [SETTINGS[p] == wanted[i][1] for p, i in zip(places, chosen, strict=True)]
    return [("class", float(np.mean(hits))), ("setting", float(np.mean(place_hits)))]


def _generate(base: Base, prompts: Sequence[str], sampling: SamplingSettings) -> list[Image.Image]:
    requests = [
        ImageRequest(prompt, image_seed(HELD_OUT_SEED, "report", i))
        for i, prompt in enumerate(prompts)
    ]
    return list(generate(base, requests, sampling))


def build_parser() -> argparse.ArgumentParser:
    """The options of ``python -m dreambooth_pl.miniature.report``."""
    parser = argparse.ArgumentParser(
        prog="python -m dreambooth_pl.miniature.report", description=__doc__
    )
    parser.add_argument("--base", type=Path, default=Path("data/miniature"), help="its folder")
    parser.add_argument("--photos", type=Path, help="folder of natural photos (JPEG)")
    parser.add_argument("--images", type=positive, default=96, help="generated pictures a figure")
    parser.add_argument("--out", type=Path, help="folder for contact sheets")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    return parser


@tells_mistakes
def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status.

    Args:
        args: what stands after the program's name; None for the process's own arguments.
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
