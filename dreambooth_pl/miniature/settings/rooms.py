"""Indoors: plain wall, living room, kitchen, sofa."""

from __future__ import annotations

import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, mix, shade
from dreambooth_pl.miniature.settings.pieces import WHITE, bands, leaf, pick, tint, window

_WALLS = (
    (232, 226, 214), (200, 214, 226), (240, 214, 190), (204, 222, 200), (226, 204, 222),
    (246, 230, 170), (170, 190, 200), (190, 176, 164), (236, 180, 170), (150, 190, 186),
    (118, 128, 142), (244, 244, 244), (176, 160, 206), (222, 166, 96), (100, 150, 200),
)  # fmt: skip


def plain_wall(canvas: Canvas, rng: random.Random) -> None:
    """Draw one colour with a soft light, or a wall and a floor of the same hue."""
    wall = tint(rng, rng.choice(_WALLS), 16)
    kind = rng.choice(("plain", "gradient", "glow", "floor", "floor"))
    canvas.rectangle(-0.02, -0.02, 1.02, 1.02, wall)
    if kind == "gradient":
        bands(canvas, 0, 1.02, shade(wall, 1.25), shade(wall, 0.82), 12)
    elif kind == "glow":
        for i in range(6):
            size = 0.66 - 0.07 * i
            canvas.ellipse(0.5, 0.45, size, size, shade(wall, 1.0 + 0.07 * (i + 1)))
    elif kind == "floor":
        y = rng.uniform(0.68, 0.84)
        bands(canvas, 0, y, shade(wall, 1.12), wall, 6)
        floor = mix(wall, rng.choice((shade(wall, 0.7), shade(wall, 1.5))), 0.8)
        bands(canvas, y, 1.02, floor, shade(floor, 0.92), 4)


def _plant(canvas: Canvas, x: float, foot: float, green: Colour) -> None:
    for turn in (-62, -30, 0, 30, 62):
        leaf(canvas, x, foot - 0.12, 0.27, turn, shade(green, 0.95 + 0.004 * abs(turn)))
    canvas.polygon(
        [(x - 0.075, foot - 0.15), (x + 0.075, foot - 0.15), (x + 0.055, foot), (x - 0.055, foot)],
        (206, 110, 74),
    )


def _floor_lamp(canvas: Canvas, x: float, foot: float, wall: Colour) -> None:
    top = foot - 0.6
    canvas.ellipse(x, top, 0.17, 0.17, mix(wall, (255, 240, 180), 0.6))
    canvas.rectangle(x - 0.01, top, x + 0.01, foot, (70, 60, 56))
    canvas.rectangle(x - 0.06, foot - 0.02, x + 0.06, foot, (70, 60, 56))
    hood = [(-0.05, -0.1), (0.05, -0.1), (0.1, 0.06), (-0.1, 0.06)]
    canvas.frame(x, top).polygon(hood, (255, 222, 130))


def living_room(canvas: Canvas, rng: random.Random) -> None:
    """Draw a curtained window, an armchair under a picture, a lamp or a plant, and a carpet."""
    wall = pick(rng, (238, 214, 170), (206, 216, 190), (232, 196, 176), (214, 204, 222))
    floor = pick(rng, (150, 104, 74), (176, 132, 96), (128, 92, 72))
    cloth = pick(rng, (186, 66, 58), (58, 96, 140), (70, 124, 96), (206, 140, 50))
    seat = pick(rng, (54, 112, 116), (170, 76, 60), (96, 84, 130), (200, 150, 60))
    carpet = pick(rng, (206, 90, 76), (86, 130, 160), (222, 180, 110), (120, 150, 110))
    y = rng.uniform(0.64, 0.7)
    bands(canvas, 0, y, shade(wall, 1.2), wall, 4)
    canvas.rectangle(-0.02, y - 0.045, 1.02, y + 0.01, shade(wall, 1.6))
    bands(canvas, y, 1.02, floor, shade(floor, 0.86), 4)
    canvas.ellipse(0.5, 0.9, 0.47, 0.11, shade(carpet, 0.8))
    canvas.ellipse(0.5, 0.9, 0.42, 0.085, carpet)
    scene = canvas if rng.random() < 0.5 else canvas.frame(1, 0, flip=True)
    # Left: window and lamp or plant. Right: picture and armchair.
    window(scene, 0.06, 0.1, 0.27, 0.42, (176, 216, 240), WHITE)
    for x in (0.0, 0.27):
        scene.polygon([(x, 0.05), (x + 0.075, 0.05), (x + 0.06, 0.47), (x - 0.01, 0.47)], cloth)
    scene.rectangle(-0.02, 0.03, 0.38, 0.055, shade(cloth, 0.6))
    foot = y + rng.uniform(0.06, 0.1)
    if rng.random() < 0.5:
        _plant(scene, rng.uniform(0.08, 0.12), foot, tint(rng, (60, 140, 76)))
    else:
        _floor_lamp(scene, rng.uniform(0.08, 0.12), foot, wall)
    scene.rectangle(0.72, 0.1, 0.95, 0.3, (110, 78, 54))
    scene.rectangle(0.745, 0.125, 0.925, 0.275, rng.choice(((250, 236, 200), (150, 200, 230))))
    scene.polygon([(0.745, 0.275), (0.81, 0.18), (0.87, 0.275)], rng.choice(((90, 150, 90), cloth)))
    scene.rectangle(0.72, 0.42, 1.06, foot, seat, 0.06)
    scene.rectangle(0.68, 0.58, 0.79, foot + 0.01, shade(seat, 0.84), 0.045)
    scene.rectangle(0.78, 0.6, 1.06, 0.68, shade(seat, 1.2), 0.03)


def kitchen(canvas: Canvas, rng: random.Random) -> None:
    """Draw cupboards, a worktop with a pot on the stove, a fridge and a chequered floor."""
    front = pick(rng, (150, 202, 190), (236, 208, 120), (132, 176, 206), (214, 110, 96))
    tile = tint(rng, (240, 240, 232), 6)
    top = rng.uniform(0.5, 0.54)
    canvas.rectangle(-0.02, -0.02, 1.02, 1.02, tile)
    for i in range(1, 8):
        canvas.rectangle(i / 7 - 0.007, 0, i / 7 + 0.007, top, shade(tile, 0.88))
    for y in (0.3, 0.42):
        canvas.rectangle(-0.02, y, 1.02, y + 0.013, shade(tile, 0.88))
    floor = 0.8
    dark = rng.choice(((70, 80, 92), (186, 84, 70), (110, 130, 120)))
    canvas.rectangle(-0.02, floor, 1.02, 1.02, (238, 232, 222))
    for row, (y0, y1) in enumerate(((floor, 0.88), (0.88, 1.02))):
        for i in range(row, 8, 2):
            edge = [((k / 8 - 0.5) * s + 0.5, y) for k, s, y in (
                (i, 1.0 + 0.5 * row, y0), (i + 1, 1.0 + 0.5 * row, y0),
                (i + 1, 1.5 + 0.5 * row, y1), (i, 1.5 + 0.5 * row, y1))]  # fmt: skip
            canvas.polygon(edge, dark)
    scene = canvas if rng.random() < 0.5 else canvas.frame(1, 0, flip=True)
    for x in (-0.06, 0.15, 0.36, 0.57):
        scene.rectangle(x, -0.02, x + 0.195, 0.2, front)
        scene.rectangle(x + 0.15, 0.11, x + 0.17, 0.17, shade(front, 0.5))
    scene.rectangle(-0.02, top, 0.78, floor, shade(front, 0.94))
    scene.rectangle(0.235, top, 0.25, floor, shade(front, 0.7))
    scene.rectangle(-0.02, top, 0.78, top + 0.045, (150, 104, 70))
    # Stove on the left: oven door, knobs, and a pot on top.
    scene.rectangle(-0.02, top + 0.045, 0.23, floor, (226, 228, 230))
    scene.rectangle(0.025, 0.65, 0.195, 0.765, (58, 62, 70))
    for x in (0.05, 0.11, 0.17):
        scene.ellipse(x, top + 0.075, 0.016, 0.016, (70, 70, 76))
    pot = rng.choice(((208, 62, 50), (70, 110, 170), (90, 96, 104)))
    scene.rectangle(0.03, top - 0.13, 0.2, top, pot, 0.025)
    scene.rectangle(0.0, top - 0.1, 0.23, top - 0.075, shade(pot, 0.7))
    scene.rectangle(0.02, top - 0.155, 0.21, top - 0.125, shade(pot, 1.25), 0.01)
    # Fridge on the right.
    steel = tint(rng, (214, 220, 226), 8)
    scene.rectangle(0.78, 0.08, 1.04, floor + 0.03, steel, 0.03)
    scene.rectangle(0.78, 0.33, 1.04, 0.345, shade(steel, 0.65))
    scene.rectangle(0.805, 0.18, 0.825, 0.3, shade(steel, 0.5))
    scene.rectangle(0.805, 0.38, 0.825, 0.54, shade(steel, 0.5))


def sofa(canvas: Canvas, rng: random.Random) -> None:
    """Draw a big sofa from edge to edge, with cushions at both arms."""
    wall = pick(rng, (236, 228, 212), (208, 220, 226), (232, 214, 204), (216, 224, 206))
    cover = pick(rng, (70, 106, 150), (176, 72, 62), (92, 128, 92), (214, 150, 62),
                                  (128, 116, 112), (122, 84, 132))  # fmt: skip
    back = rng.uniform(0.2, 0.28)
    bands(canvas, 0, 1.02, shade(wall, 1.2), wall, 4)
    canvas.rectangle(-0.04, back, 0.497, 0.8, cover, 0.08)
    canvas.rectangle(0.503, back, 1.04, 0.8, cover, 0.08)
    canvas.rectangle(-0.02, 0.62, 1.02, 0.72, shade(cover, 0.7))
    canvas.rectangle(-0.02, 0.68, 1.02, 0.97, shade(cover, 1.15), 0.04)
    canvas.rectangle(-0.02, 0.955, 1.02, 1.02, shade(cover, 0.7))
    hues = rng.sample(((250, 214, 110), (240, 240, 232), (226, 110, 90), (120, 180, 190)), 2)
    for x, turn, hue in ((0.17, 14, hues[0]), (0.83, -14, hues[1])):
        cushion = canvas.frame(x, 0.58, 0.22, turn + rng.uniform(-8, 8))
        cushion.rectangle(-0.5, -0.5, 0.5, 0.5, hue, 0.15)
        cushion.rectangle(-0.5, -0.08, 0.5, 0.08, shade(hue, 0.8))
    for x0, x1 in ((-0.08, 0.09), (0.91, 1.08)):
        canvas.rectangle(x0, 0.5, x1, 1.02, shade(cover, 0.86), 0.07)
        canvas.rectangle(x0 + 0.02, 0.52, x1 - 0.02, 0.6, shade(cover, 1.1), 0.04)
