"""Forest, jungle, the tree with autumn leaves, and the purple rug in a forest."""

from __future__ import annotations

import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, mix, shade
from dreambooth_pl.miniature.settings.pieces import (
    bands,
    blades_front,
    flower,
    leaf,
    pick,
    ridge,
    spread,
    tint,
)
from dreambooth_pl.miniature.settings.setting import Box, Front


def _trunk(canvas: Canvas, x: float, ground: float, half: float, colour: Colour) -> None:
    canvas.polygon(
        [(x - half * 1.9, ground), (x - half, ground - 0.1), (x - half * 0.8, -0.02),
         (x + half * 0.8, -0.02), (x + half, ground - 0.1), (x + half * 1.9, ground)],
        colour,
    )  # fmt: skip
    canvas.rectangle(x + half * 0.25, -0.02, x + half * 0.75, ground - 0.08, shade(colour, 0.78))


def _trees(canvas: Canvas, rng: random.Random, horizon: float) -> tuple[Colour, Colour]:
    """Draw trunks, canopy and forest floor. Return the colours of floor and canopy."""
    light = pick(rng, (178, 204, 142), (206, 210, 146), (150, 192, 160))
    canopy = tint(rng, (34, 84, 50), 10)
    floor = pick(rng, (104, 98, 54), (92, 112, 58), (116, 92, 62))
    bark = tint(rng, rng.choice(((92, 62, 44), (78, 62, 54), (110, 72, 46))), 8)
    bands(canvas, 0, horizon + 0.05, mix(light, canopy, 0.35), shade(light, 1.15), 8)
    for x in spread(rng, 0.02, 0.98, rng.randint(6, 8)):
        half = rng.uniform(0.013, 0.024)
        canvas.rectangle(x - half, 0, x + half, horizon + 0.02, mix(light, bark, 0.5))
    ridge(canvas, rng, horizon, 0.02, floor)
    bands(canvas, horizon + 0.12, 1.02, floor, shade(floor, 0.75), 6)
    for low, high in ((0.01, 0.09), (0.15, 0.24), (0.76, 0.85), (0.91, 0.99)):
        if low in (0.01, 0.91) or rng.random() < 0.6:
            near = low in (0.01, 0.91)
            _trunk(
                canvas, rng.uniform(low, high), horizon + rng.uniform(0.06, 0.16),
                rng.uniform(0.045, 0.065) if near else rng.uniform(0.025, 0.035),
                bark if near else mix(bark, light, 0.2),
            )  # fmt: skip
    for i, x in enumerate(spread(rng, -0.05, 1.05, 7)):
        colour = shade(canopy, (1.0, 1.1)[i % 2])
        canvas.ellipse(x, rng.uniform(-0.06, 0.03), 0.13, rng.uniform(0.09, 0.15), colour)
    return floor, canopy


def _bushes(canvas: Canvas, rng: random.Random, y: float, colour: Colour) -> None:
    for low, high in ((0.0, 0.16), (0.84, 1.0)):
        x, size = rng.uniform(low, high), rng.uniform(0.08, 0.12)
        canvas.ellipse(x, y, size, size * 0.7, colour)
        canvas.ellipse(x + size * 0.5, y + 0.02, size * 0.7, size * 0.5, shade(colour, 1.12))


def forest(canvas: Canvas, rng: random.Random) -> Front:
    """Draw tall trunks under a dark canopy."""
    horizon = rng.uniform(0.58, 0.68)
    _, canopy = _trees(canvas, rng, horizon)
    bush = tint(rng, (62, 128, 62))
    _bushes(canvas, rng, horizon + rng.uniform(0.14, 0.24), bush)
    if rng.random() < 0.5:
        x = rng.choice((rng.uniform(0.06, 0.16), rng.uniform(0.84, 0.94)))
        canvas.rectangle(x - 0.018, 0.84, x + 0.018, 0.92, (240, 228, 206), 0.01)
        canvas.ellipse(x, 0.84, 0.06, 0.04, (196, 50, 40))
    return blades_front(rng, (bush, shade(bush, 0.75), shade(bush, 1.15)), 0.08, 8)


def purple_rug_in_forest(canvas: Canvas, rng: random.Random) -> None:
    """Draw the forest with a purple rug on its floor."""
    _trees(canvas, rng, rng.uniform(0.5, 0.58))
    rug = pick(rng, (122, 52, 160), (140, 62, 186), (104, 44, 136))
    rim = rng.choice((shade(rug, 1.45), (226, 190, 90), shade(rug, 0.65)))
    top = rng.uniform(0.68, 0.73)
    if rng.random() < 0.5:
        canvas.ellipse(0.5, 0.85, 0.5, 0.85 - top + 0.02, rim)
        canvas.ellipse(0.5, 0.85, 0.455, 0.85 - top - 0.02, rug)
    else:
        inset = rng.uniform(0.1, 0.16)
        canvas.polygon([(inset, top), (1 - inset, top), (0.99, 0.98), (0.01, 0.98)], rim)
        inset, top = inset + 0.025, top + 0.03
        canvas.polygon([(inset, top), (1 - inset, top), (0.93, 0.945), (0.07, 0.945)], rug)


def jungle(canvas: Canvas, rng: random.Random) -> Front:
    """Draw big leaves from all sides, lianas and red flowers around a bright green light."""
    deep = pick(rng, (6, 84, 58), (10, 98, 52), (4, 78, 74))
    glow = pick(rng, (152, 214, 96), (196, 222, 96), (120, 210, 130))
    greens = tuple(tint(rng, c) for c in ((20, 138, 64), (44, 168, 60), (12, 116, 78)))
    bands(canvas, 0, 1.02, mix(deep, glow, 0.3), deep, 6)
    for share in (0.25, 0.5, 0.75, 1.0):
        canvas.ellipse(0.5, 0.42, 0.52 - 0.28 * share, 0.5 - 0.24 * share, mix(deep, glow, share))
    for x in (rng.uniform(0.2, 0.34), rng.uniform(0.66, 0.8)):
        low = rng.uniform(0.25, 0.5)
        sway = rng.uniform(-0.05, 0.05)
        canvas.curve([(x, -0.02), (x + sway, low * 0.6), (x, low)], (84, 104, 44), 0.018)
    for side in (0, 1):
        sign = 1 - 2 * side
        x = side - 0.05 * sign
        for y, turn in ((0.02, 120), (0.1, 95), (0.36, 75), (0.5, 100), (0.66, 60), (0.8, 85)):
            leaf(
                canvas, x, y + rng.uniform(-0.03, 0.03), rng.uniform(0.24, 0.36),
                sign * (turn + rng.uniform(-14, 14)), rng.choice(greens),
            )  # fmt: skip
    for x in spread(rng, 0.18, 0.82, 4):
        leaf(canvas, x, -0.04, rng.uniform(0.18, 0.26), 180 + rng.uniform(-35, 35), greens[2])
    ridge(canvas, rng, 0.86, 0.02, shade(deep, 0.8))
    bloom = rng.choice(((228, 44, 60), (246, 120, 40), (234, 60, 140)))
    for side in (0, 1):
        x = side + (1 - 2 * side) * rng.uniform(0.06, 0.15)
        y, size = rng.uniform(0.3, 0.72), rng.uniform(0.05, 0.065)
        flower(canvas, x, y, size, bloom, (250, 214, 70), 5)
    turns = [rng.uniform(-12, 12) for _ in range(8)]

    def front(canvas: Canvas, box: Box) -> None:
        for i, x in enumerate((0.02, 0.12, 0.88, 0.98)):
            leaf(canvas, x, 1.06, 0.23, turns[i] + (10 if x < 0.5 else -10), greens[i % 3])
        width = box[2] - box[0]
        for i, share in enumerate((0.0, 0.35, 0.65, 1.0)):
            x = box[0] + share * width
            leaf(canvas, x, box[3] + 0.06, 0.15, 3 * turns[4 + i], greens[(i + 1) % 3])

    return front


def autumn_tree(canvas: Canvas, rng: random.Random) -> Front:
    """Draw a tree with red and orange leaves to one side, and leaves all over the ground."""
    hues = ((224, 108, 30), (240, 164, 40), (196, 58, 36), (214, 134, 38))
    sky = pick(rng, (196, 216, 226), (226, 216, 200), (176, 204, 228))
    ground = pick(rng, (176, 128, 70), (164, 140, 76), (190, 120, 60))
    bark = tint(rng, (84, 56, 42), 8)
    horizon = rng.uniform(0.6, 0.7)
    bands(canvas, 0, horizon + 0.05, sky, shade(sky, 1.4), 6)
    canvas.ellipse(rng.uniform(0.2, 0.8), horizon, 0.5, 0.08, mix(ground, sky, 0.5))
    ridge(canvas, rng, horizon, 0.02, ground)
    bands(canvas, horizon + 0.14, 1.02, ground, shade(ground, 0.86), 4)
    left = rng.random() < 0.5
    scene = canvas if left else canvas.frame(1, 0, flip=True)
    foot = horizon + rng.uniform(0.06, 0.14)
    x = rng.uniform(0.08, 0.15)
    scene.polygon(
        [(x - 0.09, foot), (x - 0.045, foot - 0.14), (x - 0.04, 0.1), (x + 0.04, 0.1),
         (x + 0.05, foot - 0.14), (x + 0.1, foot)],
        bark,
    )  # fmt: skip
    scene.curve([(x, 0.36), (x + 0.2, 0.2), (x + 0.5, 0.12)], bark, 0.035)
    crown = rng.choice(hues)
    for cx, cy, size in (
        (0.0, 0.04, 0.2), (0.2, 0.0, 0.2), (0.42, 0.02, 0.17), (0.62, 0.0, 0.14),
        (0.84, -0.02, 0.13), (0.02, 0.22, 0.13), (0.24, 0.15, 0.11),
    ):  # fmt: skip
        scene.ellipse(
            cx + rng.uniform(-0.03, 0.03), cy + rng.uniform(-0.02, 0.02), size, size * 0.75,
            tint(rng, mix(crown, rng.choice(hues), 0.6)),
        )  # fmt: skip
    for x in spread(rng, 0.02, 0.98, 5):
        y = rng.uniform(0.24, horizon)
        canvas.ellipse(x, y, 0.032, 0.018, rng.choice(hues[:3]), rng.uniform(0, 180))
    for i, x in enumerate(spread(rng, 0.0, 1.0, 16)):
        y = horizon + (0.1, 0.2, 0.29)[i % 3] + rng.uniform(-0.02, 0.03)
        canvas.ellipse(x, y, 0.04, 0.022, rng.choice(hues[:3]), rng.uniform(-40, 40))
    offsets = [(rng.uniform(-0.02, 0.02), rng.uniform(-50, 50), rng.choice(hues)) for _ in range(7)]

    def front(canvas: Canvas, box: Box) -> None:
        for i, (dy, turn, hue) in enumerate(offsets):
            x = box[0] - 0.04 + (box[2] - box[0] + 0.08) * i / 6
            canvas.ellipse(x, box[3] + 0.01 + dy, 0.046, 0.026, hue, turn)

    return front
