"""What makes one subject of a class different from the next, and how one picture of it is posed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dreambooth_pl.miniature.canvas import Canvas, Colour, Point


@dataclass(frozen=True)
class Look:
    """The identity of one subject: it stays the same over all its pictures."""

    colours: tuple[Colour, ...]
    """Main, second and accent colour, (red, green, blue) each."""
    shape: dict[str, float] = field(default_factory=dict)
    """Continuous traits, 0 to 1 each."""
    kind: dict[str, str] = field(default_factory=dict)
    """Traits with a handful of values, such as the form of the ears."""

    def with_colour(self, *colours: Colour) -> Look:
        """The same subject with its first colours replaced."""
        return replace(self, colours=colours + self.colours[len(colours) :])


@dataclass(frozen=True)
class Pose:
    """How the subject is seen in one picture."""

    name: str
    """One of the poses that the class knows."""
    turn: float = 0.0
    """Where it looks, -1 (left) to 1 (right) of the front; shifts faces, handles and details."""
    bend: float = 0.0
    """-1 to 1: raises or lowers head and limbs; objects tip a little."""


@dataclass
class Anchors:
    """Where clothing and other things sit on a drawn subject, in its local frame."""

    points: dict[str, Point] = field(default_factory=dict)
    """Such as head_top, eyes, neck, chest, belly, rear."""
    sizes: dict[str, float] = field(default_factory=dict)
    """Half-widths at those points."""
    angle: float = 0.0
    """Turn of the head in degrees."""


@dataclass(frozen=True)
class SubjectClass:
    """A class noun and how to draw it.

    `draw` paints one subject in a local frame: origin on the ground below its middle, y downwards
    (so the subject lies at negative y), about one unit wide or high, whichever is more.
    """

    noun: str
    live: bool
    poses: tuple[str, ...]
    sample_look: Callable[[random.Random], Look]
    draw: Callable[[Canvas, Look, Pose], Anchors]
