"""Writing an export in any format: the new folder appears complete, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreambooth_pl.adapters import (
    AdapterSettings,
    adapter_kind,
    adapter_parameters,
    check_finite,
    export_formats,
)
from dreambooth_pl.bases.base import Base
from dreambooth_pl.errors import UserError
from dreambooth_pl.export.format import ExportOptions
from dreambooth_pl.export.formats import FORMATS
from dreambooth_pl.export.model_card import model_card, write_card
from dreambooth_pl.export.origin import Origin
from dreambooth_pl.files.atomic import WriteError, atomic_folder
from dreambooth_pl.files.leftovers import remove_leftovers


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
        UserError: `out` exists already or cannot be written, the format does not support these
            adapters, or they are not finite.
    """
    check_format(base, options)
    adapters = {n: p for m in base.adaptable.values() for n, p in adapter_parameters(m).items()}
    check_finite(adapters, str(out))
    with _new_folder(out) as folder:
        form = FORMATS[options.form]
        names = form.write(base, settings, folder, origin, options)
        usage, note = form.usage(base, origin, options)
        write_card(folder, origin, model_card(origin, form.title, usage, note))
    return [out / name for name in names]


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
