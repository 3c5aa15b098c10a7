"""The header of an adapter file, checked before anything is made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from torch import Tensor

from dreambooth_pl.adapters.settings import Alpha, Dropout, Rank
from dreambooth_pl.bounds import Bounds
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.typed import TypedReader, Words

METADATA_KEY = "lora_adapter_metadata"  # header key under which diffusers keeps rank and alpha
FULL_KEY = "dreambooth_pl.tuned"  # header key of kind full: names of the tuned networks
_REMEDY = "The file's header was changed or damaged; export or download the file again."
_Targets = list[Words] | Annotated[str, Words.__metadata__[0]]
_ARGUMENTS: dict[str, Any] = {
    "r": Annotated[int, Bounds(0, 2048)],  # 0 with oft
    "lora_alpha": Alpha,
    "alpha": Alpha,
    "lora_dropout": Dropout,
    "rank_dropout": Dropout,
    "module_dropout": Dropout,
    "oft_block_size": Rank,
    "rank_dropout_scale": bool,
    "use_cayley_neumann": bool,
    "use_rslora": bool,
    "use_dora": bool,
    "target_modules": _Targets,
    "exclude_modules": _Targets | None,
    "rank_pattern": dict[Words, Rank],
    "alpha_pattern": dict[Words, Alpha],
}
"""Arguments of PEFT that are read, with their types. Others are left out: some name Python modules
to import."""
_DOWN = (".lora_A.weight", ".lora_linear_layer.down.weight", ".lora.down.weight")


def read_settings(source: str, header: Mapping[str, str]) -> dict[str, Any]:
    """Return diffusers' adapter metadata from a header, by `component.argument`.

    Args:
        source: name of the file, for messages.
        header: the file's header.

    Raises:
        UserError: the metadata are no mapping, or a value is of a wrong type or out of its bounds.
    """
    try:
        metadata = json.loads(header.get(METADATA_KEY) or "{}")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: {METADATA_KEY}: is no valid JSON: {error} {_REMEDY}") from error
    read = TypedReader(source, metadata, _REMEDY)
    read.checked(METADATA_KEY, metadata, dict)
    known = {}
    for key, value in metadata.items():
        kind = _ARGUMENTS.get(key.rpartition(".")[2])
        if kind is not None:
            known[key] = read.checked(f"{METADATA_KEY}, {key}", value, kind)
    return known


def check_ranks(source: str, metadata: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Check that the header's ranks are those of the tensors, before memory is taken for them.

    Only LoRA's tensors show their rank.

    Raises:
        UserError: no tensor has a rank that the header names.
    """
    ranks: dict[str, set[int]] = {}
    for key, tensor in weights.items():
        if key.endswith(_DOWN) and tensor.ndim:
            ranks.setdefault(key.partition(".")[0], set()).add(tensor.shape[0])
    for key, value in metadata.items():
        component, _, argument = key.rpartition(".")
        if argument == "r" and not metadata.get(f"{component}.rank_pattern"):
            named = [value]
        elif argument == "rank_pattern":
            named = list(value.values())
        else:
            continue
        for rank in named:
            if component in ranks and rank not in ranks[component]:
                found = ", ".join(map(str, sorted(ranks[component])))
                raise UserError(
                    f"{source}: {METADATA_KEY}, {key}: is {rank}, but the tensors have rank "
                    f"{found}. {_REMEDY}"
                )


def check_complete(
    source: str, metadata: Mapping[str, Any], needed: set[str], component: str
) -> None:
    """Check that a component's arguments are complete.

    Args:
        source: name of the file, for messages.
        metadata: the component's arguments.
        needed: names that must be there.
        component: name of the component.

    Raises:
        UserError: one is missing.
    """
    for name in sorted(needed - metadata.keys()):
        raise UserError(f"{source}: {METADATA_KEY} has no {component}.{name}. {_REMEDY}")


def tuned_networks(source: str, header: Mapping[str, str], known: Mapping[str, Any]) -> list[str]:
    """Return the networks of which a file holds all weights.

    Args:
        source: name of the file, for messages.
        header: the file's header.
        known: the base's networks that can be tuned, by name.

    Raises:
        UserError: the base has no such network.
    """
    names = list(dict.fromkeys(header.get(FULL_KEY, "").split()))
    for name in names:
        if name not in known:
            raise UserError(
                f"{source}: {FULL_KEY}: {name[:60]!r} is no network of the base, which has "
                f"{', '.join(known)}. Name the base that the file was trained on with --base."
            )
    return names
