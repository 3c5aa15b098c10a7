"""Export in PEFT's layout: one folder per network, which `PeftModel.from_pretrained` reads."""

from __future__ import annotations

from pathlib import Path

from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from dreambooth_pl.adapters import ADAPTER_NAME, adapter_parameters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.clip_names import TEXT_MODEL, with_text_model
from dreambooth_pl.bases.families import is_text_encoder

_PREFIX = "base_model.model."  # prefix of a network inside a PeftModel


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
