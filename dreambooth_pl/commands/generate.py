"""The command `generate.py`: generate images from prompts, with a run or a LoRA file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.commands.common import find_device, quiet_libraries
from dreambooth_pl.commands.generate_options import (
    DEFAULT_OUT,
    GenerationPlan,
    build_parser,
    check_only_reproduces,
    read_plan,
)
from dreambooth_pl.memory.exhausted import tells_out_of_memory
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.runs.adapter_source import load_sources
from dreambooth_pl.runs.reproduction import read_recorded, reproduce
from dreambooth_pl.sampling.batch_size import settle_batch_size
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.image_metadata import image_metadata, origin_metadata
from dreambooth_pl.sampling.memory import check_generation, check_kept_images
from dreambooth_pl.sampling.numbered_images import NumberedImages, check_folder, save_image
from dreambooth_pl.sampling.settings import SamplingSettings, negative_note
from dreambooth_pl.start import tells_mistakes
from dreambooth_pl.stop_signals import NOTHING, advising


@tells_mistakes
@tells_out_of_memory("Lower --batch-size, --resolution or --num-images.")
def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: command-line arguments; None for those of the process.

    Returns:
        The exit status.
    """
    options = build_parser().parse_args(args)
    quiet_libraries()
    with advising(NOTHING):
        if options.reproduce:
            _reproduce(options)
        else:
            _generate(options)
    return 0


def _generate(options: argparse.Namespace) -> None:
    """Generate the images that the options ask for, and save them."""
    device = find_device(options.device)
    plan = read_plan(options)
    out = options.out or DEFAULT_OUT
    check_folder(out)

    base = load_base(plan.base_spec)
    note = _check_memory(base, plan, device)
    base.to(device)
    load_sources(base, plan.adapters)
    base.to(device)
    settings = settle_batch_size(base, plan.settings, len(plan.requests))
    origin = origin_metadata(
        base,
        plan.base_spec,
        plan.identifier,
        plan.class_noun,
        [(str(file), weight) for file, weight in plan.adapters],
    )
    reporter = ProgressReporter()
    series = NumberedImages(out)
    for line in (
        *note,
        *_description(plan, settings),
        f"images go to {out}, from number {series.first}",
    ):
        reporter.line(line)
    with advising(lambda: _kept(series, len(plan.requests))):
        with reporter.task("images", total=len(plan.requests)) as task:
            images = generate(base, plan.requests, settings, progress=task.update)
            for request, image in zip(plan.requests, images, strict=True):
                metadata = image_metadata(base, request, settings, **origin)
                series.add(image, request, metadata)
        if not options.no_grid and len(series.images) > 1:
            print(f"grid: {series.save_grid(columns=max(2, plan.columns))}")
        print(f"images: {len(series.images)} in {out}")


def _kept(series: NumberedImages, total: int) -> str:
    """Return what a user is told who stops the command."""
    done = len(series.images)
    return f"{done} of {total} images are kept in {series.folder}." if done else NOTHING


def _check_memory(base: Base, plan: GenerationPlan, device: torch.device) -> list[str]:
    settings, count = plan.settings, len(plan.requests)
    side = settings.resolution or base.resolution
    check_kept_images(count, side, f"Lower --num-images ({plan.columns}) or --resolution ({side}).")
    lower = f"Lower --batch-size ({settings.batch_size}) or --resolution ({side})."
    note = check_generation(base, settings, device, lower)
    return [f"note: {note}"] if note else []


def _description(plan: GenerationPlan, settings: SamplingSettings) -> list[str]:
    """Return lines that describe the adapters, the base and the settings."""
    adapters = [
        str(file) if weight == 1 else f"{file} (weight {weight:g})"
        for file, weight in plan.adapters
    ]
    note = negative_note(settings)
    return [
        *([f"--negative: {note}"] if note else []),
        f"adapter: {' + '.join(adapters)}, on {plan.base_spec.base}",
        f"{settings.num_inference_steps} steps of {settings.scheduler}, guidance "
        f"{settings.guidance_scale:g}, LoRA scale {settings.lora_scale_unet:g} (UNet) and "
        f"{settings.lora_scale_text_encoder:g} (text encoder)",
    ]


def _reproduce(options: argparse.Namespace) -> None:
    """Reproduce an image, save the result and report whether it is the same."""
    check_only_reproduces(options)
    device = find_device(options.device)
    recorded = read_recorded(options.reproduce)
    out = options.out or options.reproduce.parent
    check_folder(out)
    with ProgressReporter().task("image", total=1) as task:
        again = reproduce(recorded, device, options.base, options.adapters, progress=task.update)
    out.mkdir(parents=True, exist_ok=True)
    path = save_image(
        again.image, out / f"{options.reproduce.stem}_reproduced.png", recorded.metadata
    )
    print(f"adapter: {again.adapter}")
    print(f"image: {path}")
    if again.max_difference == 0:
        print(f"identical to {options.reproduce}, pixel by pixel")
    else:
        print(f"differs from {options.reproduce} by at most {again.max_difference} of 255")
    for note in again.notes:
        print(f"note: {note}")
