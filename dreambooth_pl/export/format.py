"""What an export format is: how a base's adapters are written for other tools, and loaded there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dreambooth_pl.adapters import AdapterSettings
from dreambooth_pl.bases.base import Base
from dreambooth_pl.export.origin import Origin


@dataclass(frozen=True)
class ExportOptions:
    """The format of an export, and the options of a merged model."""

    form: str
    """One of `formats.FORMATS`."""
    single_file: bool = False
    """Whether a merged model is one checkpoint file instead of a diffusers folder."""
    half: bool = False
    """Whether a merged model's weights are float16."""
    unet_scale: float = 1.0
    """Strength at which the denoiser's adapters are merged; 1 is as trained."""
    text_encoder_scale: float = 1.0
    """Strength at which the text encoders' adapters are merged; 1 is as trained."""


class ExportFormat(ABC):
    """A format. A new one is a file with a subclass and an entry in `formats.FORMATS`."""

    title: ClassVar[str]
    """For the model card: the adapter "as X reads it"."""

    @abstractmethod
    def write(
        self,
        base: Base,
        settings: AdapterSettings,
        folder: Path,
        origin: Origin,
        options: ExportOptions,
    ) -> list[str]:
        """Write the base's adapters into `folder`; return the names of what can be loaded.

        Args:
            base: the base with the adapters. It need not have them afterwards.
            settings: the settings that the adapters were loaded with.
            folder: an empty folder.
            origin: the run, for file headers.
            options: of the export.
        """

    @abstractmethod
    def usage(self, base: Base, origin: Origin, options: ExportOptions) -> tuple[str, str]:
        """Return how to load the export, and a note for the model card; both in Markdown."""


def python_example(base: Base, origin: Origin, line: str, imports: str = "") -> str:
    """Return a Python block that loads the base's pipeline and goes on with `line`."""
    pipeline = base.rules.pipeline_class
    load = f'pipeline = {pipeline}.from_pretrained("{origin.base}")'
    return f"```python\nfrom diffusers import {pipeline}\n{imports}\n{load}\n{line}\n```"


def scale_note(origin: Origin) -> str:
    """Return the strength at which the run generated its own images; empty where unknown."""
    sampling = origin.section("sampling")
    if not sampling:
        return ""
    return (
        f"The run's own images were generated at LoRA scale {sampling.get('lora_scale_unet')} in "
        f"the denoiser and {sampling.get('lora_scale_text_encoder')} in the text encoder."
    )
