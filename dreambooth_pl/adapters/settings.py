"""What adapters are like: kind, size, strength and place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from dreambooth_pl.bases.families import is_text_encoder
from dreambooth_pl.bounds import Bounds, Filled, check_values

AdapterKind = Literal["lora", "lokr", "loha", "oft", "full"]
"""`lora`: arXiv 2106.09685, with `use_dora` 2402.09353; `lokr`, `loha`: 2309.14859; `oft`:
2306.07280; `full`: no adapter, the networks themselves train, as in the paper (2208.12242)."""


Rank = Annotated[
    int,
    Bounds(1, 2048, remedy="4 to 64 are usual; to train all of it set model.adapter full."),
]
Alpha = Annotated[float, Bounds(0, 10_000, open_low=True, remedy="The rank itself is usual.")]
Dropout = Annotated[float, Bounds(0, 1, open_high=True)]
_Layer = Annotated[str, Filled("the end of a layer's name, such as to_q")]


@dataclass(frozen=True)
class AdapterSettings:
    """Size and place of the adapters.

    Raises:
        UserError: a number is out of its bounds.
    """

    rank: Rank = 8
    """Rank of each update: the width between A and B. For oft the side of the rotated blocks."""
    alpha: Alpha = 8.0
    """Strength of the update; it is scaled by alpha / rank. Not for oft."""
    dropout: Dropout = 0.0
    """Probability in [0, 1) of dropping, while training, an adapter's input (lora), a row of its
    update (lokr, loha) or the rotation of a block (oft)."""
    target_modules: list[_Layer] | _Layer = field(
        default_factory=lambda: ["to_q", "to_k", "to_v", "to_out.0"]
    )
    """Layers of the UNet or transformer to adapt: a list of the ends of their names; or attention,
    attention_ff (and feed-forward), attention_ff_conv (and convolutions); or a regular expression
    that matches whole names. By default all attention projections."""
    text_encoder_target_modules: list[_Layer] | _Layer = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "out_proj"]
    )
    """Text encoder layers to adapt when it is trained: a list of the ends of their names, or
    attention, or attention_ff, or a regular expression."""
    use_rslora: bool = False
    """Scale the update by alpha / sqrt(rank) instead (arXiv 2312.03732); only lora."""
    use_dora: bool = False
    """Also train the length of each row of the adapted weights (DoRA); only lora."""

    def __post_init__(self) -> None:
        check_values(type(self), self, "model.lora")

    def targets(self, component: str) -> list[str] | str:
        """Return the target modules of a component of `Base.adaptable`, as they were given."""
        return getattr(self, targets_field(component))


def targets_field(component: str) -> str:
    """Return the field of `AdapterSettings` that holds a component's targets."""
    return "text_encoder_target_modules" if is_text_encoder(component) else "target_modules"


def targets_key(component: str) -> str:
    """Return the config key of a component's targets, for messages."""
    return f"model.lora.{targets_field(component)}"
