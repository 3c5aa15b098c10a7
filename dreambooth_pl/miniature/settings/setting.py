"""What a setting is: a named background and the caption phrases that go with it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from dreambooth_pl.miniature.canvas import Canvas

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) of the subject in the unit square, y downwards; y1 is where it stands."""
Front = Callable[[Canvas, Box], None]
"""Paints what lies in front of the subject's feet."""
Draw = Callable[[Canvas, random.Random], "Front | None"]


@dataclass(frozen=True)
class Setting:
    """A place where a subject can be."""

    name: str
    phrases: tuple[str, ...]
    """Caption phrases after the noun, such as "in the snow"; the first is the canonical one."""
    draw: Draw
    """Covers the whole unit square; may return what is to be painted over the subject's feet."""
