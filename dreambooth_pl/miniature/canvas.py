"""A Pillow canvas with local coordinate frames. The whole picture-book world is drawn on it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

Colour = tuple[int, ...]
"""(red, green, blue) or (red, green, blue, alpha), each 0 to 255."""
Point = tuple[float, float]

_CIRCLE = [(math.cos(2 * math.pi * i / 28), math.sin(2 * math.pi * i / 28)) for i in range(28)]


class Canvas:
    """Draws shapes given in local coordinates.

    The outermost frame is the unit square of the picture: x to the right, y downwards, both 0 to 1.
    `frame` returns a canvas over the same picture with its own origin, scale, rotation and
    mirroring. Lengths (radii, line widths) are in local units too. A colour with alpha is blended
    over the picture.

    Args:
        image: the picture to draw into.
        matrix: affine map (a, b, c, d, e, f) from local coordinates to pixels; the unit square by
            default.
    """

    def __init__(self, image: Image.Image, matrix: tuple[float, ...] | None = None) -> None:
        self.image = image
        self._draw = ImageDraw.Draw(image, "RGBA" if image.mode == "RGB" else image.mode)
        size = image.width
        self._matrix = matrix or (size, 0.0, 0.0, 0.0, size, 0.0)
        a, b, _, d, e, _ = self._matrix
        self._unit = math.sqrt(abs(a * e - b * d))

    def frame(
        self,
        x: float,
        y: float,
        scale: float = 1.0,
        angle: float = 0.0,
        flip: bool = False,
        stretch: float = 1.0,
    ) -> Canvas:
        """Return a canvas over the same picture whose origin lies at (x, y) of this one.

        Args:
            x, y: the new origin in units of this frame.
            scale: one unit of the new frame, in units of this one.
            angle: rotation in degrees, clockwise in the picture.
            flip: whether to mirror left and right.
            stretch: ratio of width to height; 1 keeps proportions.
        """
        a, b, c, d, e, f = self._matrix
        cos, sin = math.cos(math.radians(angle)) * scale, math.sin(math.radians(angle)) * scale
        sx = (-1.0 if flip else 1.0) * stretch
        la, lb, ld, le = cos * sx, -sin, sin * sx, cos
        matrix = (
            a * la + b * ld,
            a * lb + b * le,
            a * x + b * y + c,
            d * la + e * ld,
            d * lb + e * le,
            d * x + e * y + f,
        )
        return Canvas(self.image, matrix)

    def place(self, points: Sequence[Point]) -> list[Point]:
        """Convert local points to pixel positions."""
        a, b, c, d, e, f = self._matrix
        return [(a * x + b * y + c, d * x + e * y + f) for x, y in points]

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """Fill the polygon with these corners."""
        self._draw.polygon(self.place(points), fill=fill)

    def ellipse(
        self, cx: float, cy: float, rx: float, ry: float, fill: Colour, angle: float = 0.0
    ) -> None:
        """Fill an ellipse with centre (cx, cy) and radii rx, ry, rotated by `angle` degrees."""
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        self.polygon(
            [
                (cx + rx * u * cos - ry * v * sin, cy + rx * u * sin + ry * v * cos)
                for u, v in _CIRCLE
            ],
            fill,
        )

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float = 0.0
    ) -> None:
        """Fill an axis-aligned rectangle with corners rounded by `radius`."""
        if radius <= 0:
            self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)
            return
        radius = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
        corners = (
            (x1 - radius, y1 - radius, 0),
            (x0 + radius, y1 - radius, 90),
            (x0 + radius, y0 + radius, 180),
            (x1 - radius, y0 + radius, 270),
        )
        points = [
            (
                cx + radius * math.cos(math.radians(start + s)),
                cy + radius * math.sin(math.radians(start + s)),
            )
            for cx, cy, start in corners
            for s in (0, 30, 60, 90)
        ]
        self.polygon(points, fill)

    def blob(self, points: Sequence[Point], fill: Colour) -> None:
        """Fill the smooth closed curve (Catmull-Rom spline) through the points."""
        self.polygon(smooth(points, closed=True), fill)

    def line(self, points: Sequence[Point], fill: Colour, width: float) -> None:
        """Draw a polyline with round joints and ends. `width` is in local units."""
        placed = self.place(points)
        pixels = max(1, round(width * self._unit))
        self._draw.line(placed, fill=fill, width=pixels, joint="curve")
        if pixels > 2:
            r = pixels / 2 - 0.5
            for x, y in (placed[0], placed[-1]):
                self._draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def curve(self, points: Sequence[Point], fill: Colour, width: float) -> None:
        """Draw the smooth open curve through the points."""
        self.line(smooth(points, closed=False), fill, width)

    def limb(self, points: Sequence[Point], fill: Colour, start: float, end: float) -> None:
        """Fill a smooth tapering limb along the points. `start` and `end` are its half-widths."""
        path = smooth(points, closed=False)
        left, right = [], []
        for i, (x, y) in enumerate(path):
            x0, y0 = path[max(i - 1, 0)]
            x1, y1 = path[min(i + 1, len(path) - 1)]
            length = math.hypot(x1 - x0, y1 - y0) or 1.0
            half = start + (end - start) * i / (len(path) - 1)
            nx, ny = -(y1 - y0) / length * half, (x1 - x0) / length * half
            left.append((x + nx, y + ny))
            right.append((x - nx, y - ny))
        self.polygon(left + right[::-1], fill)
        self.ellipse(*path[0], start, start, fill)
        self.ellipse(*path[-1], end, end, fill)


def smooth(points: Sequence[Point], closed: bool, steps: int = 6) -> list[Point]:
    """Return points along the Catmull-Rom spline through `points`.

    Args:
        points: the points to pass through. Fewer than three are returned as they are.
        closed: whether the curve returns to its first point.
        steps: points per segment.
    """
    n = len(points)
    if n < 3:
        return list(points)
    result: list[Point] = []
    for i in range(n if closed else n - 1):
        if closed:
            p0, p1, p2, p3 = (points[(i + k) % n] for k in (-1, 0, 1, 2))
        else:
            p0, p1, p2, p3 = (points[min(max(i + k, 0), n - 1)] for k in (-1, 0, 1, 2))
        for s in range(steps):
            t = s / steps
            result.append(
                tuple(  # type: ignore[arg-type]
                    0.5
                    * (
                        2 * b
                        + (c - a) * t
                        + (2 * a - 5 * b + 4 * c - d) * t * t
                        + (3 * b - a - 3 * c + d) * t * t * t
                    )
                    for a, b, c, d in zip(p0, p1, p2, p3, strict=True)
                )
            )
    if not closed:
        result.append(points[-1])
    return result


def shade(colour: Colour, factor: float) -> Colour:
    """Darken a colour (factor < 1) or lighten it towards white (factor > 1)."""
    if factor <= 1:
        return tuple(round(c * factor) for c in colour[:3]) + colour[3:]
    return mix(colour, (255, 255, 255), min(factor - 1, 1.0))


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Blend two colours. `share` is that of the second colour, 0 to 1."""
    return tuple(
        round(a + (b - a) * share) for a, b in zip(first[:3], second[:3], strict=True)
    ) + tuple(first[3:])
