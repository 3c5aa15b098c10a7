"""Writing an export: complete, to a new place, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from dreambooth_pl.adapters import (
    WEIGHTS_NAME,
    AdapterSettings,
    adapter_kind,
    adapter_parameters,
    check_finite,
    export_formats,
    save_adapters,
)
from dreambooth_pl.bases.base import Base
from dreambooth_pl.errors import UserError
from dreambooth_pl.export.kohya import kohya_header, kohya_weights
from dreambooth_pl.export.merged import merged, write_folder, write_single_file
from dreambooth_pl.export.model_card import model_card, write_card
from dreambooth_pl.export.origin import Origin
from dreambooth_pl.export.peft import write_peft
from dreambooth_pl.files.atomic import WriteError, atomic_folder, remove_leftovers


@dataclass(frozen=True)
class ExportOptions:
    """What is written.

    Attributes:
        form: one of `adapters.EXPORT_FORMATS`.
        single_file: a merged model as one checkpoint file in place of a diffusers folder.
        half: a merged model's weights in float16.
        unet_scale, text_encoder_scale: at which a merged model is merged.
    """

    form: str
    single_file: bool = False
    half: bool = False
    unet_scale: float = 1.0
    text_encoder_scale: float = 1.0


def check_format(base: Base, options: ExportOptions) -> None:
    """Raise UserError if the base's adapters cannot be written in this format."""
    kind, rules = adapter_kind(base), base.rules
    possible = export_formats(kind, rules)
    if options.form not in possible:
        raise UserError(
            f"--format {options.form}: adapters of kind {kind} on {rules.title} can be exported as "
            f"{' or '.join(possible)}."
        )
    if options.single_file and not rules.has_original_layout:
        raise UserError(
            f"--single-file: {rules.title} cannot be written as one file; leave the option out for "
            "a diffusers folder."
        )


def write_export(
    base: Base, settings: AdapterSettings, out: Path, origin: Origin, options: ExportOptions
) -> list[Path]:
    """Write the base's adapters, or the base with them, into a new folder.

    The folder appears when all is in it. A merged base has lost its adapters afterwards.

    Args:
        base: with adapters of a run or file in it.
        settings: that the adapters were loaded with.
        out: the new folder.
        origin: for header and model card.
        options: what to write.

    Returns:
        The paths of what can be loaded: files, or the folder.

    Raises:
        UserError: `out` is there already, or cannot be written; the format is not for these
            adapters, or they are not finite.
    """
    check_format(base, options)
    adapters = {n: p for m in base.adaptable.values() for n, p in adapter_parameters(m).items()}
    check_finite(adapters, str(out))
    with _new_folder(out) as folder:
        names = _write(base, settings, folder, origin, options)
        usage, note = _usage(base, origin, options)
        form = f"as {options.form} reads it" if options.form != "merged" else "merged into the base"
        write_card(folder, origin, model_card(origin, form, usage, note))
    return [out / name for name in names]


def _write(
    base: Base, settings: AdapterSettings, folder: Path, origin: Origin, options: ExportOptions
) -> list[str]:
    if options.form == "diffusers":
        save_adapters(base, settings, folder)
        return [WEIGHTS_NAME]
    if options.form == "kohya":
        weights = kohya_weights(base)
        header = kohya_header(base, weights, origin)
        save_file(weights, folder / f"{origin.name}.safetensors", header)
        return [f"{origin.name}.safetensors"]
    if options.form == "peft":
        write_peft(base, folder)
        return sorted(path.name for path in folder.iterdir())
    with merged(base, options.unet_scale, options.text_encoder_scale):
        if options.half:
            for module in base.modules.values():
                module.to(torch.float16)
        if options.single_file:
            write_single_file(base, folder / f"{origin.name}.safetensors", origin)
            return [f"{origin.name}.safetensors"]
        write_folder(base, folder)
        return ["."]


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    if out.exists() or out.is_symlink():
        raise UserError(f"--out: {out} is there already, and nothing is overwritten.")
    remove_leftovers(out.parent)
    try:
        with atomic_folder(out) as folder:
            yield folder
    except WriteError as error:
        raise UserError(f"--out: {error}") from error


def _usage(base: Base, origin: Origin, options: ExportOptions) -> tuple[str, str]:
    """Return how to load the export, and what else to know."""
    pipeline = base.rules.pipeline_class
    load = f'pipeline = {pipeline}.from_pretrained("{origin.base}")'
    start = f"```python\nfrom diffusers import {pipeline}\n\n"
    if options.form == "diffusers":
        return f'{start}{load}\npipeline.load_lora_weights(".")\n```', _scale_note(origin)
    if options.form == "kohya":
        text = (
            f"Put `{origin.name}.safetensors` into `models/loras` (ComfyUI) or `models/Lora` "
            f"(AUTOMATIC1111, Forge), or\n\n{start}{load}\n"
            f'pipeline.load_lora_weights(".", weight_name="{origin.name}.safetensors")\n```'
        )
        return text, _scale_note(origin)
    if options.form == "peft":
        text = (
            f"```python\nfrom diffusers import {pipeline}\nfrom peft import PeftModel\n\n{load}\n"
            f'PeftModel.from_pretrained(pipeline.{base.rules.denoiser}, "{base.rules.denoiser}")  '
            "# adapts it in place\n```"
        )
        return text, "Each folder holds the adapter of the network that it is called after."
    note = (
        f"Merged at LoRA scale {options.unet_scale:g} in the UNet and "
        f"{options.text_encoder_scale:g} in the text encoder."
    )
    if options.single_file:
        text = f'pipeline = {pipeline}.from_single_file("{origin.name}.safetensors")'
        return f"{start}{text}\n```", note
    return f'{start}pipeline = {pipeline}.from_pretrained(".")\n```', note


def _scale_note(origin: Origin) -> str:
    sampling = origin.section("sampling")
    if not sampling:
        return ""
    return (
        f"The run's own pictures were drawn at LoRA scale {sampling.get('lora_scale_unet')} in the "
        f"UNet and {sampling.get('lora_scale_text_encoder')} in the text encoder."
    )
