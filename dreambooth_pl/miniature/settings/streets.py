"""Town: city skyline, Eiffel Tower, blue house, cobblestones, crowded pavement."""

from __future__ import annotations

import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, mix, shade
from dreambooth_pl.miniature.settings.pieces import (
    WHITE,
    bands,
    blades_front,
    clouds,
    lamp_post,
    pick,
    ridge,
    spread,
    tint,
    window,
)
from dreambooth_pl.miniature.settings.setting import Front


def city(canvas: Canvas, rng: random.Random) -> None:
    """Draw tall towers with rows of windows behind a grey road."""
    sky, tower, glass = rng.choice((
        ((150, 196, 234), (96, 112, 138), (200, 222, 236)),
        ((248, 180, 130), (96, 78, 110), (255, 216, 120)),
        ((200, 208, 214), (110, 116, 126), (226, 232, 236)),
        ((96, 104, 168), (52, 54, 90), (255, 220, 120)),
    ))  # fmt: skip
    sky, tower = tint(rng, sky), tint(rng, tower, 8)
    street = rng.uniform(0.7, 0.76)
    bands(canvas, 0, street + 0.02, sky, shade(sky, 1.35), 8)
    far = mix(tower, sky, 0.55)
    for x in spread(rng, 0.0, 1.0, 7):
        canvas.rectangle(x - 0.07, rng.uniform(0.16, 0.4), x + 0.07, street, far)
    for x0, x1, low, high in (
        (-0.02, 0.12, 0.12, 0.3), (0.13, 0.27, 0.03, 0.22), (0.29, 0.42, 0.3, 0.44),
        (0.6, 0.72, 0.3, 0.44), (0.73, 0.87, 0.03, 0.22), (0.88, 1.02, 0.12, 0.3),
    ):  # fmt: skip
        _tower(canvas, rng, x0, x1, rng.uniform(low, high), street, tint(rng, tower, 10), glass)
    canvas.rectangle(-0.02, street, 1.02, street + 0.05, (186, 186, 184))
    bands(canvas, street + 0.045, 1.02, (104, 106, 112), (86, 88, 96), 3)
    shift = rng.uniform(-0.1, 0.1)
    for i in range(-1, 4):
        x = shift + 0.3 * i
        canvas.polygon([(x, 0.955), (x + 0.17, 0.955), (x + 0.15, 0.985), (x - 0.02, 0.985)],
                       (240, 236, 220))  # fmt: skip


def _tower(
    canvas: Canvas,
    rng: random.Random,
    x0: float,
    x1: float,
    top: float,
    base: float,
    wall: Colour,
    glass: Colour,
) -> None:
    canvas.rectangle(x0, top, x1, base, wall)
    style = rng.choice(("columns", "rows", "rows", "spire"))
    if style == "spire":
        middle = (x0 + x1) / 2
        canvas.polygon([(x0, top + 0.01), (middle, top - 0.1), (x1, top + 0.01)], wall)
    if style == "columns":
        for x in (x0 + 0.025, x0 + 0.06, x0 + 0.095):
            canvas.rectangle(x, top + 0.05, x + 0.018, base - 0.06, glass)
        return
    y = top + 0.05
    while y < base - 0.06:
        for x in (x0 + 0.025, (x0 + x1) / 2 + 0.01):
            canvas.rectangle(x, y, x + 0.036, y + 0.036, glass)
        y += 0.09


def _eiffel(canvas: Canvas, x: float, ground: float, height: float, iron: Colour) -> None:
    tower = canvas.frame(x, ground, height)
    outline = (
        (0.0, 0.235), (0.12, 0.165), (0.26, 0.105), (0.42, 0.062), (0.62, 0.034), (0.93, 0.015),
    )  # fmt: skip
    half_arch = ((0.13, 0.0), (0.105, 0.09), (0.055, 0.14))
    arch = [(-x, y) for x, y in half_arch] + [(0.0, 0.155)] + list(reversed(half_arch))
    tower.polygon(
        [(-half, -t) for t, half in outline]
        + [(half, -t) for t, half in reversed(outline)]
        + [(px, -py) for px, py in reversed(arch)],
        iron,
    )
    tower.line([(0, -0.9), (0, -1.0)], iron, 0.022)
    for y, half in ((0.19, 0.17), (0.41, 0.095), (0.9, 0.034)):
        tower.rectangle(-half, -y - 0.035, half, -y, shade(iron, 0.75))
    gap = [(-0.045, -0.24), (0.045, -0.24), (0.012, -0.39), (-0.012, -0.39)]
    tower.polygon(gap, shade(iron, 1.5))


def eiffel_tower(canvas: Canvas, rng: random.Random) -> None:
    """Draw the Eiffel Tower to one side above clipped trees and a lawn."""
    sky = pick(rng, (188, 216, 240), (250, 212, 184), (226, 206, 226), (160, 198, 236))
    lawn = tint(rng, (142, 188, 104))
    iron = pick(rng, (124, 92, 70), (108, 86, 78), (98, 84, 92))
    horizon = rng.uniform(0.68, 0.74)
    bands(canvas, 0, horizon + 0.06, sky, shade(sky, 1.5), 8)
    left = rng.random() < 0.5
    scene = canvas if left else canvas.frame(1, 0, flip=True)
    clouds(canvas, rng, 0.1, 0.24, WHITE)
    # Pale Paris houses with grey mansard roofs on the far side.
    for x in (0.46, 0.64, 0.82):
        top = horizon - rng.uniform(0.15, 0.22)
        scene.rectangle(x, top, x + 0.19, horizon + 0.02, tint(rng, (240, 226, 202), 6))
        scene.polygon([(x, top), (x + 0.02, top - 0.07), (x + 0.17, top - 0.07), (x + 0.19, top)],
                      (128, 136, 156))  # fmt: skip
        scene.rectangle(x + 0.11, top + 0.05, x + 0.15, top + 0.12, (150, 160, 176))
    scene.ellipse(0.62, horizon + 0.02, 0.14, 0.09, (92, 144, 82))
    height = horizon + rng.uniform(-0.02, 0.02)
    _eiffel(scene, rng.uniform(0.18, 0.22), horizon + 0.03, height, iron)
    ridge(canvas, rng, horizon + 0.03, 0.005, lawn)
    for x in (0.0, 0.93):
        scene.ellipse(x, horizon + 0.02, 0.08, 0.06, (76, 128, 72))
    canvas.polygon([(0.36, horizon + 0.05), (0.64, horizon + 0.05), (0.86, 1.02), (0.14, 1.02)],
                   (232, 216, 186))  # fmt: skip


def blue_house(canvas: Canvas, rng: random.Random) -> Front:
    """Draw a broad blue house with white windows and a big roof, on grass."""
    blue = pick(rng, (48, 112, 204), (66, 134, 220), (40, 92, 180), (84, 150, 222))
    roof = pick(rng, (150, 62, 52), (96, 84, 90), (176, 92, 60))
    sky = pick(rng, (222, 236, 244), (252, 232, 206), (206, 226, 238))
    grass = tint(rng, (128, 182, 88))
    base = rng.uniform(0.7, 0.76)
    bands(canvas, 0, base, sky, shade(sky, 1.3), 4)
    shift = rng.uniform(-0.05, 0.05)
    x0, x1, eaves = 0.06 + shift, 0.94 + shift, rng.uniform(0.27, 0.32)
    chimney = rng.choice((0.2, 0.74)) + shift
    canvas.rectangle(chimney, 0.03, chimney + 0.08, 0.25, shade(roof, 0.7))
    canvas.rectangle(x0, eaves, x1, base + 0.01, blue)
    for y in (0.4, 0.5, 0.6):
        canvas.rectangle(x0, y + eaves - 0.27, x1, y + eaves - 0.255, shade(blue, 0.87))
    canvas.polygon([(x0 - 0.06, eaves + 0.02), (x0 + 0.14, 0.07), (x1 - 0.14, 0.07),
                    (x1 + 0.06, eaves + 0.02)], roof)  # fmt: skip
    canvas.rectangle(x0 - 0.06, eaves + 0.005, x1 + 0.06, eaves + 0.035, WHITE)
    pane = rng.choice(((255, 236, 160), (206, 230, 244)))
    for x in (x0 + 0.05, x1 - 0.17):
        window(canvas, x, eaves + 0.1, x + 0.12, eaves + 0.25, pane, WHITE)
    door = x0 + 0.38 + rng.uniform(-0.1, 0.1)
    canvas.rectangle(door - 0.015, 0.46, door + 0.14, base, WHITE)
    canvas.rectangle(door, 0.475, door + 0.125, base, roof)
    ridge(canvas, rng, base, 0.008, grass)
    bands(canvas, base + 0.12, 1.02, grass, shade(grass, 0.9), 3)
    for x in (rng.uniform(0.0, 0.1), rng.uniform(0.9, 1.0)):
        canvas.ellipse(x, base, 0.09, 0.06, shade(grass, 0.7))
    return blades_front(rng, (shade(grass, 0.78), shade(grass, 1.15)), 0.05, 8)


def cobblestones(canvas: Canvas, rng: random.Random) -> None:
    """Draw rounded grey stones between the gabled houses of an old town."""
    stone = pick(rng, (156, 152, 150), (146, 150, 160), (168, 156, 142))
    start = rng.uniform(0.46, 0.52)
    sky = tint(rng, (206, 222, 234))
    bands(canvas, 0, start, sky, shade(sky, 1.4), 3)
    hues = rng.sample(((226, 170, 110), (214, 130, 104), (236, 214, 160), (184, 196, 150),
                       (206, 150, 150), (170, 180, 196)), 4)  # fmt: skip
    for i, x in enumerate((-0.04, 0.76, 0.2, 0.56)):
        width, top = (0.27, rng.uniform(0.1, 0.16)) if i < 2 else (0.2, rng.uniform(0.2, 0.26))
        wall = tint(rng, hues[i])
        canvas.rectangle(x, top, x + width, start + 0.02, wall)
        canvas.polygon([(x - 0.01, top), (x + width / 2, top - 0.13), (x + width + 0.01, top)],
                       (152, 74, 58))  # fmt: skip
        for wx in (x + width * 0.2, x + width * 0.6):
            canvas.rectangle(wx, top + 0.06, wx + width * 0.22, top + 0.15, (72, 82, 100))
        door = x + width * 0.36
        canvas.rectangle(door, start - 0.13, door + width * 0.3, start, shade(wall, 0.5), 0.03)
    canvas.rectangle(-0.02, start, 1.02, 1.02, shade(stone, 0.6))
    y, height, count = start + 0.012, (1.0 - start) * 0.115, 10
    while y < 1.0:
        width = 1.1 / count
        shift = rng.uniform(-0.08, 0.0)
        for i in range(count + 1):
            x = shift + i * width
            light = rng.choice((0.88, 1.0, 1.0, 1.14))
            canvas.rectangle(x, y, x + width - 0.016, y + height - 0.014, shade(stone, light),
                             height * 0.4)  # fmt: skip
        y += height
        height *= 1.25
        count = max(6, count - 1)
    lamp_post(canvas, rng.choice((0.09, 0.91)), start + 0.16, 0.5, (50, 52, 58))


def _person(canvas: Canvas, rng: random.Random, x: float, foot: float, height: float) -> None:
    coat = rng.choice(((204, 62, 58), (58, 96, 170), (232, 180, 62), (70, 140, 100), (130, 76, 150),
                       (236, 128, 80), (60, 62, 78)))  # fmt: skip
    skin = rng.choice(((240, 204, 172), (206, 158, 120), (136, 94, 68)))
    hair = rng.choice(((60, 42, 34), (30, 28, 30), (196, 150, 80), (150, 70, 40)))
    body = canvas.frame(x, foot, height)
    for side in (-0.075, 0.075):
        body.rectangle(side - 0.06, -0.42, side + 0.06, 0, (54, 58, 80))
    body.rectangle(-0.19, -0.8, 0.19, -0.36, coat, 0.1)
    body.ellipse(0, -0.9, 0.1, 0.11, skin)
    body.ellipse(0, -0.96, 0.105, 0.07, hair)


def crowded_street(canvas: Canvas, rng: random.Random) -> None:
    """Draw shops with striped awnings, people on both sides and grey slabs below."""
    slab = pick(rng, (198, 196, 192), (206, 200, 188), (184, 188, 196))
    wall = pick(rng, (178, 120, 96), (206, 186, 160), (150, 140, 150))
    curb = rng.uniform(0.6, 0.66)
    canvas.rectangle(-0.02, -0.02, 1.02, curb, wall)
    for i, hue in enumerate(rng.sample(((206, 60, 60), (50, 120, 90), (60, 90, 160),
                                        (226, 150, 50)), 3)):  # fmt: skip
        x = i * 0.34
        canvas.rectangle(x + 0.02, 0.26, x + 0.3, curb, (252, 226, 160))
        for k in range(6):
            canvas.rectangle(x + 0.055 * k - 0.005, 0.12, x + 0.055 * (k + 1) - 0.005, 0.26,
                             hue if k % 2 == 0 else WHITE)  # fmt: skip
        canvas.rectangle(x + 0.02, 0.02, x + 0.3, 0.09, shade(hue, 0.6))
    bands(canvas, curb, 1.02, shade(slab, 0.92), slab, 3)
    for share in (-0.9, -0.45, 0.0, 0.45, 0.9):
        x, near = 0.5 + share * 0.7, 0.5 + share * 1.4
        joint = [(x - 0.006, curb), (x + 0.006, curb), (near + 0.01, 1.02), (near - 0.01, 1.02)]
        canvas.polygon(joint, shade(slab, 0.72))
    for y in (curb + 0.08, curb + 0.2, 0.975):
        canvas.rectangle(-0.02, y, 1.02, y + 0.014, shade(slab, 0.72))
    for x in spread(rng, 0.26, 0.74, 3):
        _person(canvas, rng, x, curb + 0.03, rng.uniform(0.4, 0.46))
    for low, high in ((0.02, 0.14), (0.86, 0.98)):
        inner = 0.2 if low < 0.5 else 0.8
        _person(canvas, rng, inner + rng.uniform(-0.02, 0.02), curb + 0.07, rng.uniform(0.46, 0.52))
        _person(canvas, rng, rng.uniform(low, high - 0.04), curb + 0.16, rng.uniform(0.58, 0.66))
