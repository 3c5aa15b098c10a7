"""Adapters by PEFT: where they go, what trains, how strongly they draw, state in and out."""

from dreambooth_pl.lora.adapters import (
    ADAPTER,
    adapted_layers,
    adapter_kind,
    adapter_parameters,
    adapter_state_dict,
    add_lora,
    assert_trainable_set,
    load_adapter_state_dict,
    remove_lora,
    trainable_parameters,
)
from dreambooth_pl.lora.files import (
    METADATA_KEY,
    TUNED_NAME,
    WEIGHTS_NAME,
    load_lora,
    load_loras,
    save_lora,
    weights_in,
)
from dreambooth_pl.lora.kinds import FORMATS, export_formats
from dreambooth_pl.lora.merging import merged_while_drawing
from dreambooth_pl.lora.settings import AdapterKind, LoraSettings
from dreambooth_pl.lora.strength import lora_scale

__all__ = [
    "ADAPTER",
    "FORMATS",
    "METADATA_KEY",
    "TUNED_NAME",
    "WEIGHTS_NAME",
    "AdapterKind",
    "LoraSettings",
    "adapted_layers",
    "adapter_kind",
    "adapter_parameters",
    "adapter_state_dict",
    "add_lora",
    "assert_trainable_set",
    "export_formats",
    "load_adapter_state_dict",
    "load_lora",
    "load_loras",
    "lora_scale",
    "merged_while_drawing",
    "remove_lora",
    "save_lora",
    "trainable_parameters",
    "weights_in",
]
