"""Writing an export in any format: the new folder appears complete, or not at all."""

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
    """The format of an export, and the options of a merged model."""

    form: str
    """One of `adapters.EXPORT_FORMATS`."""
    single_file: bool = False
    """Whether a merged model is one checkpoint file instead of a diffusers folder."""
    half: bool = False
    """Whether a merged model's weights are float16."""
    unet_scale: float = 1.0
    """Strength at which the denoiser's adapters are merged; 1 is as trained."""
    text_encoder_scale: float = 1.0
    """Strength at which the text encoders' adapters are merged; 1 is as trained."""


def check_format(base: Base, options: ExportOptions) -> None:
    """Check that the base's adapters can be exported in this format.

    Raises:
        UserError: the kind of adapter or the base's family does not allow it.
    """
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
    """Write the base's adapters, or a merged model, into a new folder.

    The folder appears once it is complete. A merged base no longer has its adapters afterwards.

    Args:
        base: the base with the adapters of a run or a LoRA file.
        settings: the settings that the adapters were loaded with.
        out: the new folder.
        origin: the run, for the file header and the model card.
        options: what to write.

    Returns:
        The paths that can be loaded: files, or the folder.

    Raises:
        UserError: `out` exists already or cannot be written, or the format does not support these
            adapters.
    """
    check_format(base, options)
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
        raise UserError(f"--out: {out} exists already; nothing is overwritten.")
    remove_leftovers(out.parent)
    try:
        with atomic_folder(out) as folder:
            yield folder
    except WriteError as error:
        raise UserError(f"--out: {error}") from error


def _usage(base: Base, origin: Origin, options: ExportOptions) -> tuple[str, str]:
    """Return how to load the export, and a note for the model card; both in Markdown."""
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
        return text, "Each folder holds the adapter of the network that it is named after."
    note = (
        f"Merged at LoRA scale {options.unet_scale:g} in the denoiser and "
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
        f"The run's own images were generated at LoRA scale {sampling.get('lora_scale_unet')} in "
        f"the denoiser and {sampling.get('lora_scale_text_encoder')} in the text encoder."
    )
