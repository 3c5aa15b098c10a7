"""The command `python -m dreambooth_pl.export`: export a run for other tools."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.commands.common import quiet_libraries, real_number
from dreambooth_pl.errors import UserError
from dreambooth_pl.export.format import ExportOptions
from dreambooth_pl.export.formats import FORMATS
from dreambooth_pl.export.hub import check_hub, push
from dreambooth_pl.export.origin import origin_of
from dreambooth_pl.export.write import write_export
from dreambooth_pl.files.writable import check_writable
from dreambooth_pl.memory.exhausted import tells_out_of_memory
from dreambooth_pl.runs.adapter_source import load_sources, read_source
from dreambooth_pl.sampling.settings import LORA_SCALE
from dreambooth_pl.start import tells_mistakes
from dreambooth_pl.stop_signals import advising


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m dreambooth_pl.export`."""
    parser = argparse.ArgumentParser(
        prog="python -m dreambooth_pl.export",
        description="Export the adapters of a run for other tools, with a model card.",
    )
    add = parser.add_argument
    add(
        "run",
        type=Path,
        metavar="RUN|LORA",
        help="a run's folder, a checkpoint (.ckpt) of it, or a LoRA file from any tool",
    )
    add(
        "--format",
        choices=list(FORMATS),
        required=True,
        help="diffusers; kohya, for ComfyUI, AUTOMATIC1111 and Forge; peft; merged, a base with "
        "the adapters merged into its weights",
    )
    add("--out", type=Path, required=True, metavar="PATH", help="new folder for the export")
    add(
        "--single-file", action="store_true", help="merged: write one checkpoint file, not a folder"
    )
    add("--half", action="store_true", help="merged: save the weights in float16")
    for name, part in (("unet", "denoiser"), ("text-encoder", "text encoder")):
        add(
            f"--lora-scale-{name}",
            type=real_number(LORA_SCALE),
            metavar="S",
            help=f"merged: adapter strength in the {part} (default: the run's own)",
        )
    add("--base", help="base in place of the run's: folder, file or hub id")
    add("--revision", help="branch, tag or commit of a base on the hub")
    add("--variant", help="variant of the base's weight files, such as fp16")
    add("--push-to-hub", metavar="OWNER/NAME", help="upload the export to the Hugging Face Hub")
    return parser


@tells_mistakes
@tells_out_of_memory(
    "Take another --format than merged, leave out --single-file, or free memory: the whole --base "
    "is loaded in float32."
)
def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: command-line arguments; None for those of the process.

    Returns:
        The exit status.
    """
    options = build_parser().parse_args(args)
    quiet_libraries()
    with advising("Nothing was exported."):
        _export(options)
    return 0


def _export(options: argparse.Namespace) -> None:
    merging = options.format == "merged"
    given = {
        "--single-file": options.single_file,
        "--half": options.half,
        "--lora-scale-unet": options.lora_scale_unet is not None,
        "--lora-scale-text-encoder": options.lora_scale_text_encoder is not None,
    }
    wrong = [name for name, is_given in given.items() if is_given and not merging]
    if wrong:
        raise UserError(f"{', '.join(wrong)}: only for --format merged.")
    if options.out.exists():
        raise UserError(f"--out: {options.out} exists already; nothing is overwritten.")
    check_writable(options.out.parent, "--out")
    source = read_source(options.run)
    own = BaseSpec(options.base) if options.base else source.base_spec
    if own is None:
        raise UserError(f"{source.file} does not say which base it belongs to; give --base.")
    if options.push_to_hub:
        check_hub(options.push_to_hub)
    spec = BaseSpec(  # in float32, whatever data type the run used
        own.base, options.revision or own.revision, options.variant or own.variant
    )
    base = load_base(spec)
    (settings,) = load_sources(base, [(source.file, 1.0)])
    name = re.sub(r"[^\w.-]+", "-", options.out.absolute().name)
    origin = origin_of(source, options.run, spec.base, name)
    scales = (options.lora_scale_unet, options.lora_scale_text_encoder)
    defaults = (source.sampling.lora_scale_unet, source.sampling.lora_scale_text_encoder)
    unet, text_encoder = (d if s is None else s for s, d in zip(scales, defaults, strict=True))
    chosen = ExportOptions(options.format, options.single_file, options.half, unet, text_encoder)
    paths = write_export(base, settings, options.out, origin, chosen)
    with advising(f"The export is whole in {options.out}."):
        for path in paths:
            print(f"{options.format}: {path}")
        print(f"model card: {options.out / 'README.md'}")
        if options.push_to_hub:
            with advising(f"The export is whole in {options.out}; not all of it is on the hub."):
                print(f"hub: {push(options.out, options.push_to_hub)}")
