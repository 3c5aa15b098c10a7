"""The type of settings: a named background and its caption phrases."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from dreambooth_pl.miniature.canvas import Canvas

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) of the subject in the unit square, y downwards. The subject stands at y1."""
Front = Callable[[Canvas, Box], None]
"""Draws the parts of a setting that lie in front of the subject's feet."""
Draw = Callable[[Canvas, random.Random], "Front | None"]


@dataclass(frozen=True)
class Setting:
    """A place for a subject."""

    name: str
    phrases: tuple[str, ...]
    """Caption phrases after the noun, such as "in the snow". The first one is canonical."""
    draw: Draw
    """Covers the whole unit square. May return a function that draws over the subject's feet."""
