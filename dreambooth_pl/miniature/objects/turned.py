"""Bodies of revolution, as from a potter's wheel: surface, shading and patterns."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from dreambooth_pl.miniature.canvas import Canvas, Colour, Point, smooth
from dreambooth_pl.miniature.objects.parts import EMBLEMS, GLOSS, SHADOW, emblem

PATTERNS = ("plain", "band", "rings", "stripes", "dots", "zigzag", "dipped", "emblem")
"""Patterns around a body."""


@dataclass(frozen=True)
class Turned:
    """A body of revolution that stands on the ground, seen from slightly above."""

    profile: tuple[Point, ...]
    """(y, radius) from the top (smallest y) down to the foot."""
    tilt: float
    """Apparent height over width of its horizontal circles, 0 (from the side) to 1 (from above)."""

    @property
    def top(self) -> float:
        """y of the highest circle's centre."""
        return self.profile[0][0]

    @property
    def foot(self) -> float:
        """y of the lowest circle's centre."""
        return self.profile[-1][0]

    def level(self, share: float) -> float:
        """Return y at `share` of the way from the top (0) to the foot (1)."""
        return self.top + (self.foot - self.top) * share

    def radius(self, y: float) -> float:
        """Return the radius of the circle at height y."""
        for (y0, r0), (y1, r1) in zip(self.profile, self.profile[1:], strict=False):
            if y <= y1:
                return r0 + (r1 - r0) * (y - y0) / ((y1 - y0) or 1.0)
        return self.profile[-1][1]

    def point(self, y: float, bearing: float) -> Point:
        """Return the surface point at height y, `bearing` degrees to the right of the front."""
        r = self.radius(y)
        angle = math.radians(bearing)
        # No circle reaches below the ground, which the foot's circle touches.
        ground = self.foot + self.profile[-1][1] * self.tilt
        return r * math.sin(angle), y + min(r * self.tilt, ground - y) * math.cos(angle)

    def surface(self, y0: float, y1: float, left: float = -90, right: float = 90) -> list[Point]:
        """Return the outline of the surface between two heights and two bearings (degrees)."""
        between = [y for y, _ in self.profile if y0 < y < y1]
        bearings = [left + (right - left) * i / 8 for i in range(9)]
        return (
            [self.point(y0, b) for b in bearings]
            + [self.point(y, right) for y in between]
            + [self.point(y1, b) for b in reversed(bearings)]
            + [self.point(y, left) for y in reversed(between)]
        )

    def fill(self, canvas: Canvas, colour: Colour) -> None:
        """Fill the whole visible surface."""
        canvas.polygon(self.surface(self.top, self.foot), colour)

    def light(self, canvas: Canvas) -> None:
        """Blend a shadow on the right and a highlight on the left over the body."""
        canvas.polygon(self.surface(self.top, self.foot, 34, 90), SHADOW)
        canvas.polygon(self.surface(self.level(0.16), self.level(0.62), -58, -36), GLOSS)

    def mouth(self, canvas: Canvas, rim: Colour, inside: Colour, wall: float = 0.1) -> None:
        """Draw the opening at the top. `wall` is the rim's thickness as a share of the radius."""
        r = self.radius(self.top)
        canvas.ellipse(0, self.top, r, r * self.tilt, rim)
        inner = r * (1 - wall)
        canvas.ellipse(0, self.top + 0.006, inner, inner * self.tilt * 0.96, inside)


def turned(
    height: float, radius: float, outline: Sequence[Point], tilt: float, lift: float = 0.0
) -> Turned:
    """Return a body of revolution.

    Args:
        height: its height.
        radius: its largest radius.
        outline: pairs (share of the height from the top, share of the radius). The curve through
            them is smoothed.
        tilt: as in `Turned`. The apparent height shrinks as it grows.
        lift: height of the foot above the ground.
    """
    seen = height * math.sqrt(1 - tilt * tilt)
    foot = -lift - outline[-1][1] * radius * tilt
    curve = smooth(outline, closed=False, steps=4)
    profile = tuple((foot - seen * (1 - share), max(r, 0.02) * radius) for share, r in curve)
    return Turned(profile, tilt)


def sample_pattern(rng: random.Random) -> dict[str, str]:
    """Sample the kind traits `pattern` and `emblem`. "emblem" is the most frequent pattern."""
    return {"pattern": rng.choice((*PATTERNS, "emblem")), "emblem": rng.choice(EMBLEMS)}


def draw_pattern(
    canvas: Canvas,
    body: Turned,
    kind: dict[str, str],
    second: Colour,
    accent: Colour,
    turn: float,
    start: float = 0.2,
    end: float = 0.9,
) -> None:
    """Draw the look's pattern on a body, between two shares of its height.

    Args:
        canvas: the canvas to draw on.
        body: the body.
        kind: kind traits of the look, as from `sample_pattern`.
        second, accent: colours of the look.
        turn: rotation of the pattern around the body, -1 to 1.
        start, end: upper and lower limit of the pattern, as shares of the height from the top.
    """
    pattern = kind["pattern"]
    at = lambda share: body.level(start + (end - start) * share)  # noqa: E731
    shift = turn * 34
    if pattern == "band":
        canvas.polygon(body.surface(at(0.28), at(0.68)), second)
        canvas.polygon(body.surface(at(0.41), at(0.55)), accent)
    elif pattern == "rings":
        for share in (0.08, 0.42, 0.76):
            canvas.polygon(body.surface(at(share), at(share + 0.16)), second)
    elif pattern == "dipped":
        canvas.polygon(body.surface(at(0.5), body.foot), second)
    elif pattern == "stripes":
        for k in range(-3, 4):
            left, right = k * 44 + shift - 11, k * 44 + shift + 11
            if right > -88 and left < 88:
                patch = body.surface(body.top, body.foot, max(left, -90), min(right, 90))
                canvas.polygon(patch, second)
    elif pattern == "dots":
        size = min(0.062, 0.2 * body.radius(at(0.5)))
        for row, share in enumerate((0.14, 0.5, 0.86)):
            for k in range(-2, 3):
                bearing = k * 46 + shift + 23 * (row % 2)
                if abs(bearing) < 76:
                    x, y = body.point(at(share), bearing)
                    canvas.ellipse(x, y, size * math.cos(math.radians(bearing)), size, second)
    elif pattern == "zigzag":
        bearings = range(-90, 91, 18)
        upper = [body.point(at((0.2, 0.5)[i % 2]), b) for i, b in enumerate(bearings)]
        lower = [body.point(at((0.5, 0.8)[i % 2]), b) for i, b in enumerate(bearings)]
        canvas.polygon(upper + lower[::-1], second)
    elif pattern == "emblem":
        (x, upper_y), (_, lower_y) = body.point(at(0.05), shift), body.point(at(0.95), shift)
        x = (x + body.point(at(0.6), shift)[0]) / 2
        y = (upper_y + lower_y) / 2
        size = min(body.radius(at(0.5)) * 0.62, (lower_y - upper_y) * 0.48)
        emblem(canvas, kind["emblem"], x, y, size, second, accent, math.cos(math.radians(shift)))
