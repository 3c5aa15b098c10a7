"""The look that tells one subject of a class from another, and its pose in one picture."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dreambooth_pl.miniature.canvas import Canvas, Colour, Point


@dataclass(frozen=True)
class Look:
    """The identity of one subject, the same in all its pictures."""

    colours: tuple[Colour, ...]
    """Main, second and accent colour, (red, green, blue) each."""
    shape: dict[str, float] = field(default_factory=dict)
    """Continuous traits, 0 to 1 each."""
    kind: dict[str, str] = field(default_factory=dict)
    """Traits with a few values, such as the form of the ears."""

    def with_colour(self, *colours: Colour) -> Look:
        """Return the look with its first colours replaced."""
        return replace(self, colours=colours + self.colours[len(colours) :])


@dataclass(frozen=True)
class Pose:
    """The pose and view of the subject in one picture."""

    name: str
    """One of the poses of the class."""
    turn: float = 0.0
    """Direction that the front faces, -1 (left) to 1 (right). Shifts faces, handles and details."""
    bend: float = 0.0
    """Raises or lowers head and limbs and tips objects a little, -1 to 1."""


@dataclass
class Anchors:
    """Points on a drawn subject where clothing goes, in the subject's local frame."""

    points: dict[str, Point] = field(default_factory=dict)
    """Points by name, such as head_top, eyes, neck, chest, belly, rear."""
    sizes: dict[str, float] = field(default_factory=dict)
    """Half-widths of the subject at these points."""
    angle: float = 0.0
    """Rotation of the head in degrees."""


@dataclass(frozen=True)
class SubjectClass:
    """A class of subjects and the functions that sample and draw them."""

    noun: str
    live: bool
    """Whether the subjects are animals. Animals wear all outfits and sit down to drive."""
    poses: tuple[str, ...]
    """Names of the poses that `draw` supports."""
    sample_look: Callable[[random.Random], Look]
    """Samples a random look of the class."""
    draw: Callable[[Canvas, Look, Pose], Anchors]
    """Draws one subject in a local frame. The origin lies on the ground below the subject's middle
    and y points downwards, so the subject lies at negative y. The larger of its width and height is
    about one unit."""
