"""kohya's layout of LoRA files, which ComfyUI, AUTOMATIC1111 and Forge read.

`Family.kohya_names` gives the name of each layer. A layer has `.lora_down.weight` [rank, in, ...],
`.lora_up.weight` [out, rank, ...] and the scalar `.alpha`; its update is alpha / rank * up @ down.
DoRA adds `.dora_scale` [out, 1, ...]. LoKr and LoHa use the names of LyCORIS. User interfaces show
the metadata in the header: kohya's `ss_*` keys, and the `modelspec.*` keys of Stability AI's
metadata standard. `generate.py` reads back the `dreambooth_pl.*` keys: base, words and strength.
"""

from __future__ import annotations

import hashlib
import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from dreambooth_pl.adapters import ADAPTER_NAME, AdapterSettings, adapted_layers, adapter_kind
from dreambooth_pl.adapters.kinds import KINDS, alphas, layer_kind
from dreambooth_pl.bases.base import Base
from dreambooth_pl.export.format import ExportFormat, ExportOptions, python_example, scale_note
from dreambooth_pl.export.origin import Origin
from dreambooth_pl.runs.adapter_source import SCALES

_BASE_VERSIONS = {  # modelspec.architecture: ss_base_model_version
    "stable-diffusion-v1": "sd_v1",
    "stable-diffusion-v2-512": "sd_v2",
    "stable-diffusion-v2-768-v": "sd_v2_v",
    "stable-diffusion-xl-v1-base": "sdxl_base_v1-0",
}


class KohyaFormat(ExportFormat):
    """One file in kohya's layout."""

    title = "as kohya reads it"

    def write(
        self,
        base: Base,
        settings: AdapterSettings,
        folder: Path,
        origin: Origin,
        options: ExportOptions,
    ) -> list[str]:
        """Write `NAME.safetensors`, where NAME is the export's."""
        weights = kohya_weights(base)
        header = kohya_header(base, weights, origin)
        name = f"{origin.name}.safetensors"
        safetensors.torch.save_file(weights, folder / name, header)
        return [name]

    def usage(self, base: Base, origin: Origin, options: ExportOptions) -> tuple[str, str]:
        """Return where to put the file, and how diffusers loads it."""
        name = f"{origin.name}.safetensors"
        load = f'pipeline.load_lora_weights(".", weight_name="{name}")'
        text = (
            f"Put `{name}` into `models/loras` (ComfyUI) or `models/Lora` (AUTOMATIC1111, Forge), "
            f"or\n\n{python_example(base, origin, load)}"
        )
        return text, scale_note(origin)


def kohya_weights(base: Base) -> dict[str, Tensor]:
    """Return the base's adapter weights under kohya's names, in float32 on the CPU."""
    weights: dict[str, Tensor] = {}
    for component, name, layer in adapted_layers(base):
        for part, tensor in _layer(layer).items():
            key = f"{base.rules.kohya_names(component, name, base.denoiser.config)[0]}.{part}"
            weights[key] = tensor.detach().float().cpu().contiguous().clone()
    return weights


def kohya_header(base: Base, weights: dict[str, Tensor], origin: Origin) -> dict[str, str]:
    """Return the metadata for a file's header.

    Args:
        base: the base with the adapters.
        weights: the tensors of the file, for its hash.
        origin: the run, for its settings.

    Returns:
        Strings under `ss_*`, `modelspec.*` and `dreambooth_pl.*` keys; unknown values are left
        out.
    """
    kind = adapter_kind(base)
    layers = [layer for _, _, layer in adapted_layers(base)]
    config, data, model = origin.config, origin.section("data"), origin.section("model")
    version = _BASE_VERSIONS[base.architecture]
    side = data.get("resolution") or base.resolution
    count, tag = origin.photo_count, f"{origin.identifier} {origin.class_noun}".strip()
    plain = kind == "lora"
    arguments: dict[str, str] = {} if plain else {"algo": str(kind)}
    if plain and any("default" in layer.lora_magnitude_vector for layer in layers):
        arguments["dora_wd"] = "True"
    facts: dict[str, Any] = {
        "ss_network_module": "networks.lora" if plain and not arguments else "lycoris.kohya",
        "ss_network_dim": layers[0].r[ADAPTER_NAME],
        "ss_network_alpha": _kohya_alpha(layers[0]),
        "ss_network_args": json.dumps(arguments) if arguments else None,
        "ss_network_dropout": origin.section("model.lora").get("dropout"),
        "ss_base_model_version": version,
        "ss_v2": version.startswith("sd_v2"),
        "ss_sd_model_name": base.name,
        "ss_output_name": origin.name,
        "ss_resolution": f"({side}, {side})",
        "ss_steps": origin.steps,
        "ss_max_train_steps": origin.steps,
        "ss_batch_size_per_device": data.get("batch_size"),
        "ss_unet_lr": model.get("learning_rate"),
        "ss_learning_rate": model.get("learning_rate"),
        "ss_text_encoder_lr": model.get("text_encoder_learning_rate")
        if model.get("train_text_encoder")
        else None,
        "ss_lr_scheduler": "constant",
        "ss_optimizer": "torch.optim.AdamW" if config and not model.get("optimizer") else None,
        "ss_seed": config.get("seed_everything"),
        "ss_prior_loss_weight": model.get("prior_loss_weight"),
        "ss_min_snr_gamma": model.get("min_snr_gamma"),
        "ss_noise_offset": model.get("noise_offset") or None,
        "ss_mixed_precision": origin.section("trainer").get("precision"),
        "ss_num_train_images": count,
        "ss_num_reg_images": data.get("num_class_images"),
        "ss_training_comment": f"trigger: {tag}" if tag else None,
    }
    if tag and count:
        folder = f"1_{tag}"
        facts["ss_tag_frequency"] = json.dumps({folder: {tag: count}})
        facts["ss_dataset_dirs"] = json.dumps({folder: {"n_repeats": 1, "img_count": count}})
    digest = _data_hash(weights)
    facts |= {"sshs_model_hash": digest, "sshs_legacy_hash": digest[:8]}
    facts |= {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{base.architecture}/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": origin.name,
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.prediction_type": base.objective.prediction,
        "modelspec.date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "modelspec.trigger_phrase": tag or None,
        "modelspec.tags": "dreambooth, lora" if plain else f"dreambooth, {kind}",
        "modelspec.license": origin.licence,
        "modelspec.hash_sha256": f"0x{digest}",
        "dreambooth_pl.base": base.name,
        "dreambooth_pl.identifier": origin.identifier or None,
        "dreambooth_pl.class_noun": origin.class_noun or None,
    }
    sampling = origin.section("sampling")
    facts |= {f"dreambooth_pl.{key}": sampling.get(key) for key in SCALES}
    return {"format": "pt", **{k: str(v) for k, v in facts.items() if v is not None}}


def _layer(layer: BaseTunerLayer) -> dict[str, Tensor]:
    """Return the tensors of a layer under kohya's names of the parts."""
    kind = layer_kind(layer)
    if kind == "lora":
        a, b = layer.lora_A[ADAPTER_NAME].weight, layer.lora_B[ADAPTER_NAME].weight
        parts = {"lora_down.weight": a, "lora_up.weight": b}
        if ADAPTER_NAME in layer.lora_magnitude_vector:
            length = layer.lora_magnitude_vector[ADAPTER_NAME].weight.flatten()
            parts["dora_scale"] = length.reshape(-1, *[1] * (a.ndim - 1))
    else:
        own = {part: getattr(layer, part) for part in KINDS[kind].marks}
        parts = {
            part: holder[ADAPTER_NAME] for part, holder in own.items() if ADAPTER_NAME in holder
        }
        if kind == "lokr" and not any(part.endswith("_b") for part in parts):
            # LyCORIS ignores alpha if both factors are full matrices
            parts["lokr_w1"] = parts["lokr_w1"] * layer.scaling[ADAPTER_NAME]
    return parts | {"alpha": torch.tensor(_kohya_alpha(layer))}


def _kohya_alpha(layer: BaseTunerLayer) -> float:
    """Return the alpha for which alpha / rank is the scale of the layer.

    rsLoRA scales by alpha / sqrt(rank), so its alpha is multiplied by sqrt(rank).
    """
    alpha, rank = float(alphas(layer)[ADAPTER_NAME]), layer.r[ADAPTER_NAME]
    rescaled = getattr(layer, "use_rslora", {}).get(ADAPTER_NAME, False)
    return alpha * math.sqrt(rank) if rescaled else alpha


def _data_hash(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 of the file's tensors without its header, as kohya's tools do."""
    data = safetensors.torch.save(weights)
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
