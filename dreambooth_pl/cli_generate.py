"""The command line of ``generate.py``: a run or a LoRA file and prompts to images."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import torch

from dreambooth_pl.adapter_sources import AdapterSource, load_sources, read_source
from dreambooth_pl.cli import quiet_libraries
from dreambooth_pl.contact_sheet import contact_sheet
from dreambooth_pl.errors import UserError
from dreambooth_pl.image_origin import PIXELS, origin_metadata, pixel_hash
from dreambooth_pl.models import load_base
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.prompts import fill
from dreambooth_pl.reproduction import read_recorded, reproduce
from dreambooth_pl.run_folder import check_writable
from dreambooth_pl.sampling import (
    ImageRequest,
    SamplingSettings,
    generate,
    image_metadata,
    save_png,
    scheduler_name,
)
from dreambooth_pl.throughput import settle_batch_size

INTERRUPTED = 130  # exit status of a process that Ctrl-C has ended
DEFAULT_OUT = Path("generated")
DEFAULT_PROMPT = "a {identifier} {class}"
_MAX_SEED = 2**63


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``generate.py``."""
    parser = argparse.ArgumentParser(
        prog="generate.py",
        description="Draw images with the adapters of a run or a LoRA file.",
        epilog="Settings that are not given are the run's own.",
    )
    add = parser.add_argument
    add(
        "adapters",
        nargs="*",
        type=Path,
        metavar="RUN|LORA",
        help="a run's folder, a .safetensors file or a folder with pytorch_lora_weights.safetensors"
        "; several are mixed. With --reproduce: where to look for the adapter, also a .ckpt",
    )
    add(
        "--weights",
        nargs="+",
        type=float,
        metavar="W",
        help="one per adapter, multiplies its strength (default: 1 each)",
    )
    add(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="{identifier} and {class} are filled from the run; repeat for several prompts "
        f"(default: {DEFAULT_PROMPT!r})",
    )
    add("--prompts", type=Path, metavar="FILE", help="a text file with one prompt per line")
    add("--identifier", help="in place of the run's")
    add("--class-noun", help="in place of the run's")
    add("--num-images", type=int, default=4, metavar="N", help="per prompt (default: %(default)s)")
    add(
        "--seed",
        type=int,
        default=42,
        help="of each prompt's first image; the next have the next seeds (default: %(default)s)",
    )
    add("--out", type=Path, metavar="DIR", help=f"where images go (default: {DEFAULT_OUT})")
    add("--no-grid", action="store_true", help="do not write a contact sheet of all images")
    add(
        "--reproduce",
        type=Path,
        metavar="IMAGE.png",
        help="draw this image again from the settings in it, beside it or into --out, and compare",
    )
    group = parser.add_argument_group("how to draw")
    group.add_argument("--guidance", type=float, dest="guidance_scale", metavar="G")
    group.add_argument("--steps", type=int, dest="num_inference_steps", metavar="N")
    group.add_argument("--scheduler", help="dpm++, ddim, euler, euler-a, pndm, unipc, ...")
    group.add_argument("--lora-scale-unet", type=float, metavar="S", help="1 is as trained")
    group.add_argument("--lora-scale-text-encoder", type=float, metavar="S")
    group.add_argument("--negative", dest="negative_prompt", metavar="TEXT")
    group.add_argument("--resolution", type=int, metavar="PX")
    group.add_argument("--batch-size", type=_batch_size, metavar="N", help="a number or auto")
    group.add_argument("--base", help="folder or hub id, in place of the run's")
    group.add_argument("--revision", help="of a base on the hub")
    group.add_argument("--variant", help="of the base's weight files, such as fp16")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status.

    Args:
        args: what stands after ``generate.py``; None for the process's own arguments.
    """
    options = build_parser().parse_args(args)
    quiet_libraries()
    try:
        if options.reproduce:
            _reproduce(options)
        else:
            _draw(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the images drawn so far are kept", file=sys.stderr)
        return INTERRUPTED
    return 0


def _draw(options: argparse.Namespace) -> None:
    if not options.adapters:
        raise UserError("Name a run's folder or a LoRA file, or an image with --reproduce.")
    if options.num_images < 1:
        raise UserError(f"--num-images: {options.num_images} is below 1.")
    if not 0 <= options.seed <= _MAX_SEED - options.num_images:
        raise UserError(f"--seed: {options.seed} is not in [0, 2**63).")
    device = _device(options.device)
    sources = [read_source(path) for path in options.adapters]
    weights = _weights(options, len(sources))
    base_name, revision, variant = _base(options, sources)
    identifier = _first(options.identifier, *(source.identifier for source in sources))
    class_noun = _first(options.class_noun, *(source.class_noun for source in sources))
    templates = _templates(options)
    for template in templates:
        for word, value in (("identifier", identifier), ("class", class_noun)):
            if f"{{{word}}}" in template and not value:
                option = "--class-noun" if word == "class" else "--identifier"
                raise UserError(f"{template!r}: a LoRA file names no {word}; give {option}.")
    prompts = [fill(template, identifier, class_noun) for template in templates]
    settings = _settings(options, sources[0].sampling, len(prompts) * options.num_images)
    out = options.out or DEFAULT_OUT
    _check_out(out)

    base = load_base(base_name, revision, variant).to(device)
    files = [(source.file, weight) for source, weight in zip(sources, weights, strict=True)]
    load_sources(base, files)
    base.to(device)
    requests = [
        ImageRequest(prompt, options.seed + k)
        for prompt in prompts
        for k in range(options.num_images)
    ]
    settings = settle_batch_size(base, settings, len(requests))
    origin = origin_metadata(
        base,
        revision,
        variant,
        identifier,
        class_noun,
        [(str(file), weight) for file, weight in files],
    )
    images = []
    reporter = ProgressReporter()
    with reporter.task("images", total=len(requests)) as task:
        drawn = generate(base, requests, settings, progress=task.update)
        out.mkdir(parents=True, exist_ok=True)
        first = _next_number(out)
        for number, (request, image) in enumerate(zip(requests, drawn, strict=True), start=first):
            metadata = image_metadata(base, request, settings, **origin)
            name = f"{number:04d}_{_slug(request.prompt)}_seed{request.seed}.png"
            save_png(image, out / name, metadata | {PIXELS: pixel_hash(image)})
            images.append(image)
            if len(images) == 1:
                reporter.line(f"images go to {out}, from {name}")
    if not options.no_grid and len(images) > 1:
        grid = out / f"{first:04d}-{first + len(images) - 1:04d}_grid.png"
        labels = [f"{request.prompt} ({request.seed})" for request in requests]
        sheet = contact_sheet(images, labels, columns=max(2, options.num_images))
        save_png(sheet, grid, {"title": "; ".join(prompts)})
        print(f"grid: {grid}")
    print(f"{len(images)} images: {out}")


def _reproduce(options: argparse.Namespace) -> None:
    """Draw an image again beside the given one and say whether it is the same."""
    drawing = {field.name for field in fields(SamplingSettings)} & vars(options).keys()
    given = [name for name in (*sorted(drawing), "prompt", "prompts") if vars(options)[name]]
    if given or options.weights:
        raise UserError(
            "--reproduce takes all settings from the image; leave out the options that say how to "
            "draw. A base that has moved can be named with --base."
        )
    device = _device(options.device)
    recorded = read_recorded(options.reproduce)
    out = options.out or options.reproduce.parent
    _check_out(out)
    with ProgressReporter().task("image", total=1) as task:
        again = reproduce(recorded, device, options.base, options.adapters, progress=task.update)
    path = _free_path(out / f"{options.reproduce.stem}_reproduced.png")
    out.mkdir(parents=True, exist_ok=True)
    save_png(again.image, path, recorded.metadata | {PIXELS: pixel_hash(again.image)})
    print(f"adapter: {again.adapter}")
    print(f"image: {path}")
    if again.max_difference == 0:
        print(f"identical to {options.reproduce}, pixel by pixel")
    else:
        print(f"differs from {options.reproduce} by at most {again.max_difference} of 255")
    for note in again.notes:
        print(f"note: {note}")


def _weights(options: argparse.Namespace, count: int) -> list[float]:
    weights = options.weights or [1.0] * count
    if len(weights) != count:
        raise UserError(f"--weights: {len(weights)} given for {count} adapters; give one each.")
    for weight in weights:
        if not math.isfinite(weight):
            raise UserError(f"--weights: {weight} is not a number.")
    return weights


def _base(
    options: argparse.Namespace, sources: Sequence[AdapterSource]
) -> tuple[str, str | None, str | None]:
    """Return name, revision and variant of the base to draw with."""
    if options.base:
        return options.base, options.revision, options.variant
    known = {(s.base, s.revision, s.variant) for s in sources if s.base}
    if not known:
        raise UserError(
            f"{sources[0].file} does not say which base it belongs to; name it with --base."
        )
    if len(known) > 1:
        names = ", ".join(sorted(base for base, _, _ in known))
        raise UserError(f"The adapters belong to different bases ({names}) and cannot be mixed.")
    ((base, revision, variant),) = known
    return base, options.revision or revision, options.variant or variant


def _templates(options: argparse.Namespace) -> list[str]:
    templates = list(options.prompt or ())
    if options.prompts:
        try:
            lines = options.prompts.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--prompts: {options.prompts} cannot be read: {error}") from error
        templates += [line.strip() for line in lines if line.strip()]
        if not templates:
            raise UserError(f"--prompts: {options.prompts} holds no prompt.")
    return templates or [DEFAULT_PROMPT]


def _settings(options: argparse.Namespace, own: SamplingSettings, count: int) -> SamplingSettings:
    """Return the run's settings with what the options say in their place.

    A batch is filled up, so it is no larger than the number of images to draw.
    """
    names = {field.name for field in fields(SamplingSettings)}
    given = {name: value for name, value in vars(options).items() if name in names}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
            option = "guidance" if name == "guidance_scale" else name.replace("_", "-")
            raise UserError(f"--{option}: {value} is not a number of at least 0.")
    if "scheduler" in given:
        given["scheduler"] = scheduler_name(given["scheduler"])
    settings = replace(own, **given)
    if settings.batch_size != "auto" and "batch_size" not in given:
        settings = replace(settings, batch_size=min(settings.batch_size, count))
    return settings


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file; give a folder.")
    check_writable(out, "--out")


def _batch_size(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _first(*values: str | None) -> str:
    return next((value for value in values if value), "")


def _next_number(folder: Path) -> int:
    """Return the number after the highest that a file's name in the folder starts with."""
    numbers = [int(n) for f in folder.iterdir() for n in re.findall(r"^(\d{4,})_", f.name)]
    return max(numbers, default=-1) + 1


def _free_path(path: Path) -> Path:
    """Return the path, or one with a number if there is such a file already."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}_{number}{path.suffix}")
    return free


def _slug(prompt: str) -> str:
    return re.sub(r"\W+", "-", prompt.lower()).strip("-")[:40].strip("-") or "image"


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with suppress(RuntimeError, AssertionError, NotImplementedError):
        torch.empty(0, device=name)
        return torch.device(name)
    raise UserError(f"--device {name} is not there. Use cpu, or leave it out.")
