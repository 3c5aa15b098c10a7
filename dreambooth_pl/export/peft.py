"""Export in PEFT's layout: one folder per network, which `PeftModel.from_pretrained` reads."""

from __future__ import annotations

from pathlib import Path

from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from dreambooth_pl.adapters import ADAPTER_NAME, AdapterSettings, adapter_parameters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.clip_names import TEXT_MODEL, with_text_model
from dreambooth_pl.bases.families import is_text_encoder
from dreambooth_pl.export.format import ExportFormat, ExportOptions, python_example
from dreambooth_pl.export.origin import Origin

_PREFIX = "base_model.model."  # prefix of a network inside a PeftModel


class PeftFormat(ExportFormat):
    """A folder per network."""

    title = "as peft reads it"

    def write(
        self,
        base: Base,
        settings: AdapterSettings,
        folder: Path,
        origin: Origin,
        options: ExportOptions,
    ) -> list[str]:
        """Write the folders."""
        write_peft(base, folder)
        return sorted(path.name for path in folder.iterdir())

    def usage(self, base: Base, origin: Origin, options: ExportOptions) -> tuple[str, str]:
        """Return `PeftModel.from_pretrained` on the denoiser's folder."""
        name = base.rules.denoiser
        load = f'PeftModel.from_pretrained(pipeline.{name}, "{name}")  # adapts it in place'
        text = python_example(base, origin, load, "from peft import PeftModel\n")
        return text, "Each folder holds the adapter of the network that it is named after."


def write_peft(base: Base, folder: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` into `folder/COMPONENT`.

    Text encoder weights are stored twice, under the names of transformers 4 and of transformers 5.
    PEFT loads the names that fit and ignores the others.

    Args:
        base: the base with its adapters. Components without adapters get no folder.
        folder: where the components' folders are created.
    """
    for component, module in base.adaptable.items():
        if not adapter_parameters(module):
            continue
        target = folder / component
        target.mkdir(parents=True)
        config = module.peft_config[ADAPTER_NAME]
        config.base_model_name_or_path = base.name
        config.inference_mode = True
        config.save_pretrained(target)
        weights: dict[str, Tensor] = {}
        for name, tensor in get_peft_model_state_dict(module, adapter_name=ADAPTER_NAME).items():
            names = {name}
            if is_text_encoder(component):
                names = {with_text_model(name), with_text_model(name).removeprefix(TEXT_MODEL)}
            for own in names:
                weights[f"{_PREFIX}{own}"] = tensor.detach().float().cpu().contiguous().clone()
        save_file(weights, target / "adapter_model.safetensors", {"format": "pt"})
