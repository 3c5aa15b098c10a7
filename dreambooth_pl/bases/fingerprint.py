"""A short hash that identifies a base, independently of its files' place and precision."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import nn


def fingerprint(
    family: str,
    modules: Mapping[str, nn.Module],
    tokenizers: Sequence[Any],
    scaling_factor: float,
    schedule: Mapping[str, Any],
) -> str:
    """Hash the noise schedule, token lengths, and each parameter's name, shape and about 16 values.

    Values are rounded to float16, so that float32 and float16 files agree. `text_model.` is removed
    from names, because only some transformers versions have it.

    Args:
        family: name of the base's family.
        modules: networks by component, without adapters.
        tokenizers: one for each text encoder.
        scaling_factor: scaling factor of the latents.
        schedule: facts that identify the noise schedule, in plain types.

    Returns:
        16 hexadecimal digits.
    """
    facts = dict(schedule)
    facts["lengths"] = [tokenizer.model_max_length for tokenizer in tokenizers]
    facts["scaling_factor"] = scaling_factor
    digest = sha256(json.dumps([family, facts], sort_keys=True).encode())
    for component, module in modules.items():
        named = ((n.replace("text_model.", ""), p) for n, p in module.named_parameters())
        for name, parameter in sorted(named, key=lambda item: item[0]):
            values = parameter.detach().flatten()
            values = values[:: max(1, values.numel() // 16)].to(torch.float16)
            digest.update(f"{component}.{name}{tuple(parameter.shape)}".encode())
            digest.update(values.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
