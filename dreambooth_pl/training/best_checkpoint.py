"""The rules by which the best checkpoint of a run is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

BestBy = Literal["balance", "dino", "clip_i", "last"]
Means = Mapping[str, float]
"""Scores averaged over images, by name. Real photos have no `clip_t`."""


def balance(scores: Means, floor: Means, ceiling: Means | None) -> float:
    """Weigh subject against prompt fidelity.

    The share of the way from floor to ceiling that DINO has gone, in [0, 1], times the share of the
    floor's CLIP-T that is left, in [0, 1]: a model that knows the subject but no longer listens to
    prompts scores low, and so does the untuned base. A single photo has no ceiling; 1 then takes
    its place.

    >>> floor, ceiling = {"dino": 0.4, "clip_t": 0.30}, {"dino": 0.8}
    >>> round(balance({"dino": 0.7, "clip_t": 0.27}, floor, ceiling), 3)
    0.675
    """
    top = ceiling["dino"] if ceiling else 1.0
    gain = (scores["dino"] - floor["dino"]) / max(top - floor["dino"], 1e-6)
    kept = scores["clip_t"] / max(floor["clip_t"], 1e-6)
    return min(max(gain, 0.0), 1.0) * min(max(kept, 0.0), 1.0)


RULES: dict[BestBy, Callable[[Means, Means, Means | None, int], float]] = {
    "balance": lambda scores, floor, ceiling, step: balance(scores, floor, ceiling),
    "dino": lambda scores, floor, ceiling, step: scores["dino"],
    "clip_i": lambda scores, floor, ceiling, step: scores["clip_i"],
    "last": lambda scores, floor, ceiling, step: float(step),
}
"""By rule: a score, higher is better, of the means, the floor's, the ceiling's and the step."""
