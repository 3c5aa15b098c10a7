"""diffusers' layout of LoRA files, which `load_lora_weights` reads: what a run writes itself."""

from __future__ import annotations

from pathlib import Path

from dreambooth_pl.adapters import WEIGHTS_NAME, AdapterSettings, save_adapters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.export.format import ExportFormat, ExportOptions, python_example, scale_note
from dreambooth_pl.export.origin import Origin


class DiffusersFormat(ExportFormat):
    """`pytorch_lora_weights.safetensors`."""

    title = "as diffusers reads it"

    def write(
        self,
        base: Base,
        settings: AdapterSettings,
        folder: Path,
        origin: Origin,
        options: ExportOptions,
    ) -> list[str]:
        """Write the file."""
        save_adapters(base, settings, folder)
        return [WEIGHTS_NAME]

    def usage(self, base: Base, origin: Origin, options: ExportOptions) -> tuple[str, str]:
        """Return `load_lora_weights` on the folder."""
        return python_example(base, origin, 'pipeline.load_lora_weights(".")'), scale_note(origin)
