"""How a rank compares with the layers that it is for: no update has a rank above their width."""

from __future__ import annotations

from torch import nn

from dreambooth_pl.adapters.settings import AdapterKind, AdapterSettings
from dreambooth_pl.adapters.targets import targeted_layers
from dreambooth_pl.bases.base import Base
from dreambooth_pl.errors import UserError

_KINDS = ("lora", "loha")
"""Kinds whose updates are products of two factors of this rank. lokr takes whole matrices where its
rank is too large, and for oft the rank is the side of blocks."""


def check_rank(base: Base, component: str, settings: AdapterSettings, kind: AdapterKind) -> None:
    """Check that the rank is not above the widths of all targeted layers of a component.

    Raises:
        UserError: it is.
    """
    widths = _widths(base, component, settings, kind)
    if widths and settings.rank > max(widths):
        raise UserError(
            f"model.lora.rank: {settings.rank} is more than the width of every adapted layer of "
            f"the {component}, at most {max(widths)}. Take a smaller rank, such as 8, or "
            "model.adapter full."
        )


def rank_note(
    base: Base, component: str, settings: AdapterSettings, kind: AdapterKind
) -> str | None:
    """Return a line about layers of a component that are narrower than the rank, if any are."""
    widths = _widths(base, component, settings, kind)
    narrow = [width for width in widths if width < settings.rank]
    if not narrow:
        return None
    return (
        f"model.lora.rank: {settings.rank} is more than the width of {len(narrow)} of "
        f"{len(widths)} adapted layers of the {component} ({min(narrow)} at least); there it takes "
        "memory and teaches nothing more."
    )


def _widths(base: Base, component: str, settings: AdapterSettings, kind: AdapterKind) -> list[int]:
    """Return the largest rank that an update of each targeted layer can have."""
    if kind not in _KINDS:
        return []
    names = targeted_layers(base, component, settings.targets(component))
    module = base.adaptable[component]
    return [min(_weight(module.get_submodule(name)).flatten(1).shape) for name in sorted(names)]


def _weight(layer: nn.Module) -> nn.Parameter:
    return getattr(layer, "base_layer", layer).weight
