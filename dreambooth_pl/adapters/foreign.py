"""Adapter files of other tools, in kohya's or diffusers' layout.

kohya's layout stores for each layer `lora_down`, `lora_up` and `alpha`, with the update
alpha / rank * up down. DoRA adds `dora_scale`. LoKr and LoHa store LyCORIS's factors instead. Each
layer is identified by kohya's names for the base's layers, or by another name in `layouts`.

Files in diffusers' layout are read by diffusers. diffusers can read kohya's layout, too, but it
loses the alpha of attention layers if layers differ in alpha, and the magnitudes of DoRA.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from dreambooth_pl.adapters.injection import adapted_layers, adapter_parameters, copy_exactly
from dreambooth_pl.adapters.kinds import KINDS, alphas, recognise, wrap_layers
from dreambooth_pl.adapters.layouts import (
    is_named_by_layers,
    layer_table,
    split,
    without_place,
)
from dreambooth_pl.adapters.settings import AdapterKind, AdapterSettings, Alpha, Rank
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.families import is_text_encoder
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.typed import mistake

_LORA_PARTS = {"lora_down.weight", "lora_up.weight", "alpha", "dora_scale"}


def kind(weights: dict[str, Tensor]) -> AdapterKind:
    """Return the kind of a file's adapters by its keys. It is `lora` if no other kind matches."""
    return recognise(list(weights)) or "lora"


def attach(
    base: Base, source: str, weights: dict[str, Tensor], metadata: dict[str, Any], name: str
) -> AdapterSettings:
    """Add a file's adapters to the base, frozen, at the strength they were trained with.

    Args:
        base: of the family that the file is for.
        source: name of the file, for messages.
        weights: tensors of the file.
        metadata: diffusers' adapter metadata of the file; may be empty.
        name: PEFT's name for the adapter.

    Returns:
        The most frequent rank and alpha.

    Raises:
        UserError: the layout is unknown, or the file does not fit this base.
    """
    if is_named_by_layers(base, weights):
        _attach_kohya(base, source, weights, name)
    else:
        _attach_diffusers(base, source, weights, metadata, name)
    own = [layer for _, _, layer in adapted_layers(base) if name in alphas(layer)]
    for module in base.adaptable.values():
        module.eval().requires_grad_(False)
        for parameter in adapter_parameters(module).values():
            parameter.data = parameter.data.float()
    rank = Counter(layer.r[name] for layer in own).most_common(1)[0][0]
    alpha = Counter(alphas(layer)[name] for layer in own).most_common(1)[0][0]
    return AdapterSettings(rank=int(rank), alpha=float(alpha))


def _attach_kohya(base: Base, source: str, weights: dict[str, Tensor], name: str) -> None:
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in weights.items():
        layer, part = split(key)
        layers[layer][part] = tensor
    table = layer_table(base)
    unknown = sorted(layers.keys() - table.keys())
    if unknown:
        raise UserError(
            f"{source} does not fit the base {base.name!r} ({base.family}): it adapts {unknown[0]} "
            f"and {len(unknown) - 1} more layers that the base does not have. "
            f"{without_place(base, weights)}"
        )
    which = kind(weights)
    for component, module in base.adaptable.items():
        own = {table[k][1]: parts for k, parts in layers.items() if table[k][0] == component}
        if not own:
            continue
        if which == "lora":
            _add_lora_layers(module, own, source, name)
        else:
            _add_lycoris_layers(module, own, which, source, name)


def _add_lora_layers(
    module: nn.Module, layers: dict[str, dict[str, Tensor]], source: str, name: str
) -> None:
    """Add LoRA or DoRA to layers, each with its own rank and alpha.

    Raises:
        UserError: a layer's tensors are incomplete or of an unknown or unsupported kind.
    """
    ranks, strengths, state = {}, {}, {}
    for layer, parts in layers.items():
        left = sorted(parts.keys() - _LORA_PARTS)
        if left or not {"lora_down.weight", "lora_up.weight"} <= parts.keys():
            what = f"has {left[0]}" if left else "lacks lora_down or lora_up"
            raise UserError(f"{source}: {layer} {what}; only LoRA, DoRA, LoKr and LoHa are known.")
        ranks[layer] = _rank(source, layer, parts)
        strengths[layer] = _alpha(source, layer, parts, ranks[layer])
        state[f"{layer}.lora_A.{name}.weight"] = parts["lora_down.weight"]
        state[f"{layer}.lora_B.{name}.weight"] = parts["lora_up.weight"]
    dora = {layer: parts["dora_scale"] for layer, parts in layers.items() if "dora_scale" in parts}
    if dora and len(dora) < len(layers):
        raise UserError(f"{source}: some layers have a dora_scale and some do not.")
    rank, strength = (Counter(d.values()).most_common(1)[0][0] for d in (ranks, strengths))
    _add(
        module,
        "lora",
        name,
        r=rank,
        lora_alpha=strength,
        target_modules=list(layers),
        rank_pattern={f"^{n}": r for n, r in ranks.items() if r != rank},
        alpha_pattern={f"^{n}": a for n, a in strengths.items() if a != strength},
        use_dora=bool(dora),
    )
    for layer, scale in dora.items():
        magnitude = module.get_submodule(layer).lora_magnitude_vector[name].weight
        if scale.shape[0] != max(magnitude.shape) or scale.numel() != magnitude.numel():
            raise UserError(f"{source}: {layer} scales columns; only DoRA of rows can be read.")
        state[f"{layer}.lora_magnitude_vector.{name}.weight"] = scale.reshape(magnitude.shape)
    own = {n: p for n, p in adapter_parameters(module).items() if name in n.split(".")}
    copy_exactly({n: p.detach() for n, p in own.items()}, state, source)


def _rank(source: str, layer: str, parts: dict[str, Tensor]) -> int:
    """Return the rank that a layer's tensors have.

    Raises:
        UserError: they have none, or one out of its bounds.
    """
    down, up = parts["lora_down.weight"], parts["lora_up.weight"]
    if down.ndim < 2 or up.ndim < 2 or not down.numel() or not up.numel():
        raise UserError(f"{source}: {layer}: lora_down and lora_up are no matrices.")
    rank = down.shape[0]
    wrong = mistake(rank, Rank)
    if wrong or up.shape[1] != rank:
        what = wrong or f"is {rank} in lora_down and {up.shape[1]} in lora_up."
        raise UserError(f"{source}: {layer}: the rank {what}")
    return rank


def _alpha(source: str, layer: str, parts: dict[str, Tensor], rank: int) -> float:
    """Return a layer's alpha; the rank if the file has none.

    Raises:
        UserError: it is no number, or out of its bounds.
    """
    if "alpha" not in parts:
        return float(rank)
    alpha = parts["alpha"]
    wrong = mistake(float(alpha), Alpha) if alpha.numel() == 1 else "holds several numbers."
    if wrong:
        raise UserError(f"{source}: {layer}.alpha: {wrong}")
    return float(alpha)


def _add_lycoris_layers(
    module: nn.Module,
    layers: dict[str, dict[str, Tensor]],
    which: AdapterKind,
    source: str,
    name: str,
) -> None:
    """Add LoKr or LoHa to layers, with the factors of the file in any shapes.

    Raises:
        UserError: the factors of a layer do not fit together, or do not fit the layer.
    """
    _add(module, which, name, r=1, alpha=1.0, target_modules=list(layers))
    for layer_name, parts in layers.items():
        layer = module.get_submodule(layer_name)
        for part in KINDS[which].marks:
            if name in getattr(layer, part):
                del getattr(layer, part)[name]
        for part, tensor in parts.items():
            if part != "alpha":
                getattr(layer, part)[name] = nn.Parameter(tensor.float(), requires_grad=False)
        rank = next((t.shape[i] for p, i in _RANKS.items() if (t := parts.get(p)) is not None), 1)
        # LyCORIS ignores alpha if no factor is decomposed, as there is no rank then
        whole = not any(part in parts for part in _RANKS)
        layer.r[name] = rank
        layer.alpha[name] = 1.0 if whole else _alpha(source, layer_name, parts, rank)
        layer.set_scale(name, 1.0)
        try:
            shape = layer.get_delta_weight(name).shape
        except (RuntimeError, IndexError, ValueError, AttributeError, TypeError) as error:
            raise UserError(
                f"{source}: the tensors of {layer_name} do not fit together."
            ) from error
        if shape != layer.get_base_layer().weight.shape:
            raise UserError(
                f"{source}: {layer_name} is {tuple(shape)} there and "
                f"{tuple(layer.get_base_layer().weight.shape)} in the base."
            )


_RANKS = {"hada_w1_b": 0, "lokr_w2_b": 0, "lokr_w1_b": 0}  # factor: dimension with the rank's size


def _attach_diffusers(
    base: Base, source: str, weights: dict[str, Tensor], metadata: dict[str, Any], name: str
) -> None:
    """Let diffusers read the file. Without metadata, alpha equals the rank.

    Raises:
        UserError: diffusers cannot read the file, or finds no place for some of its tensors.
    """
    pipeline = base.pipeline()
    problem = f"{source} is no LoRA in a layout that is known, diffusers' or kohya's"
    try:
        with torch.random.fork_rng(devices=[]):
            state, options = base.rules.read_lora(pipeline, dict(weights))
            common = {"adapter_name": name, "metadata": metadata or None, "_pipeline": pipeline}
            for component, module in base.adaptable.items():
                if not any(key.startswith(f"{component}.") for key in state):
                    continue
                if is_text_encoder(component):
                    options = {"network_alphas": None, **options}
                    pipeline.load_lora_into_text_encoder(
                        state, text_encoder=module, prefix=component, **options, **common
                    )
                else:
                    load = getattr(pipeline, f"load_lora_into_{component}")
                    load(state, **{component: module}, **options, **common)
    except (ValueError, KeyError, RuntimeError, TypeError, IndexError) as error:
        reason = str(error).strip().split("\n")[0]
        where = without_place(base, weights)
        raise UserError(
            f"{problem}, or does not fit the base {base.name!r}: {where or reason}"
        ) from error
    loaded = [n for m in base.adaptable.values() for n in adapter_parameters(m)]
    count = sum(name in parameter.split(".") for parameter in loaded)
    if not count or count != len(state):
        raise UserError(
            f"{problem}, or does not fit the base {base.name!r}: diffusers found a place for "
            f"{count} of its {len(state)} tensors. {without_place(base, weights)}"
        )


def _add(module: nn.Module, which: AdapterKind, name: str, **arguments: Any) -> None:
    with torch.random.fork_rng(devices=[]):
        wrap_layers(module, KINDS[which].config(**arguments), name)
    assert any(isinstance(layer, BaseTunerLayer) for layer in module.modules())
