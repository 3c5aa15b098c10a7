"""Palettes, emblems and anchor points that the objects share."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from dreambooth_pl.miniature.canvas import Canvas, Colour, Point
from dreambooth_pl.miniature.look import Anchors

INK: Colour = (42, 34, 48)
WHITE: Colour = (252, 250, 244)
GLOSS: Colour = (255, 255, 255, 120)
"""Colour blended over the lit side of a shape."""
SHADOW: Colour = (30, 12, 50, 62)
"""Colour blended over the shaded side of a shape."""

PALETTE: tuple[Colour, ...] = (
    (214, 48, 49), (232, 93, 38), (245, 154, 35), (250, 206, 52), (247, 232, 176),
    (163, 196, 58), (62, 156, 78), (22, 101, 82), (38, 166, 154), (128, 210, 214),
    (52, 140, 214), (38, 78, 170), (28, 42, 96), (106, 76, 176), (178, 128, 214),
    (214, 62, 140), (246, 156, 180), (140, 50, 62), (126, 80, 48), (198, 148, 96),
    (244, 240, 230), (150, 156, 166), (78, 84, 98), (44, 44, 52),
)  # fmt: skip
LEATHERS: tuple[Colour, ...] = (
    (126, 76, 42), (176, 116, 62), (92, 52, 36), (62, 46, 44), (150, 56, 48), (206, 160, 106),
)  # fmt: skip


def difference(first: Colour, second: Colour) -> float:
    """Return the Euclidean distance of two colours, 0 to 442."""
    return math.dist(first[:3], second[:3])


def sample_colours(
    rng: random.Random, mains: Sequence[Colour] = PALETTE, count: int = 3
) -> tuple[Colour, ...]:
    """Sample a main colour from `mains` and others that contrast with it and with each other."""
    chosen = [rng.choice(mains)]
    while len(chosen) < count:
        far = [c for c in PALETTE if all(difference(c, other) > 105 for other in chosen)]
        chosen.append(rng.choice(far or PALETTE))
    return tuple(chosen)


def sample_shape(rng: random.Random, *names: str) -> dict[str, float]:
    """Sample continuous traits with these names, uniform between 0 and 1."""
    return {name: round(rng.random(), 3) for name in names}


def between(low: float, high: float, share: float) -> float:
    """Return the value at `share` of the way from low to high."""
    return low + (high - low) * share


def _star_points(rays: int, inner: float) -> list[Point]:
    return [
        (math.sin(math.pi * i / rays) * r, -math.cos(math.pi * i / rays) * r)
        for i in range(2 * rays)
        for r in ((1.0, inner)[i % 2],)
    ]


_STAR = _star_points(5, 0.45)
_BURST = _star_points(9, 0.72)
_HEART = [
    (0.0, 0.95), (-0.62, 0.35), (-1.0, -0.2), (-0.9, -0.68), (-0.5, -0.9), (-0.15, -0.72),
    (0.0, -0.42), (0.15, -0.72), (0.5, -0.9), (0.9, -0.68), (1.0, -0.2), (0.62, 0.35),
]  # fmt: skip
_BOLT = [(0.25, -1.0), (-0.6, 0.15), (-0.08, 0.15), (-0.3, 1.0), (0.6, -0.25), (0.08, -0.25)]
_LEAF = [(0.0, -1.0), (0.6, -0.4), (0.6, 0.3), (0.0, 1.0), (-0.6, 0.3), (-0.6, -0.4)]
EMBLEMS = ("star", "heart", "flower", "disc", "diamond", "bolt", "burst", "leaf", "smile")


def emblem(
    canvas: Canvas,
    kind: str,
    x: float,
    y: float,
    size: float,
    colour: Colour,
    second: Colour = WHITE,
    squeeze: float = 1.0,
) -> None:
    """Draw an emblem of half-width `size` around (x, y), narrowed by `squeeze` as it turns away."""
    badge = canvas.frame(x, y, size, stretch=max(squeeze, 0.15))
    if kind == "star":
        badge.polygon(_STAR, colour)
    elif kind == "heart":
        badge.polygon(_HEART, colour)
    elif kind == "bolt":
        badge.polygon(_BOLT, colour)
    elif kind == "burst":
        badge.polygon(_BURST, colour)
        badge.ellipse(0, 0, 0.42, 0.42, second)
    elif kind == "leaf":
        badge.blob(_LEAF, colour)
    elif kind == "diamond":
        badge.polygon([(0, -1), (0.85, 0), (0, 1), (-0.85, 0)], colour)
        badge.polygon([(0, -0.45), (0.4, 0), (0, 0.45), (-0.4, 0)], second)
    elif kind == "flower":
        for i in range(5):
            angle = 2 * math.pi * i / 5
            badge.ellipse(0.58 * math.sin(angle), -0.58 * math.cos(angle), 0.44, 0.44, colour)
        badge.ellipse(0, 0, 0.36, 0.36, second)
    elif kind == "smile":
        badge.ellipse(0, 0, 1, 1, colour)
        badge.ellipse(-0.36, -0.25, 0.17, 0.22, INK)
        badge.ellipse(0.36, -0.25, 0.17, 0.22, INK)
        badge.curve([(-0.5, 0.25), (0, 0.6), (0.5, 0.25)], INK, 0.18)
    else:
        badge.ellipse(0, 0, 1, 1, colour)
        badge.ellipse(0, 0, 0.5, 0.5, second)


def eye(
    canvas: Canvas, x: float, y: float, size: float, gaze: float = 0.0, white: bool = True
) -> None:
    """Draw a round eye of radius `size`. `gaze` is -1 (left) to 1 (right)."""
    if white:
        canvas.ellipse(x, y, size, size, WHITE)
        canvas.ellipse(x + gaze * size * 0.4, y, size * 0.58, size * 0.62, INK)
    else:
        canvas.ellipse(x, y, size, size, INK)
        canvas.ellipse(x - size * 0.3, y - size * 0.35, size * 0.34, size * 0.34, WHITE)


def anchors(
    top: float,
    half: float,
    *,
    x: float = 0.0,
    head: float | None = None,
    eyes: float = 0.24,
    neck: float = 0.42,
) -> Anchors:
    """Return the anchors of an object that stands between y = `top` and the ground.

    Args:
        top: y of its highest solid point (negative).
        half: half-width of its body.
        x: its horizontal centre.
        head: half-width of its upper part; `half` by default.
        eyes, neck: their distances from the top, as shares of the height.
    """
    upper = half if head is None else head
    shares = {"head_top": 0.0, "eyes": eyes, "neck": neck, "chest": neck + 0.13, "belly": 0.74}
    points: dict[str, Point] = {name: (x, top * (1 - s)) for name, s in shares.items()}
    points["rear"] = (x - half * 0.8, top * 0.22)
    sizes = {
        "head_top": upper * 0.8, "eyes": upper, "neck": upper * 0.85, "chest": half,
        "belly": half, "rear": half * 0.6,
    }  # fmt: skip
    return Anchors(points, sizes)


def moved(
    canvas: Canvas,
    draw: Callable[[Canvas], Anchors],
    x: float = 0.0,
    y: float = 0.0,
    scale: float = 1.0,
    angle: float = 0.0,
    flip: bool = False,
) -> Anchors:
    """Draw in a local frame and convert the anchors back to the frame of `canvas`.

    Args:
        canvas: the canvas to draw on.
        draw: draws the subject and returns its anchors.
        x, y: origin of the local frame.
        scale: its scale.
        angle: its rotation in degrees, clockwise.
        flip: whether to mirror left and right.
    """
    inner = draw(canvas.frame(x, y, scale, angle, flip))
    cos, sin = math.cos(math.radians(angle)) * scale, math.sin(math.radians(angle)) * scale
    mirror = -1.0 if flip else 1.0
    points = {
        name: (x + cos * px * mirror - sin * py, y + sin * px * mirror + cos * py)
        for name, (px, py) in inner.points.items()
    }
    sizes = {name: size * scale for name, size in inner.sizes.items()}
    return Anchors(points, sizes, inner.angle + angle)


def lying(
    canvas: Canvas, draw: Callable[[Canvas], Anchors], height: float, half: float, angle: float
) -> Anchors:
    """Draw an object tipped over clockwise, resting on its right side.

    Args:
        canvas: the canvas to draw on.
        draw: draws the upright object and returns its anchors.
        height, half: height and half-width of the upright object.
        angle: rotation in degrees.
    """
    sin, cos = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return moved(canvas, draw, -sin * height / 2, -sin * half, 1.0 - 0.02 * cos, angle)
