"""Teapots and bowls."""

from __future__ import annotations

import math
import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, shade
from dreambooth_pl.miniature.look import Anchors, Look, Pose, SubjectClass
from dreambooth_pl.miniature.objects.parts import (
    anchors,
    between,
    moved,
    sample_colours,
    sample_shape,
)
from dreambooth_pl.miniature.objects.turned import draw_pattern, sample_pattern, turned

_POTS = {
    "round": ((0.0, 0.5), (0.14, 0.8), (0.5, 1.0), (0.84, 0.86), (1.0, 0.56)),
    "pear": ((0.0, 0.42), (0.3, 0.62), (0.7, 1.0), (0.92, 0.9), (1.0, 0.7)),
    "drum": ((0.0, 0.8), (0.06, 0.96), (0.5, 1.0), (0.94, 0.96), (1.0, 0.8)),
    "cone": ((0.0, 0.52), (0.5, 0.78), (0.94, 1.0), (1.0, 0.94)),
    "urn": ((0.0, 0.62), (0.12, 0.98), (0.4, 0.98), (0.8, 0.6), (1.0, 0.62)),
}


def _sample_teapot(rng: random.Random) -> Look:
    kind = sample_pattern(rng) | {
        "body": rng.choice(tuple(_POTS)),
        "spout": rng.choice(("swan", "straight", "stub")),
        "handle": rng.choice(("loop", "ear", "square", "bow")),
        "knob": rng.choice(("ball", "cone", "ring")),
        "trim": rng.choice(("main", "second", "accent")),
    }
    return Look(sample_colours(rng), sample_shape(rng, "height", "width", "lid"), kind)


def _trim(look: Look) -> Colour:
    return look.colours[("main", "second", "accent").index(look.kind["trim"])]


def _teapot(canvas: Canvas, look: Look, pose: Pose, tilt: float, bearing: float) -> Anchors:
    """Draw a teapot whose spout points `bearing` degrees to the right of the viewer."""
    main, second, accent = look.colours
    height = between(0.46, 0.66, look.shape["height"])
    radius = between(0.28, 0.37, look.shape["width"])
    body = turned(height, radius, _POTS[look.kind["body"]], tilt)
    side, near = math.sin(math.radians(bearing)), math.cos(math.radians(bearing))
    trim = _trim(look)
    top, middle = body.top, body.level(0.5)
    if look.kind["handle"] != "bow":
        hx = -side * radius
        reach = hx - side * 0.24
        rise, fall = body.level(0.12) - near * 0.08 * tilt, body.level(0.8) - near * tilt * 0.3
        ring = {
            "loop": [(hx * 0.8, rise), (reach, rise - 0.03), (reach, middle + 0.04), (hx, fall)],
            "ear": [(hx * 0.7, rise), (reach * 1.05, rise - 0.1), (reach, middle), (hx, fall)],
            "square": [(hx * 0.8, rise), (reach, rise), (reach, fall), (hx * 0.9, fall)],
        }[look.kind["handle"]]
        draw = canvas.line if look.kind["handle"] == "square" else canvas.curve
        draw(ring, shade(trim, 0.86), 0.085)
    else:
        bow = [(-radius * 0.7 * abs(side), top + 0.06),
               (-radius * 0.8 * abs(side) - 0.03, top - 0.2), (0, top - 0.32),
               (radius * 0.8 * abs(side) + 0.03, top - 0.2),
               (radius * 0.7 * abs(side), top + 0.06)]  # fmt: skip
        canvas.curve(bow, shade(trim, 0.86), 0.07)
    lip = top - {"swan": 0.03, "straight": 0.0, "stub": -0.08}[look.kind["spout"]]
    end = side * (radius + {"swan": 0.25, "straight": 0.22, "stub": 0.16}[look.kind["spout"]])
    drop = near * 0.12
    root = (side * radius * 0.62, body.level(0.66) + drop * 0.6)
    bend = (side * (radius + 0.08), body.level(0.5) + drop * 0.9)
    tip = (end, lip + drop)
    if look.kind["spout"] == "swan":
        path = [root, bend, (side * (radius + 0.13), body.level(0.16) + drop), tip]
    else:
        path = [root, ((root[0] + tip[0]) / 2, (root[1] + tip[1]) / 2), tip]

    def spout() -> None:
        canvas.limb(path, shade(main, 0.88), 0.105, 0.055)
        canvas.ellipse(tip[0], tip[1], 0.062, 0.045, trim if trim != main else shade(main, 1.3))
        canvas.ellipse(tip[0] + 0.006 * side, tip[1], 0.034, 0.022, shade(main, 0.3))

    if near < 0.35:
        spout()
    body.fill(canvas, main)
    draw_pattern(canvas, body, look.kind, second, accent, pose.turn)
    body.light(canvas)
    rim = body.radius(top)
    canvas.ellipse(0, top + 0.02, rim * 1.06, rim * tilt + 0.035, shade(main, 0.7))
    dome = between(0.06, 0.13, look.shape["lid"]) * math.sqrt(1 - tilt * tilt)
    canvas.ellipse(0, top, rim, rim * tilt + dome, trim)
    canvas.ellipse(-rim * 0.35, top - dome * 0.3, rim * 0.28, dome * 0.4, (255, 255, 255, 110))
    crown = top - dome - rim * tilt * 0.25
    if look.kind["knob"] == "cone":
        canvas.polygon([(-0.07, crown + 0.02), (0, crown - 0.13), (0.07, crown + 0.02)], accent)
    else:
        canvas.ellipse(0, crown - 0.035, 0.066, 0.064, accent)
        inner = main if look.kind["knob"] == "ring" else shade(accent, 1.5)
        canvas.ellipse(-0.012, crown - 0.045, 0.028, 0.028, inner)
    if near >= 0.35:
        spout()
    return anchors(crown - 0.1, radius)


def draw_teapot(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a teapot. Poses: side, front (spout towards the viewer), above, pouring."""
    tilt, bearing = {
        "side": (0.16, 80), "front": (0.2, 26), "above": (0.5, 72), "pouring": (0.12, 86),
    }[pose.name]  # fmt: skip
    bearing += pose.turn * 20
    draw = lambda c: _teapot(c, look, pose, tilt, bearing)  # noqa: E731
    if pose.name == "pouring":
        return moved(canvas, draw, -0.15, -0.16, 0.9, 30 + 9 * pose.bend)
    return moved(canvas, draw, angle=4 * pose.bend)


_BOWLS = {
    "round": ((0.0, 1.0), (0.3, 0.97), (0.65, 0.8), (0.9, 0.52), (1.0, 0.42)),
    "flared": ((0.0, 1.0), (0.4, 0.74), (0.8, 0.5), (1.0, 0.42)),
    "footed": ((0.0, 1.0), (0.3, 0.95), (0.62, 0.66), (0.78, 0.3), (0.86, 0.3), (1.0, 0.46)),
    "straight": ((0.0, 1.0), (0.7, 0.9), (0.94, 0.8), (1.0, 0.72)),
}
_FOODS: dict[str, Colour] = {
    "berries": (150, 30, 66), "oranges": (244, 146, 34), "soup": (226, 120, 52),
    "apples": (124, 178, 60),
}  # fmt: skip


def _sample_bowl(rng: random.Random) -> Look:
    kind = sample_pattern(rng) | {
        "body": rng.choice(tuple(_BOWLS)),
        "food": rng.choice(("none",) * 6 + tuple(_FOODS)),
    }
    return Look(sample_colours(rng), sample_shape(rng, "height", "width"), kind)


def _bowl(canvas: Canvas, look: Look, pose: Pose, tilt: float) -> Anchors:
    main, second, accent = look.colours
    height = between(0.36, 0.52, look.shape["height"])
    radius = between(0.42, 0.5, look.shape["width"])
    body = turned(height, radius, _BOWLS[look.kind["body"]], tilt)
    body.fill(canvas, main)
    draw_pattern(canvas, body, look.kind, second, accent, pose.turn, 0.14, 0.86)
    body.light(canvas)
    body.mouth(canvas, shade(main, 1.35), shade(accent, 0.72), 0.1)
    top, rim = body.top, radius * 0.9
    x = 0.1 * pose.turn
    canvas.ellipse(x, top + rim * tilt * 0.32, rim * 0.76, rim * tilt * 0.6, accent)
    food = look.kind["food"]
    if food == "soup":
        canvas.ellipse(0, top + 0.03, rim * 0.84, rim * tilt * 0.8, _FOODS[food])
        canvas.ellipse(x - 0.1, top + 0.02, 0.1, 0.1 * tilt, shade(_FOODS[food], 1.5))
    elif food != "none":
        size = 0.075 if food == "berries" else 0.13
        spread = (-1.5, -0.5, 0.5, 1.5, -1.0, 0.0, 1.0)
        for k, column in enumerate(spread):
            cx = column * rim * 0.42 + x * 0.5
            cy = top - size * 0.35 + (rim * tilt * 0.36 if k > 3 else -rim * tilt * 0.1)
            canvas.ellipse(cx, cy, size, size, shade(_FOODS[food], 1.0 if k % 2 else 0.82))
            canvas.ellipse(cx - size * 0.3, cy - size * 0.35, size * 0.28, size * 0.28,
                           (255, 255, 255, 150))  # fmt: skip
    return anchors(top - rim * tilt * 0.5, radius)


def draw_bowl(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a bowl. Poses: front, above, tipped (leaning over to the right)."""
    tilt = {"front": 0.26, "above": 0.58, "tipped": 0.42}[pose.name] + 0.05 * pose.bend
    draw = lambda c: _bowl(c, look, pose, tilt)  # noqa: E731
    if pose.name == "tipped":
        return moved(canvas, draw, -0.08, -0.16, 0.96, 26 + 10 * pose.bend)
    return moved(canvas, draw, angle=4 * pose.turn)


TEAPOT = SubjectClass(
    "teapot", False, ("side", "front", "above", "pouring"), _sample_teapot, draw_teapot
)
BOWL = SubjectClass("bowl", False, ("front", "above", "tipped"), _sample_bowl, draw_bowl)
