"""Open country: snow, mountain, wheat field, sunflowers, garden, dirt road, moonlit night."""

from __future__ import annotations

import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, mix, shade
from dreambooth_pl.miniature.settings.pieces import (
    STAR,
    WHITE,
    bands,
    blades,
    blades_front,
    clouds,
    flower,
    heap_front,
    pick,
    pine,
    ridge,
    round_tree,
    spread,
    tint,
)
from dreambooth_pl.miniature.settings.setting import Box, Front


def snow(canvas: Canvas, rng: random.Random) -> Front:
    """Draw white ground, snow-laden pines and large flakes in the air."""
    sky = pick(rng, (160, 190, 218), (186, 200, 216), (140, 176, 214), (206, 200, 216))
    white = tint(rng, (244, 248, 252), 4)
    shadow = (202, 218, 236)
    horizon = rng.uniform(0.52, 0.64)
    bands(canvas, 0, horizon + 0.1, sky, shade(sky, 1.35), 8)
    needle = tint(rng, (52, 96, 92))
    for x in spread(rng, 0.25, 0.75, 3):
        pine(canvas, x, horizon + 0.02, rng.uniform(0.2, 0.3), mix(needle, sky, 0.5))
    ridge(canvas, rng, horizon, 0.03, mix(white, shadow, 0.5))
    for low, high in ((0.03, 0.15), (0.85, 0.97)):
        foot = horizon + rng.uniform(0.06, 0.14)
        pine(canvas, rng.uniform(low, high), foot, rng.uniform(0.42, 0.58), needle, white)
    ridge(canvas, rng, horizon + 0.16, 0.03, white)
    canvas.ellipse(rng.uniform(0.1, 0.9), rng.uniform(0.9, 0.98), 0.3, 0.03, shadow)
    if rng.random() < 0.7:
        for x in spread(rng, 0.02, 0.98, 12):
            radius = rng.uniform(0.011, 0.018)
            canvas.ellipse(x, rng.uniform(0.04, 0.8), radius, radius, WHITE)
    return heap_front(rng, white, shadow, 0.06)


def mountain(canvas: Canvas, rng: random.Random) -> Front:
    """Draw grey-blue peaks with snow caps above a green meadow."""
    sky = pick(rng, (92, 158, 226), (120, 176, 232), (244, 186, 150), (130, 160, 210))
    rock = pick(rng, (112, 116, 142), (104, 104, 120), (124, 112, 128))
    grass = pick(rng, (110, 168, 74), (132, 170, 70), (88, 150, 84))
    horizon = rng.uniform(0.66, 0.74)
    bands(canvas, 0, horizon + 0.05, sky, shade(sky, 1.45), 8)
    clouds(canvas, rng, 0.05, 0.14, shade(sky, 1.7))
    for x, top, half, light in (
        (rng.uniform(0.38, 0.62), rng.uniform(0.12, 0.2), 0.42, 1.25),
        (rng.uniform(0.06, 0.2), rng.uniform(0.1, 0.26), 0.34, 1.0),
        (rng.uniform(0.8, 0.94), rng.uniform(0.1, 0.26), 0.34, 1.08),
    ):
        _peak(canvas, rng, x, top, horizon + 0.04, half, shade(rock, light))
    ridge(canvas, rng, horizon, 0.02, shade(grass, 0.72), 5)
    ridge(canvas, rng, horizon + 0.07, 0.02, grass)
    bands(canvas, horizon + 0.16, 1.02, grass, shade(grass, 0.9), 3)
    for low, high in ((0.02, 0.14), (0.86, 0.98)):
        if rng.random() < 0.6:
            x = rng.uniform(low, high)
            pine(canvas, x, horizon + 0.09, rng.uniform(0.16, 0.22), shade(grass, 0.5))
    return blades_front(rng, (shade(grass, 0.8), shade(grass, 1.15)), 0.065, 7)


def _peak(
    canvas: Canvas,
    rng: random.Random,
    x: float,
    top: float,
    base: float,
    half: float,
    rock: Colour,
) -> None:
    height = base - top
    canvas.polygon([(x - half, base), (x, top), (x + half, base)], rock)
    fold = rng.uniform(0.02, 0.08)
    canvas.polygon(
        [(x, top), (x + half, base), (x + half * 0.2, base), (x + fold, top + height * 0.5)],
        shade(rock, 0.8),
    )
    line, low = 0.34, rng.uniform(0.4, 0.46)
    canvas.polygon(
        [(x, top), (x + half * line, top + height * line), (x + half * 0.17, top + height * 0.28),
         (x + half * 0.04, top + height * low), (x - half * 0.14, top + height * 0.3),
         (x - half * line, top + height * line)],
        (246, 249, 253),
    )  # fmt: skip


def wheat_field(canvas: Canvas, rng: random.Random) -> Front:
    """Draw golden ears of wheat up to the horizon under a blue sky."""
    gold = pick(rng, (232, 188, 84), (240, 202, 96), (222, 174, 78))
    sky = pick(rng, (112, 176, 230), (150, 200, 236), (246, 206, 160))
    horizon = rng.uniform(0.38, 0.48)
    bands(canvas, 0, horizon + 0.03, sky, shade(sky, 1.5), 7)
    clouds(canvas, rng, 0.08, 0.2, WHITE)
    canvas.ellipse(rng.uniform(0.1, 0.9), horizon + 0.02, 0.5, 0.06, mix((108, 140, 84), sky, 0.2))
    bands(canvas, horizon, 1.02, shade(gold, 1.25), shade(gold, 0.82), 9)
    ear, stalk = shade(gold, 0.9), shade(gold, 0.68)

    def plant(canvas: Canvas, x: float, foot: float, height: float, lean: float) -> None:
        top = (x + lean, foot - height)
        canvas.line([(x, foot), top], stalk, 0.013)
        canvas.ellipse(*top, 0.024, 0.07, ear, lean * 260)
        canvas.ellipse(top[0] - 0.007, top[1], 0.01, 0.055, shade(gold, 1.35), lean * 260)

    for i, x in enumerate(spread(rng, -0.02, 0.26, 5) + spread(rng, 0.74, 1.02, 5)):
        height = rng.uniform(0.32, 0.5) if i % 2 else rng.uniform(0.5, 0.6)
        plant(canvas, x, 1.02, height, rng.uniform(-0.06, 0.06))
    leans = [rng.uniform(-0.05, 0.05) for _ in range(6)]

    def front(canvas: Canvas, box: Box) -> None:
        for i, lean in enumerate(leans):
            x = box[0] - 0.04 + (box[2] - box[0] + 0.08) * i / 5
            plant(canvas, x, 1.04, 1.03 - box[3] + abs(lean) / 2, lean)

    return front


def _sunflower(canvas: Canvas, x: float, foot: float, height: float, size: float) -> None:
    canvas.line([(x, foot), (x, foot - height)], (66, 122, 40), 0.022)
    y = foot - height * 0.45
    canvas.ellipse(x + 0.045, y, 0.045, 0.02, (74, 140, 46), -25)
    canvas.ellipse(x - 0.045, y + 0.03, 0.045, 0.02, (74, 140, 46), 25)
    flower(canvas, x, foot - height, size, (252, 200, 20), (96, 56, 24), 8)


def sunflowers(canvas: Canvas, rng: random.Random) -> Front:
    """Draw a green lawn with tall sunflowers on both sides and smaller ones in front."""
    grass = pick(rng, (106, 186, 66), (126, 196, 72), (92, 172, 72))
    horizon = rng.uniform(0.1, 0.3)
    bands(canvas, 0, horizon + 0.03, (170, 214, 244), (216, 236, 250), 4)
    bands(canvas, horizon, 1.02, shade(grass, 1.2), shade(grass, 0.88), 8)
    blades(canvas, rng, 0.0, 1.0, horizon + 0.02, 0.05, (shade(grass, 0.85),), 12)
    for x in spread(rng, 0.28, 0.72, 3):
        _sunflower(canvas, x, horizon + 0.14, rng.uniform(0.1, 0.16), 0.06)
    for low, high in ((0.02, 0.2), (0.8, 0.98)):
        far, near = sorted(spread(rng, low, high, 2), key=lambda x: abs(x - 0.5))
        _sunflower(canvas, far, 0.74, rng.uniform(0.3, 0.44), 0.085)
        _sunflower(canvas, near, 0.96, rng.uniform(0.34, 0.46), 0.1)
    tuft = blades_front(rng, (shade(grass, 0.78), shade(grass, 0.9)), 0.06, 8)
    heads = rng.sample(range(4), 3)

    def front(canvas: Canvas, box: Box) -> None:
        tuft(canvas, box)
        for i in heads:
            flower(canvas, 0.14 + 0.24 * i, 0.975, 0.055, (252, 200, 20), (96, 56, 24), 8)

    return front


def garden(canvas: Canvas, rng: random.Random) -> Front:
    """Draw a white fence, round bushes and beds of colourful flowers on a lawn."""
    sky = tint(rng, (178, 222, 244))
    lawn = pick(rng, (124, 190, 92), (140, 198, 96), (104, 176, 96))
    hedge = shade(lawn, 0.6)
    horizon = rng.uniform(0.54, 0.62)
    bands(canvas, 0, horizon, sky, shade(sky, 1.4), 6)
    clouds(canvas, rng, 0.08, 0.18, WHITE)
    for x in (rng.uniform(-0.02, 0.12), rng.uniform(0.3, 0.7), rng.uniform(0.88, 1.02)):
        round_tree(canvas, x, horizon, rng.uniform(0.4, 0.54), hedge, (112, 78, 54))
    bands(canvas, horizon - 0.06, 1.02, shade(lawn, 0.9), lawn, 5)
    top = horizon - rng.uniform(0.2, 0.26)
    canvas.rectangle(-0.02, top + 0.06, 1.02, top + 0.09, WHITE)
    canvas.rectangle(-0.02, horizon - 0.07, 1.02, horizon - 0.04, WHITE)
    shift = rng.uniform(-0.08, 0.0)
    for i in range(10):
        x = shift + 0.115 * i
        canvas.polygon(
            [(x, horizon), (x, top + 0.03), (x + 0.03, top), (x + 0.06, top + 0.03),
             (x + 0.06, horizon)],
            (250, 250, 246),
        )  # fmt: skip
    hues = rng.sample(((232, 56, 72), (250, 140, 180), (160, 90, 210), (255, 250, 250),
                       (250, 120, 60)), 3)  # fmt: skip
    for low, high in ((-0.02, 0.2), (0.8, 1.02)):
        canvas.ellipse((low + high) / 2, 0.8, 0.17, 0.2, shade(hedge, 1.08))
        for i, x in enumerate(spread(rng, low + 0.01, high - 0.01, 4)):
            y = (0.66, 0.82, 0.72, 0.9)[i] + rng.uniform(-0.02, 0.02)
            flower(canvas, x, y, rng.uniform(0.045, 0.058), hues[i % 3], (250, 220, 80), 5)
    return blades_front(rng, (shade(lawn, 0.8), shade(lawn, 0.9)), 0.05, 8)


def dirt_road(canvas: Canvas, rng: random.Random) -> None:
    """Draw a brown road with ruts between dry verges, and a fence along it."""
    earth = pick(rng, (176, 126, 82), (190, 142, 96), (158, 108, 72))
    verge = pick(rng, (148, 158, 78), (166, 162, 84), (128, 150, 76))
    sky = pick(rng, (164, 206, 232), (232, 216, 190), (190, 206, 220))
    horizon = rng.uniform(0.36, 0.46)
    bands(canvas, 0, horizon + 0.05, sky, shade(sky, 1.4), 6)
    clouds(canvas, rng, 0.08, 0.18, shade(sky, 1.7))
    ridge(canvas, rng, horizon - 0.04, 0.03, mix(verge, sky, 0.4))
    bands(canvas, horizon, 1.02, shade(verge, 1.1), shade(verge, 0.85), 5)
    bend = rng.uniform(0.36, 0.64)
    for share, half_far, half_near, light in (
        (0.0, 0.05, 0.56, 1.0), (-0.5, 0.012, 0.075, 0.76), (0.5, 0.012, 0.075, 0.76),
    ):  # fmt: skip
        far, near = bend + share * 0.06, 0.5 + share * 0.68
        canvas.polygon(
            [(far - half_far, horizon), (far + half_far, horizon), (near + half_near, 1.02),
             (near - half_near, 1.02)],
            shade(earth, light),
        )  # fmt: skip
    wood = (112, 84, 62)
    for side in (0, 1):
        sign = 1 - 2 * side
        canvas.line([(side + sign * 0.33, horizon - 0.01), (side - sign * 0.02, 0.52)], wood, 0.018)
        for x, foot, height in ((0.04, 0.68, 0.24), (0.17, 0.57, 0.16), (0.27, 0.5, 0.1)):
            px = side + sign * x
            canvas.rectangle(px - 0.014, foot - height, px + 0.014, foot, wood)
    for low, high in ((0.02, 0.1), (0.9, 0.98)):
        x, y = rng.uniform(low, high), rng.uniform(0.74, 0.8)
        blades(canvas, rng, x - 0.06, x + 0.06, y, 0.1, (shade(verge, 0.7),), 4)


def night(canvas: Canvas, rng: random.Random) -> Front:
    """Draw a big moon and a few stars above dark hills."""
    sky = tint(rng, rng.choice(((16, 22, 62), (28, 20, 70), (12, 34, 72))), 6)
    land = tint(rng, rng.choice(((22, 46, 66), (30, 40, 70), (22, 54, 58))), 6)
    horizon = rng.uniform(0.62, 0.72)
    bands(canvas, 0, horizon + 0.05, sky, mix(sky, (86, 96, 160), 0.6), 9)
    left = rng.random() < 0.5
    x, y, radius = rng.uniform(0.13, 0.2), rng.uniform(0.13, 0.2), rng.uniform(0.09, 0.12)
    x = x if left else 1 - x
    canvas.ellipse(x, y, radius * 1.35, radius * 1.35, mix(sky, (250, 240, 190), 0.25))
    canvas.ellipse(x, y, radius, radius, (252, 242, 196))
    if rng.random() < 0.4:
        canvas.ellipse(x + radius * 0.45, y - radius * 0.15, radius * 0.85, radius * 0.85,
                       mix(sky, (250, 240, 190), 0.22))  # fmt: skip
    for sx in spread(rng, 0.02, 0.98, 8):
        sy, size = rng.uniform(0.04, horizon - 0.2), rng.uniform(0.018, 0.026)
        if abs(sx - x) > radius * 1.6:
            canvas.frame(sx, sy, size).polygon(STAR, (255, 250, 214))
    ridge(canvas, rng, horizon, 0.05, shade(land, 0.75))
    for low, high in ((0.03, 0.14), (0.86, 0.97)):
        if rng.random() < 0.75:
            tree = rng.uniform(low, high)
            pine(canvas, tree, horizon + 0.1, rng.uniform(0.28, 0.4), shade(sky, 0.8))
    ridge(canvas, rng, horizon + 0.1, 0.02, land)
    bands(canvas, horizon + 0.18, 1.02, land, shade(land, 1.14), 3)
    return blades_front(rng, (shade(land, 0.7), shade(land, 1.2)), 0.05, 7)
