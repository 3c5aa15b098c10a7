"""Rules that score a checkpoint; a run keeps the one with the highest score as the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

BestBy = Literal["balance", "dino", "clip_i", "last"]


@dataclass(frozen=True)
class Means:
    """Scores averaged over images, in [-1, 1]."""

    dino: float
    """DINO similarity to the photos."""
    clip_i: float
    """CLIP similarity to the photos."""
    clip_t: float | None
    """CLIP similarity to the prompt without its identifier; None for real photos."""


def balance(scores: Means, floor: Means, ceiling: Means | None) -> float:
    """Return a score that balances subject fidelity and prompt fidelity.

    The score is the product of two shares: how far DINO has moved from the floor to the ceiling,
    and how much of the floor's CLIP-T is left. A model that knows the subject but ignores the
    prompt scores low, and so does the untuned base.

    Args:
        scores: means of the images to judge; CLIP-T is needed.
        floor: means of the untuned base; CLIP-T is needed.
        ceiling: means of the real photos; None for a single photo, then DINO's ceiling is 1.

    Returns:
        The product of the shares, each clipped to [0, 1].

    >>> floor, ceiling = Means(0.4, 0.6, 0.30), Means(0.8, 0.9, None)
    >>> round(balance(Means(0.7, 0.8, 0.27), floor, ceiling), 3)
    0.675
    """
    assert scores.clip_t is not None and floor.clip_t is not None
    top = ceiling.dino if ceiling else 1.0
    gain = (scores.dino - floor.dino) / max(top - floor.dino, 1e-6)
    kept = scores.clip_t / max(floor.clip_t, 1e-6)
    return min(max(gain, 0.0), 1.0) * min(max(kept, 0.0), 1.0)


RULES: dict[BestBy, Callable[[Means, Means, Means | None, int], float]] = {
    "balance": lambda scores, floor, ceiling, step: balance(scores, floor, ceiling),
    "dino": lambda scores, floor, ceiling, step: scores.dino,
    "clip_i": lambda scores, floor, ceiling, step: scores.clip_i,
    "last": lambda scores, floor, ceiling, step: float(step),
}
"""Functions of (scores, floor, ceiling, step) that return a score; higher is better."""
