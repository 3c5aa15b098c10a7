"""Command-line options of `generate.py`, and the plan that they make with runs and files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.bounds import MAX_SEED, Bounds, check_values
from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import fill
from dreambooth_pl.runs.adapter_source import AdapterSource, read_source
from dreambooth_pl.sampling.requests import MAX_IMAGES, ImageRequest
from dreambooth_pl.sampling.settings import AUTOCAST, SamplingSettings, scheduler_name

DEFAULT_OUT = Path("generated")
DEFAULT_PROMPT = "a {identifier} {class}"
_NUM_IMAGES = Bounds(1, 10_000, too_high="too many")
_WEIGHT = Bounds(-10, 10)
_OPTIONS = {
    "guidance_scale": "guidance",
    "num_inference_steps": "steps",
    "negative_prompt": "negative",
}
"""Options that are called otherwise than their settings."""
_WITH_REPRODUCE = {"adapters", "reproduce", "out", "base", "device"}


@dataclass(frozen=True)
class GenerationPlan:
    """The images to generate, and how."""

    base_spec: BaseSpec
    """The base to generate with."""
    adapters: tuple[tuple[Path, float], ...]
    """LoRA files, each with the weight that multiplies its strength."""
    identifier: str
    """The subject's identifier; empty if unknown."""
    class_noun: str
    """The subject's class noun; empty if unknown."""
    requests: tuple[ImageRequest, ...]
    """`columns` images of each prompt, with consecutive seeds."""
    columns: int
    """Number of images per prompt."""
    settings: SamplingSettings
    """Sampler settings; the batch size may still be `auto`."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `generate.py`."""
    parser = argparse.ArgumentParser(
        prog="generate.py",
        description="Generate images with the adapters of a run or a LoRA file.",
        epilog="Settings that are not given are those of the (first) run. For a LoRA file without "
        "a run they are the defaults of train.py fit --help, under sampling.",
    )
    add = parser.add_argument
    add(
        "adapters",
        nargs="*",
        type=Path,
        metavar="RUN|LORA",
        help="a run's folder, a checkpoint (.ckpt) of it, a .safetensors file or a folder with "
        "pytorch_lora_weights.safetensors; several are combined. With --reproduce: where to look "
        "for the adapter",
    )
    add(
        "--weights",
        nargs="+",
        type=float,
        metavar="W",
        help="one weight per adapter, which multiplies its strength (default: 1 each)",
    )
    add(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="prompt; {identifier} and {class} are filled in from the (first) run; repeat the "
        f"option for several prompts (default: {DEFAULT_PROMPT!r})",
    )
    add(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="text file with one prompt per line; lines that start with # are ignored",
    )
    add("--identifier", metavar="WORD", help="identifier in place of the run's")
    add("--class-noun", metavar="NOUN", help="class noun in place of the run's")
    add(
        "--num-images",
        type=int,
        default=4,
        metavar="N",
        help="images per prompt (default: %(default)s)",
    )
    add(
        "--seed",
        type=int,
        default=42,
        metavar="N",
        help="seed of each prompt's first image; further images use the next seeds (default: "
        "%(default)s)",
    )
    add("--out", type=Path, metavar="DIR", help=f"folder for the images (default: {DEFAULT_OUT})")
    add("--no-grid", action="store_true", help="do not save a contact sheet of all images")
    add(
        "--reproduce",
        type=Path,
        metavar="IMAGE.png",
        help="generate this image again from its metadata, next to it or in --out, and compare",
    )
    add = parser.add_argument_group("how to generate").add_argument
    add(
        "--guidance",
        type=float,
        dest="guidance_scale",
        metavar="G",
        help="scale of classifier-free guidance",
    )
    add("--steps", type=int, dest="num_inference_steps", metavar="N", help="denoising steps")
    add("--scheduler", metavar="NAME", help="dpm++, ddim, euler, euler-a, pndm, unipc, ...")
    strength = "strength of the denoiser's adapters; 1 is as trained, 0 is the untuned base"
    add("--lora-scale-unet", type=float, metavar="S", help=strength)
    add(
        "--lora-scale-text-encoder",
        type=float,
        metavar="S",
        help="the same for the text encoder's adapters",
    )
    add("--negative", dest="negative_prompt", metavar="TEXT", help="what images should not show")
    add("--resolution", type=int, metavar="PX", help="side of the images, a multiple of 8")
    add(
        "--batch-size",
        type=_batch_size,
        metavar="N",
        help="images generated at once: a number or auto",
    )
    add("--autocast", choices=AUTOCAST, help="data type of the denoising: less exact, often faster")
    add("--base", metavar="BASE", help="base in place of the run's: folder, file or hub id")
    add("--revision", help="branch, tag or commit of a base on the hub")
    add("--variant", help="variant of the base's weight files, such as fp16")
    add("--device", default="auto", help="device: auto, cpu, cuda, ... (default: %(default)s)")
    return parser


def read_plan(options: argparse.Namespace) -> GenerationPlan:
    """Return the plan that the options ask for.

    Raises:
        UserError: an option has a wrong value, a run or file is missing, or they do not fit
            together.
    """
    if not options.adapters:
        raise UserError("Name a run's folder or a LoRA file, or an image with --reproduce.")
    _NUM_IMAGES.check("--num-images", options.num_images, whole=True)
    last = Bounds(0, MAX_SEED - options.num_images + 1, remedy="Each image has the next seed.")
    last.check("--seed", options.seed, whole=True)
    sources = [read_source(path) for path in options.adapters]
    weights = _weights(options, len(sources))
    base_spec = _base_spec(options, sources)
    identifier = _first(options.identifier, *(source.identifier for source in sources))
    class_noun = _first(options.class_noun, *(source.class_noun for source in sources))
    prompts = _prompts(options, identifier, class_noun)
    if len(prompts) * options.num_images > MAX_IMAGES:
        raise UserError(
            f"--num-images: {options.num_images} images of each of {len(prompts)} prompts are more "
            f"than {MAX_IMAGES} in all. Ask for fewer, or for a part of the prompts at a time."
        )
    requests = [
        ImageRequest(prompt, options.seed + k)
        for prompt in prompts
        for k in range(options.num_images)
    ]
    files = [source.file for source in sources]
    return GenerationPlan(
        base_spec=base_spec,
        adapters=tuple(zip(files, weights, strict=True)),
        identifier=identifier,
        class_noun=class_noun,
        requests=tuple(requests),
        columns=options.num_images,
        settings=_settings(options, sources[0].sampling, len(requests)),
    )


def check_only_reproduces(options: argparse.Namespace) -> None:
    """Check the options that are given with `--reproduce`.

    Raises:
        UserError: an option sets what the image's own metadata set.
    """
    defaults = vars(build_parser().parse_args([]))
    given = {name for name, value in vars(options).items() if value != defaults[name]}
    if given - _WITH_REPRODUCE:
        raise UserError(
            "--reproduce takes all settings from the image; leave out the options that say what or "
            "how to generate. A base that has moved can be named with --base."
        )


def _weights(options: argparse.Namespace, count: int) -> list[float]:
    weights = options.weights or [1.0] * count
    if len(weights) != count:
        raise UserError(f"--weights: {len(weights)} given for {count} adapters; give one each.")
    for weight in weights:
        _WEIGHT.check("--weights", weight, whole=False)
    return weights


def _base_spec(options: argparse.Namespace, sources: Sequence[AdapterSource]) -> BaseSpec:
    """Return the base to generate with, in the data type that the first adapter's run used."""
    first = sources[0].base_spec
    dtype = first.frozen_dtype if first else "float32"
    if options.base:
        return BaseSpec(options.base, options.revision, options.variant, dtype)
    specs = [source.base_spec for source in sources if source.base_spec]
    known = {replace(spec, frozen_dtype=dtype) for spec in specs}
    if not known:
        raise UserError(
            f"{sources[0].file} does not say which base it belongs to; name it with --base."
        )
    if len(known) > 1:
        names = ", ".join(sorted(spec.base for spec in known))
        raise UserError(
            f"The adapters belong to different bases ({names}); name one for all with --base."
        )
    (spec,) = known
    return replace(
        spec,
        revision=options.revision or spec.revision,
        variant=options.variant or spec.variant,
    )


def _prompts(options: argparse.Namespace, identifier: str, class_noun: str) -> list[str]:
    templates = list(options.prompt or ())
    if options.prompts:
        try:
            lines = options.prompts.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--prompts: {options.prompts} cannot be read: {error}") from error
        lines = [line.strip() for line in lines]
        templates += [line for line in lines if line and not line.startswith("#")]
        if not templates:
            raise UserError(f"--prompts: {options.prompts} holds no prompt.")
    templates = templates or [DEFAULT_PROMPT]
    for template in templates:
        for word, value in (("identifier", identifier), ("class", class_noun)):
            if f"{{{word}}}" in template and not value:
                option = "--class-noun" if word == "class" else "--identifier"
                raise UserError(f"{template!r}: a LoRA file names no {word}; give {option}.")
    return [fill(template, identifier, class_noun) for template in templates]


def _settings(options: argparse.Namespace, own: SamplingSettings, count: int) -> SamplingSettings:
    """Return the run's settings, overridden by the options.

    Batches are padded to full size, so the run's batch size is limited to the number of images.
    """
    names = {field.name for field in fields(SamplingSettings)}
    given = {name: value for name, value in vars(options).items() if name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if "scheduler" in given:
        given["scheduler"] = scheduler_name(given["scheduler"])
    for name, value in given.items():
        try:
            check_values(SamplingSettings, {name: value}, "sampling")
        except UserError as error:
            option = _OPTIONS.get(name, name).replace("_", "-")
            raise UserError(f"--{option}: {error}") from error
    settings = replace(own, **given)
    if settings.batch_size != "auto" and "batch_size" not in given:
        settings = replace(settings, batch_size=min(settings.batch_size, count))
    return settings


def _batch_size(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _first(*values: str | None) -> str:
    return next((value for value in values if value), "")
