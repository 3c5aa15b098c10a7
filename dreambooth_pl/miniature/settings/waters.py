"""Beach, floating on water, floating in an ocean of milk."""

from __future__ import annotations

import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, mix, shade
from dreambooth_pl.miniature.settings.pieces import (
    WHITE,
    bands,
    clouds,
    heap_front,
    leaf,
    pick,
    spread,
    tint,
)
from dreambooth_pl.miniature.settings.setting import Box, Front


def _palm(canvas: Canvas, foot: float, height: float, green: Colour) -> None:
    """Draw a palm at the left edge, leaning inwards."""
    top = (0.17, foot - height)
    canvas.limb([(0.06, foot), (0.08, foot - height * 0.5), top], (150, 108, 70), 0.032, 0.02)
    for turn in (-110, -65, -20, 30, 75, 115):
        leaf(canvas, *top, 0.23, turn, shade(green, 1.0 + (turn % 3) * 0.06))
    canvas.ellipse(top[0], top[1] + 0.01, 0.026, 0.026, (120, 80, 50))


def _parasol(canvas: Canvas, foot: float, colour: Colour) -> None:
    """Draw a striped parasol at the right edge."""
    canvas.line([(0.88, foot), (0.88, foot - 0.4)], (240, 236, 226), 0.02)
    shade_ = canvas.frame(0.88, foot - 0.36, 0.17)
    points = [(-1, 0), (-0.9, -0.36), (-0.6, -0.7), (0, -0.9), (0.6, -0.7), (0.9, -0.36), (1, 0)]
    shade_.polygon(points, colour)
    shade_.polygon([(-0.62, 0), (0, -0.9), (-0.25, 0)], WHITE)
    shade_.polygon([(0.62, 0), (0, -0.9), (0.25, 0)], WHITE)


def beach(canvas: Canvas, rng: random.Random) -> Front:
    """Draw yellow sand, a strip of turquoise sea, a palm and a parasol."""
    sand = tint(rng, rng.choice(((244, 220, 160), (238, 208, 148), (248, 228, 178))), 8)
    sea = pick(rng, (38, 164, 196), (60, 182, 200), (40, 140, 200))
    sky = pick(rng, (136, 206, 244), (170, 220, 246), (252, 200, 160))
    horizon, shore = rng.uniform(0.34, 0.44), rng.uniform(0.56, 0.66)
    bands(canvas, 0, horizon + 0.02, sky, shade(sky, 1.5), 6)
    if rng.random() < 0.6:
        sun = rng.uniform(0.3, 0.7)
        canvas.ellipse(sun, rng.uniform(0.06, 0.12), 0.075, 0.075, (255, 236, 130))
    clouds(canvas, rng, 0.08, 0.18, WHITE)
    bands(canvas, horizon, shore + 0.06, sea, shade(sea, 1.35), 5)
    bands(canvas, shore + 0.02, 1.02, sand, shade(sand, 0.92), 4)
    wave = [(x, shore + rng.uniform(-0.012, 0.02)) for x in (-0.05, 0.2, 0.4, 0.6, 0.8, 1.05)]
    canvas.curve([(x, y + 0.03) for x, y in wave], shade(sand, 0.88), 0.05)
    canvas.curve(wave, WHITE, 0.035)
    mirrored = canvas if rng.random() < 0.5 else canvas.frame(1, 0, flip=True)
    props = rng.choice(("both", "palm", "parasol"))
    foot = shore + rng.uniform(0.06, 0.14)
    if props != "parasol":
        green = tint(rng, (40, 150, 70))
        _palm(mirrored, foot, foot - rng.uniform(0.2, 0.28), green)
    if props != "palm":
        hue = rng.choice(((232, 60, 60), (250, 150, 40), (60, 110, 210)))
        _parasol(mirrored, foot, hue)
    x = rng.uniform(0.05, 0.16)
    mirrored.ellipse(1 - x, 0.88, 0.055, 0.055, rng.choice(((236, 80, 70), (60, 130, 220))))
    mirrored.polygon([(1 - x, 0.825), (0.97 - x, 0.93), (1.03 - x, 0.93)], WHITE)
    mirrored.ellipse(x, 0.92, 0.045, 0.03, rng.choice(((250, 160, 140), (255, 250, 240))))
    return heap_front(rng, shade(sand, 1.1), shade(sand, 0.85), 0.035)


def _ripples(
    canvas: Canvas, rng: random.Random, y0: float, y1: float, count: int, colour: Colour
) -> None:
    """Draw lens-shaped wave crests. Nearer crests are wider."""
    for i, y in enumerate(spread(rng, y0, y1, count)):
        x = rng.uniform(0.0, 0.34) if i % 2 else rng.uniform(0.66, 1.0)
        half = 0.06 + 0.14 * (y - y0)
        canvas.blob([(x - half, y), (x, y - 0.016), (x + half, y), (x, y + 0.008)], colour)


def _afloat(
    horizon: float, top: Colour, bottom: Colour, crest: Colour, steps: int, alpha: int
) -> Front:
    """Return a front that draws the surface's bands again over a floating subject's lower part."""

    def front(canvas: Canvas, box: Box) -> None:
        line = box[3] - 0.15 * (box[3] - box[1])
        share = (line - horizon) / (1.02 - horizon)
        bands(canvas, line, 1.02, mix(top, bottom, share), bottom, steps, alpha)
        cx, half = (box[0] + box[2]) / 2, (box[2] - box[0]) / 2
        canvas.blob(
            [(cx - half - 0.1, line), (cx - half * 0.5, line - 0.014), (cx, line + 0.006),
             (cx + half * 0.5, line - 0.014), (cx + half + 0.1, line), (cx, line + 0.03)],
            crest,
        )  # fmt: skip
        y = line + 0.09
        canvas.blob([(cx - half, y), (cx, y + 0.012), (cx + half, y), (cx, y + 0.032)], crest)

    return front


def water(canvas: Canvas, rng: random.Random) -> Front:
    """Draw blue water with light crests, a strip of sky and in some pictures a sailing boat."""
    deep = pick(rng, (18, 84, 168), (16, 104, 160), (24, 70, 150))
    near_sky = rng.choice(((78, 166, 222), (90, 186, 214), (70, 150, 216)))
    light = tint(rng, near_sky)
    sky = pick(rng, (190, 224, 246), (252, 218, 180), (206, 226, 236))
    horizon = rng.uniform(0.2, 0.32)
    bands(canvas, 0, horizon + 0.02, sky, shade(sky, 1.4), 4)
    bands(canvas, horizon, 1.02, light, deep, 12)
    if rng.random() < 0.6:
        boat = canvas.frame(rng.choice((0.13, 0.87)), horizon + 0.03, 0.17, flip=rng.random() < 0.5)
        boat.polygon([(-0.5, -0.2), (0.5, -0.2), (0.32, 0.02), (-0.32, 0.02)], (176, 66, 50))
        boat.polygon([(-0.02, -0.26), (-0.02, -1.15), (0.48, -0.26)], WHITE)
        boat.polygon([(-0.1, -0.26), (-0.1, -0.95), (-0.42, -0.26)], (240, 236, 226))
    crest = shade(light, 1.45)
    _ripples(canvas, rng, horizon + 0.06, 0.97, 12, crest)
    return _afloat(horizon, light, deep, crest, 6, 225)


def milk(canvas: Canvas, rng: random.Random) -> Front:
    """Draw a white sea with creamy waves and splashes under a pastel sky."""
    cream = tint(rng, (254, 250, 240), 3)
    fold = tint(rng, rng.choice(((226, 208, 184), (218, 208, 200), (230, 210, 176))), 5)
    sky = pick(rng, (244, 190, 204), (202, 186, 232), (250, 208, 164), (170, 214, 206))
    horizon = rng.uniform(0.26, 0.38)
    bands(canvas, 0, horizon + 0.1, sky, shade(sky, 1.3), 4)
    y = horizon
    for i in range(5):
        rise = 0.02 + 0.009 * i
        phase = rng.choice((-1, 1))
        wave = [(x, y + phase * rise * (-1) ** k) for k, x in enumerate((-0.2, 0.05, 0.3, 0.5, 0.7,
                                                                        0.95, 1.2))]  # fmt: skip
        canvas.blob([(px, py) for px, py in wave] + [(1.3, 1.2), (-0.3, 1.2)], fold)
        canvas.blob([(px, py + 0.026) for px, py in wave] + [(1.3, 1.2), (-0.3, 1.2)], cream)
        y += 0.09 + 0.025 * i
    for low, high in ((0.06, 0.16), (0.84, 0.94)):
        x, base = rng.uniform(low, high), horizon + rng.uniform(0.06, 0.2)
        splash = canvas.frame(x, base, rng.uniform(0.15, 0.2))
        splash.polygon([(-0.5, 0.1), (-0.42, -0.7), (-0.2, -0.2), (0, -1.0), (0.2, -0.2),
                        (0.45, -0.75), (0.5, 0.1)], cream)  # fmt: skip
        for dx, dy in ((-0.45, -0.95), (0.02, -1.3), (0.5, -1.0)):
            splash.ellipse(dx, dy, 0.12, 0.14, cream)
    return _afloat(horizon, cream, cream, fold, 1, 245)
