"""Things to lie on: wooden floor, pink fabric, white rug, mirror."""

from __future__ import annotations

import random

from dreambooth_pl.miniature.canvas import Canvas, mix, shade
from dreambooth_pl.miniature.settings.pieces import STAR, WHITE, bands, pick, planks, spread, tint
from dreambooth_pl.miniature.settings.setting import Box, Front


def wooden_floor(canvas: Canvas, rng: random.Random) -> None:
    """Draw broad boards over most of the picture and a light wall with a skirting board behind."""
    wall = pick(rng, (236, 228, 212), (222, 226, 226), (214, 222, 206), (238, 220, 208))
    wood = pick(rng, (188, 124, 70), (212, 160, 104), (146, 86, 50), (196, 134, 88), (170, 112, 76))
    horizon = rng.uniform(0.3, 0.46)
    bands(canvas, 0, horizon + 0.02, wall, shade(wall, 0.94), 3)
    canvas.rectangle(-0.02, horizon - 0.07, 1.02, horizon + 0.01, shade(wall, 1.6))
    planks(canvas, rng, horizon, wood)
    if rng.random() < 0.4:
        x = rng.uniform(0.0, 0.5)
        sunbeam = [(x, horizon), (x + 0.22, horizon), (x + 0.5, 1.02), (x + 0.1, 1.02)]
        canvas.polygon(sunbeam, (255, 240, 190, 60))


def pink_fabric(canvas: Canvas, rng: random.Random) -> Front:
    """Draw pink cloth in wide soft folds from edge to edge."""
    pink = pick(rng, (246, 150, 186), (250, 172, 196), (238, 128, 172), (248, 164, 176))
    deep, light = mix(pink, (196, 60, 120), 0.28), shade(pink, 1.35)
    bands(canvas, 0, 1.02, shade(pink, 1.12), pink, 6)
    lean, sway = rng.uniform(-0.3, 0.3), rng.choice((-1, 1)) * rng.uniform(0.03, 0.07)
    for x in spread(rng, -0.12, 1.12, 6):
        width = rng.uniform(0.05, 0.075)
        path = [(x + lean * (t - 0.5) + sway * s, t * 1.1 - 0.05)
                for t, s in ((0, 0), (0.25, 1), (0.5, 0.2), (0.75, -1), (1, 0))]  # fmt: skip
        canvas.limb(path, mix(pink, deep, 0.5), width * 0.8, width * 1.3)
        canvas.limb([(px + width * 0.3, py) for px, py in path], deep, width * 0.4, width * 0.7)
        canvas.limb([(px - width * 1.1, py) for px, py in path], light, width * 0.35, width * 0.6)
    tilt = rng.uniform(-0.02, 0.02)

    def front(canvas: Canvas, box: Box) -> None:
        x0, x1, y = box[0] - 0.14, box[2] + 0.14, box[3] + 0.01
        middle = (x0 + x1) / 2
        for drop, colour in ((0.022, deep), (0.0, light)):
            canvas.blob(
                [(x0, y + tilt + drop), (middle, y - 0.012 + drop), (x1, y - tilt + drop),
                 (middle, y + 0.05 + drop)],
                colour,
            )  # fmt: skip

    return front


def white_rug(canvas: Canvas, rng: random.Random) -> None:
    """Draw a fluffy white rug on a dark floor."""
    wall = pick(rng, (150, 186, 196), (200, 170, 150), (168, 160, 190), (134, 164, 148))
    floor = pick(rng, (92, 70, 58), (72, 76, 86), (104, 62, 48))
    horizon = rng.uniform(0.4, 0.5)
    bands(canvas, 0, horizon + 0.02, wall, shade(wall, 0.92), 3)
    canvas.rectangle(-0.02, horizon - 0.05, 1.02, horizon + 0.01, shade(wall, 0.7))
    bands(canvas, horizon, 1.02, floor, shade(floor, 0.85), 4)
    rug, fringe = tint(rng, (248, 247, 244), 4), (222, 220, 216)
    top = rng.uniform(0.62, 0.68)
    if rng.random() < 0.5:
        cy = (top + 0.98) / 2
        frame = canvas.frame(0.5, cy, 1.0)
        half = 0.98 - cy
        for dy, colour, grow in ((0.012, fringe, 0.0), (0.0, rug, -0.012)):
            frame.ellipse(0, dy, 0.46 + grow, half + grow, colour)
            for i in range(12):
                x = -0.46 + 0.92 * (i + 0.5) / 12
                reach = half * (1 - (x / 0.46) ** 2) ** 0.5
                frame.ellipse(x, dy - reach, 0.055, 0.032 + grow, colour)
                frame.ellipse(x, dy + reach, 0.055, 0.032 + grow, colour)
        return
    inset = rng.uniform(0.1, 0.16)
    for i in range(9):
        y = top + 0.02 + (0.94 - top) * i / 8
        reach = inset - (inset - 0.03) * i / 8
        for edge, out in ((reach, -0.04), (1 - reach, 0.04)):
            canvas.polygon(
                [(edge - out, y - 0.02), (edge + out, y), (edge - out, y + 0.02)], fringe
            )
    canvas.polygon([(inset, top), (1 - inset, top), (0.97, 0.97), (0.03, 0.97)], rug)
    canvas.polygon(
        [(inset + 0.05, top + 0.05), (0.95 - inset, top + 0.05), (0.9, 0.92), (0.1, 0.92)], fringe
    )
    canvas.polygon(
        [(inset + 0.07, top + 0.07), (0.93 - inset, top + 0.07), (0.87, 0.9), (0.13, 0.9)], rug
    )


def mirror(canvas: Canvas, rng: random.Random) -> None:
    """Draw a mirror with a golden frame, lying flat, with bright streaks across the glass."""
    wall = pick(rng, (96, 36, 60), (40, 62, 76), (70, 46, 88), (46, 70, 58))
    gold = pick(rng, (224, 176, 70), (236, 194, 92), (204, 150, 66))
    glass = pick(rng, (168, 204, 224), (184, 212, 220), (156, 192, 226))
    bands(canvas, 0, 1.02, shade(wall, 1.25), shade(wall, 0.8), 6)
    top = rng.uniform(0.5, 0.58)
    cy, half = (top + 0.99) / 2, (0.99 - top) / 2
    if rng.random() < 0.5:
        canvas.ellipse(0.5, cy, 0.5, half, gold)
        canvas.ellipse(0.5, cy, 0.455, half - 0.035, shade(gold, 0.7))
        canvas.ellipse(0.5, cy, 0.44, half - 0.045, glass)
        canvas.ellipse(0.5, cy + half * 0.25, 0.36, half * 0.5, shade(glass, 1.2))
        left, right = 0.12, 0.88
    else:
        inset = rng.uniform(0.1, 0.16)
        for grow, colour in ((0.0, gold), (0.04, shade(gold, 0.7)), (0.055, glass)):
            canvas.polygon(
                [(inset + grow, top + grow * 0.8), (1 - inset - grow, top + grow * 0.8),
                 (1 - grow, 0.99 - grow * 0.8), (grow, 0.99 - grow * 0.8)],
                colour,
            )  # fmt: skip
        canvas.polygon([(0.2, 0.76), (0.8, 0.76), (0.92, 0.945), (0.08, 0.945)], shade(glass, 1.2))
        left, right = 0.14, 0.86
    slant = rng.uniform(0.05, 0.09)
    for x, width in ((left, 0.05), (left + 0.09, 0.025), (right - 0.08, 0.04), (right, 0.02)):
        canvas.polygon(
            [(x + slant, cy - half * 0.45), (x + slant + width, cy - half * 0.45),
             (x - slant + width, cy + half * 0.45), (x - slant, cy + half * 0.45)],
            mix(glass, WHITE, 0.85),
        )  # fmt: skip
    sparkle = rng.choice((0.1, 0.9))
    star = canvas.frame(sparkle, top - 0.02, 0.07)
    star.polygon(STAR, WHITE)
