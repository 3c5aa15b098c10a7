"""The base as several runs see it together: one set of frozen weights, adapters by sample."""

from __future__ import annotations

from collections.abc import Sequence

from dreambooth_pl.adapters import adapted_layers, trainable_parameters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import replica
from dreambooth_pl.training.together.layers import grouped
from dreambooth_pl.training.together.parameters import StackedParameters


def together(bases: Sequence[Base], parameters: StackedParameters, rows: slice) -> Base:
    """Return a base whose adapted layers have the adapters of several runs; see `layers`.

    Components that do not train are those of the first run.

    Args:
        bases: of all runs; they share their frozen weights.
        parameters: adapters of all runs.
        rows: the runs whose samples the batches hold.
    """
    joint = replica(bases[0])
    trained = trainable_parameters(joint)
    for component, name, layer in list(adapted_layers(joint)):
        if component not in trained:
            continue
        a, b = parameters.factors(component, name, rows)
        scaling = parameters.scaling(component, name)[rows]
        parent, _, last = name.rpartition(".")
        owner = joint.adaptable[component].get_submodule(parent)
        owner.register_module(last, grouped(layer, (a, b, scaling)))
    for component in trained:
        joint.adaptable[component].train()
    return joint
