"""Pieces that several settings share: gradients, clouds, trees, grass, flowers."""

from __future__ import annotations

import math
import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, mix, shade
from dreambooth_pl.miniature.settings.setting import Box, Front

WHITE = (255, 255, 255)
STAR = (
    (0, -1), (0.3, -0.3), (1, 0), (0.3, 0.3), (0, 1), (-0.3, 0.3), (-1, 0), (-0.3, -0.3),
)  # fmt: skip
"""Corners of a four-pointed star around the origin."""


def tint(rng: random.Random, colour: Colour, amount: int = 12) -> Colour:
    """Return the colour with a small random change of lightness and hue."""
    light = rng.randint(-amount, amount)
    return tuple(
        min(255, max(0, c + light + rng.randint(-amount // 2, amount // 2))) for c in colour[:3]
    ) + tuple(colour[3:])


def pick(rng: random.Random, *colours: Colour) -> Colour:
    """Return a random one of the colours, tinted."""
    return tint(rng, rng.choice(colours))


def spread(rng: random.Random, low: float, high: float, count: int) -> list[float]:
    """Return `count` positions from low to high, one random position in each equal part."""
    step = (high - low) / count
    return [low + (i + rng.uniform(0.15, 0.85)) * step for i in range(count)]


def bands(
    canvas: Canvas,
    y0: float,
    y1: float,
    top: Colour,
    bottom: Colour,
    count: int = 12,
    alpha: int | None = None,
) -> None:
    """Draw a vertical gradient over the full width, in `count` steps from y0 to y1."""
    step = (y1 - y0) / count
    # Opaque bands overlap so that rounding leaves no gap. Translucent ones would show the overlap.
    overlap = 0.01 if alpha is None else 0.0
    for i in range(count):
        colour = mix(top, bottom, i / max(1, count - 1))[:3]
        end = y1 if i == count - 1 else y0 + (i + 1) * step + overlap
        canvas.rectangle(
            -0.02, y0 + i * step, 1.02, end, colour if alpha is None else (*colour, alpha)
        )


def cloud(canvas: Canvas, x: float, y: float, size: float, colour: Colour) -> None:
    """Draw a flat-bottomed cloud about 2 * size wide."""
    canvas.ellipse(x, y, size, size * 0.3, colour)
    canvas.ellipse(x - size * 0.3, y - size * 0.2, size * 0.42, size * 0.36, colour)
    canvas.ellipse(x + size * 0.28, y - size * 0.14, size * 0.38, size * 0.3, colour)


def clouds(canvas: Canvas, rng: random.Random, y0: float, y1: float, colour: Colour) -> None:
    """Draw up to two clouds on either side of the picture."""
    for low, high in ((0.02, 0.3), (0.7, 0.98)):
        if rng.random() < 0.6:
            x, y = rng.uniform(low, high), rng.uniform(y0, y1)
            cloud(canvas, x, y, rng.uniform(0.11, 0.18), colour)


def ridge(
    canvas: Canvas, rng: random.Random, y: float, rise: float, colour: Colour, parts: int = 4
) -> None:
    """Draw rolling land from about y to the bottom of the picture. Its edge varies by `rise`."""
    edge = [(-0.1, y)] + [
        (x, y + rng.uniform(-rise, rise)) for x in spread(rng, 0.0, 1.0, parts)
    ] + [(1.1, y)]  # fmt: skip
    canvas.blob([*edge, (1.15, 1.1), (-0.15, 1.1)], colour)


def round_tree(
    canvas: Canvas, x: float, ground: float, height: float, leaf: Colour, trunk: Colour
) -> None:
    """Draw a broad-leaved tree that stands at (x, ground)."""
    tree = canvas.frame(x, ground, height)
    tree.polygon([(-0.07, 0), (0.07, 0), (0.045, -0.5), (-0.045, -0.5)], trunk)
    tree.ellipse(0, -0.66, 0.34, 0.34, leaf)
    tree.ellipse(-0.1, -0.76, 0.19, 0.17, shade(leaf, 1.16))


def pine(
    canvas: Canvas, x: float, ground: float, height: float, leaf: Colour, snow: Colour | None = None
) -> None:
    """Draw a conifer of three tiers at (x, ground), optionally with snow on the tiers."""
    tree = canvas.frame(x, ground, height)
    tree.rectangle(-0.05, -0.2, 0.05, 0, (92, 66, 48))
    for base, top, half in ((-0.1, -0.5, 0.3), (-0.36, -0.76, 0.24), (-0.62, -1.0, 0.17)):
        tree.polygon([(-half, base), (half, base), (0, top)], leaf)
        if snow:
            tree.polygon(
                [(0, top), (half * 0.72, base - 0.1), (half * 0.3, base - 0.16),
                 (0, base - 0.07), (-half * 0.3, base - 0.16), (-half * 0.72, base - 0.1)],
                snow,
            )  # fmt: skip


def leaf(canvas: Canvas, x: float, y: float, length: float, angle: float, colour: Colour) -> None:
    """Draw a pointed leaf that grows from (x, y). Angle 0 is upwards, 90 to the right."""
    frame = canvas.frame(x, y, length, angle)
    frame.polygon(
        [(0, 0), (0.15, -0.15), (0.22, -0.38), (0.17, -0.7), (0, -1), (-0.17, -0.7), (-0.22, -0.38),
         (-0.15, -0.15)],
        colour,
    )  # fmt: skip
    frame.polygon([(-0.04, 0), (0.04, 0), (0, -0.85)], shade(colour, 1.2))


def blades(
    canvas: Canvas,
    rng: random.Random,
    x0: float,
    x1: float,
    y: float,
    height: float,
    colours: tuple[Colour, ...],
    count: int,
) -> None:
    """Draw broad grass blades along the line from (x0, y) to (x1, y)."""
    for x in spread(rng, x0, x1, count):
        top, lean = height * rng.uniform(0.6, 1.1), rng.uniform(-0.03, 0.03)
        half = height * 0.2 + 0.006
        canvas.polygon([(x - half, y), (x + half, y), (x + lean, y - top)], rng.choice(colours))


def blades_front(
    rng: random.Random, colours: tuple[Colour, ...], height: float = 0.07, count: int = 9
) -> Front:
    """Return a front of grass. It draws the same blades every time."""
    seed = rng.getrandbits(32)

    def front(canvas: Canvas, box: Box) -> None:
        own = random.Random(seed)
        blades(canvas, own, box[0] - 0.06, box[2] + 0.06, box[3] + 0.03, height, colours, count)

    return front


def heap_front(rng: random.Random, colour: Colour, edge: Colour, height: float = 0.05) -> Front:
    """Return a front of a low heap, for example of snow or sand."""
    bumps = [rng.uniform(0.5, 1.0) * height for _ in range(4)]

    def front(canvas: Canvas, box: Box) -> None:
        x0, x1, y = box[0] - 0.1, box[2] + 0.1, box[3] + 0.025
        step = (x1 - x0) / 5
        crest = [(x0 + step * (i + 1), y - bump) for i, bump in enumerate(bumps)]
        outline = [(x0, y), *crest, (x1, y), ((x0 + x1) / 2, y + 0.035)]
        canvas.blob([(px, py - 0.014) for px, py in outline], edge)
        canvas.blob(outline, colour)

    return front


def flower(
    canvas: Canvas,
    x: float,
    y: float,
    radius: float,
    petal: Colour,
    heart: Colour,
    petals: int = 6,
) -> None:
    """Draw a flower head seen from the front."""
    for i in range(petals):
        turn = 360 * i / petals
        px = x + math.cos(math.radians(turn)) * radius * 0.62
        py = y + math.sin(math.radians(turn)) * radius * 0.62
        canvas.ellipse(px, py, radius * 0.42, radius * (1.9 / petals), petal, turn)
    canvas.ellipse(x, y, radius * 0.42, radius * 0.42, heart)


def window(
    canvas: Canvas, x0: float, y0: float, x1: float, y1: float, pane: Colour, frame: Colour
) -> None:
    """Draw a window with a cross of glazing bars."""
    canvas.rectangle(x0 - 0.014, y0 - 0.014, x1 + 0.014, y1 + 0.014, frame)
    canvas.rectangle(x0, y0, x1, y1, pane)
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    canvas.rectangle(cx - 0.007, y0, cx + 0.007, y1, frame)
    canvas.rectangle(x0, cy - 0.007, x1, cy + 0.007, frame)


def planks(canvas: Canvas, rng: random.Random, y: float, colour: Colour, count: int = 9) -> None:
    """Draw a wooden floor from y to the bottom with boards that run to a vanishing point."""
    canvas.rectangle(-0.02, y, 1.02, 1.02, shade(colour, 0.72))
    vanish, squeeze = rng.uniform(0.4, 0.6), rng.uniform(0.3, 0.45)
    for i in range(count):
        low, high = -0.9 + 2.8 * i / count, -0.9 + 2.8 * (i + 1) / count - 0.022
        far_low, far_high = vanish + (low - vanish) * squeeze, vanish + (high - vanish) * squeeze
        board = shade(tint(rng, colour, 5), (1.0, 1.13, 0.92)[i % 3])
        canvas.polygon([(low, 1.02), (high, 1.02), (far_high, y), (far_low, y)], board)


def lamp_post(canvas: Canvas, x: float, ground: float, height: float, colour: Colour) -> None:
    """Draw a street lamp with a lit lantern."""
    post = canvas.frame(x, ground, height)
    post.rectangle(-0.022, -0.85, 0.022, 0, colour)
    post.rectangle(-0.06, -0.05, 0.06, 0, colour)
    post.polygon([(-0.05, -0.82), (0.05, -0.82), (0.085, -0.97), (-0.085, -0.97)], (255, 232, 150))
    post.polygon([(-0.11, -0.96), (0.11, -0.96), (0, -1.05)], colour)
