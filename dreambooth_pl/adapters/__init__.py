"""PEFT adapters of a base: injection, trainable parameters, strength, files and state."""

from dreambooth_pl.adapters.files import (
    METADATA_KEY,
    TUNED_NAME,
    WEIGHTS_NAME,
    load_adapters,
    load_weighted_adapters,
    save_adapters,
    weights_in,
)
from dreambooth_pl.adapters.finite import check_finite, first_not_finite
from dreambooth_pl.adapters.injection import (
    adapted_layers,
    adapter_kind,
    adapter_parameters,
    adapter_state_dict,
    add_adapters,
    check_trainable_set,
    load_adapter_state_dict,
    parameters_without_gradient,
    remove_adapters,
    trainable_parameters,
)
from dreambooth_pl.adapters.kinds import ADAPTER_NAME, EXPORT_FORMATS, export_formats
from dreambooth_pl.adapters.merging import merged_while_generating
from dreambooth_pl.adapters.settings import AdapterKind, AdapterSettings
from dreambooth_pl.adapters.strength import adapter_scale

__all__ = [
    "ADAPTER_NAME",
    "EXPORT_FORMATS",
    "METADATA_KEY",
    "TUNED_NAME",
    "WEIGHTS_NAME",
    "AdapterKind",
    "AdapterSettings",
    "adapted_layers",
    "adapter_kind",
    "adapter_parameters",
    "adapter_state_dict",
    "add_adapters",
    "check_finite",
    "check_trainable_set",
    "export_formats",
    "first_not_finite",
    "load_adapter_state_dict",
    "load_adapters",
    "load_weighted_adapters",
    "adapter_scale",
    "merged_while_generating",
    "parameters_without_gradient",
    "remove_adapters",
    "save_adapters",
    "trainable_parameters",
    "weights_in",
]
