"""Vases, cans and candles."""

from __future__ import annotations

import math
import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, shade
from dreambooth_pl.miniature.look import Anchors, Look, Pose, SubjectClass
from dreambooth_pl.miniature.objects.parts import (
    anchors,
    between,
    lying,
    moved,
    sample_colours,
    sample_shape,
)
from dreambooth_pl.miniature.objects.turned import Turned, draw_pattern, sample_pattern, turned

_VASES = {
    "bottle": ((0.0, 0.44), (0.05, 0.36), (0.36, 0.28), (0.56, 0.8), (0.76, 1.0), (1.0, 0.6)),
    "jar": ((0.0, 0.62), (0.08, 0.5), (0.2, 0.84), (0.42, 1.0), (0.8, 0.72), (1.0, 0.55)),
    "trumpet": ((0.0, 1.0), (0.2, 0.62), (0.55, 0.44), (0.85, 0.5), (1.0, 0.66)),
    "gourd": ((0.0, 0.4), (0.2, 0.62), (0.38, 0.5), (0.5, 0.56), (0.74, 1.0), (1.0, 0.6)),
    "cylinder": ((0.0, 0.7), (0.04, 0.66), (0.5, 0.66), (0.96, 0.66), (1.0, 0.6)),
    "ball": ((0.0, 0.42), (0.12, 0.34), (0.3, 0.82), (0.58, 1.0), (0.86, 0.8), (1.0, 0.5)),
}
_STEM: Colour = (58, 130, 66)


def _sample_vase(rng: random.Random) -> Look:
    kind = sample_pattern(rng) | {
        "body": rng.choice(tuple(_VASES)),
        "ears": rng.choice(("none", "none", "handles")),
        "flowers": rng.choice(("none", "none", "tulips", "daisies")),
    }
    return Look(sample_colours(rng), sample_shape(rng, "height", "width", "bloom"), kind)


def _flowers(canvas: Canvas, kind: str, base: float, colour: Colour, sway: float) -> None:
    for k, lean in enumerate((-0.19, 0.19, 0.0)):
        x, y = lean + sway * 0.06, base - (0.36 if k == 2 else 0.25)
        canvas.curve([(lean * 0.25, base), (lean * 0.6, base - 0.14), (x, y)], _STEM, 0.045)
        if kind == "tulips":
            head = [
                (x - 0.085, y - 0.1),
                (x - 0.04, y - 0.04),
                (x, y - 0.12),
                (x + 0.04, y - 0.04),
                (x + 0.085, y - 0.1),
                (x + 0.07, y + 0.03),
                (x, y + 0.07),
                (x - 0.07, y + 0.03),
            ]
            canvas.polygon(head, shade(colour, 0.84 if k < 2 else 1.0))  # fmt: skip
        else:
            canvas.ellipse(x, y, 0.105, 0.105, colour)
            canvas.ellipse(x, y, 0.045, 0.045, (248, 200, 60))


def _vase(canvas: Canvas, look: Look, pose: Pose, tilt: float, stems: bool = True) -> Anchors:
    main, second, accent = look.colours
    flowers = look.kind["flowers"] if stems else "none"
    height = between(0.62, 0.76, look.shape["height"]) + (0.0 if flowers != "none" else 0.14)
    radius = between(0.22, 0.34, look.shape["width"])
    body = turned(height, radius, _VASES[look.kind["body"]], tilt)
    rim = body.radius(body.top)
    if look.kind["ears"] == "handles":
        spread = math.cos(math.radians(pose.turn * 55))
        y0, y1 = body.level(0.1), body.level(0.46)
        for side in (-1, 1):
            inner, outer = side * spread * rim * 0.8, side * spread * (radius + 0.08)
            ring = [(inner, y0), (outer, y0 + 0.02), (outer, (y0 + y1) / 2), (inner, y1)]
            canvas.curve(ring, shade(accent, 0.9), 0.065)
    body.fill(canvas, main)
    draw_pattern(canvas, body, look.kind, second, accent, pose.turn, 0.3, 0.92)
    body.light(canvas)
    body.mouth(canvas, shade(main, 1.3), shade(main, 0.34), 0.14)
    if flowers != "none":
        bloom = accent if look.shape["bloom"] < 0.6 else (252, 246, 236)
        _flowers(canvas, flowers, body.top + rim * tilt * 0.3, bloom, pose.turn)
    return anchors(body.top, radius, head=max(rim, 0.15))


def draw_vase(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a vase. Poses: front, above, tipped (lying on its side, without flowers)."""
    tilt = {"front": 0.2, "above": 0.46, "tipped": 0.3}[pose.name]
    if pose.name == "tipped":
        half = between(0.22, 0.34, look.shape["width"])
        flat = lambda c: _vase(c, look, pose, tilt, stems=False)  # noqa: E731
        return lying(canvas, flat, 0.95, half, 70 + 9 * pose.bend + 5 * pose.turn)
    return moved(canvas, lambda c: _vase(c, look, pose, tilt), angle=5 * pose.bend + 4 * pose.turn)


_CANS = {
    "soda": ((0.0, 0.78), (0.03, 0.8), (0.1, 1.0), (0.5, 1.0), (0.93, 1.0), (1.0, 0.84)),
    "tin": ((0.0, 1.0), (0.03, 1.0), (0.5, 1.0), (0.97, 1.0), (1.0, 1.0)),
}
_METAL: Colour = (196, 202, 212)


def _sample_can(rng: random.Random) -> Look:
    kind = sample_pattern(rng) | {
        "body": rng.choice(("soda", "soda", "tin")),
        "lid": rng.choice(("ring", "plain")),
    }
    return Look(sample_colours(rng), sample_shape(rng, "height", "width"), kind)


def _can(canvas: Canvas, look: Look, pose: Pose, tilt: float) -> Anchors:
    main, second, accent = look.colours
    soda = look.kind["body"] == "soda"
    height = between(0.8, 0.98, look.shape["height"]) - (0.0 if soda else 0.2)
    radius = between(0.25, 0.31, look.shape["width"]) + (0.0 if soda else 0.06)
    body = turned(height, radius, _CANS[look.kind["body"]], tilt)
    body.fill(canvas, _METAL)
    canvas.polygon(body.surface(body.level(0.1), body.level(0.92)), main)
    draw_pattern(canvas, body, look.kind, second, accent, pose.turn, 0.2, 0.84)
    if look.kind["pattern"] in ("stripes", "dipped"):
        canvas.polygon(body.surface(body.level(0.93), body.foot), _METAL)
        canvas.polygon(body.surface(body.top, body.level(0.09)), _METAL)
    body.light(canvas)
    body.mouth(canvas, shade(_METAL, 1.5), shade(_METAL, 0.72), 0.13)
    rim = body.radius(body.top)
    if tilt > 0.15:
        x = rim * 0.35 * math.sin(pose.turn)
        canvas.ellipse(x, body.top + rim * tilt * 0.2, rim * 0.34, rim * tilt * 0.4,
                       shade(_METAL, 0.38))  # fmt: skip
        if look.kind["lid"] == "ring":
            canvas.ellipse(x, body.top - rim * tilt * 0.15, rim * 0.26, rim * tilt * 0.3,
                           shade(_METAL, 1.6))  # fmt: skip
    return anchors(body.top, radius)


def draw_can(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a can. Poses: front, above, tipped (lying)."""
    tilt = {"front": 0.22, "above": 0.5, "tipped": 0.36}[pose.name]
    draw = lambda c: _can(c, look, pose, tilt)  # noqa: E731
    if pose.name == "tipped":
        half = between(0.25, 0.31, look.shape["width"])
        return lying(canvas, draw, 0.95, half, 68 + 9 * pose.bend + 5 * pose.turn)
    return moved(canvas, draw, angle=5 * pose.bend + 4 * pose.turn)


def _sample_candle(rng: random.Random) -> Look:
    kind = sample_pattern(rng) | {
        "form": rng.choice(("pillar", "jar", "stick", "jar")),
        "drips": rng.choice(("yes", "no")),
    }
    return Look(sample_colours(rng), sample_shape(rng, "height", "width", "flame"), kind)


def _flame(canvas: Canvas, y: float, size: float, sway: float) -> None:
    """Draw a flame of half-width `size` on a wick whose foot is at y."""
    canvas.line([(0, y), (0, y - size * 0.9)], (60, 42, 40), 0.035)
    tip = sway * size * 0.7
    for share, colour in ((1.0, (246, 128, 30)), (0.64, (254, 214, 70)), (0.34, (255, 250, 214))):
        r, base = size * share, y - size * 0.35
        canvas.blob([(tip * share, base - 3.1 * r), (r * 0.72, base - 1.5 * r), (r, base - 0.6 * r),
                     (0, base + 0.1), (-r, base - 0.6 * r), (-r * 0.72, base - 1.5 * r)]
                    if share == 1.0 else
                    [(tip * share, base - 3.0 * r), (r, base - 0.7 * r), (0, base),
                     (-r, base - 0.7 * r)], colour)  # fmt: skip


def _wax(canvas: Canvas, body: Turned, look: Look, pose: Pose) -> None:
    main, second, accent = look.colours
    body.fill(canvas, main)
    draw_pattern(canvas, body, look.kind, second, accent, pose.turn, 0.34, 0.94)
    if look.kind["drips"] == "yes":
        for bearing, share in ((-52, 0.34), (-6, 0.2), (40, 0.42)):
            x, y = body.point(body.level(share), bearing + pose.turn * 20)
            canvas.line([(x, body.top + 0.03), (x, y)], shade(main, 1.4), 0.075)
    body.light(canvas)
    body.mouth(canvas, shade(main, 1.35), shade(main, 1.12), 0.16)


def _candle(canvas: Canvas, look: Look, pose: Pose, tilt: float) -> Anchors:
    main, second, accent = look.colours
    form = look.kind["form"]
    height = between(0.42, 0.62, look.shape["height"])
    size = between(0.075, 0.105, look.shape["flame"])
    straight = ((0.0, 1.0), (0.5, 1.0), (1.0, 1.0))
    if form == "stick":
        plate = turned(0.09, 0.32, ((0.0, 1.0), (1.0, 0.72)), tilt)
        side = 1 if pose.turn >= 0 else -1
        x = side * (0.3 + 0.06 * abs(pose.turn))
        canvas.ellipse(x, -0.16, 0.13, 0.13, shade(accent, 0.85))
        canvas.ellipse(x, -0.16, 0.065, 0.065, shade(accent, 0.4))
        plate.fill(canvas, accent)
        plate.mouth(canvas, shade(accent, 1.35), shade(accent, 0.84), 0.14)
        radius = between(0.085, 0.13, look.shape["width"])
        body = turned(height + 0.06, radius, straight, tilt, lift=0.1)
        _wax(canvas, body, look, pose)
        cup = turned(0.12, radius + 0.04, straight, tilt, lift=0.09)
        cup.fill(canvas, shade(accent, 0.9))
    elif form == "jar":
        radius = between(0.24, 0.33, look.shape["width"])
        body = turned(height, radius, ((0.0, 1.0), (0.9, 1.0), (1.0, 0.9)), tilt)
        body.fill(canvas, main)
        draw_pattern(canvas, body, look.kind, second, accent, pose.turn, 0.22, 0.92)
        body.light(canvas)
        body.mouth(canvas, shade(main, 1.55), (252, 240, 208), 0.14)
    else:
        radius = between(0.17, 0.25, look.shape["width"])
        body = turned(height + 0.06, radius, straight, tilt)
        _wax(canvas, body, look, pose)
    _flame(canvas, body.top + body.radius(body.top) * tilt * 0.2, size, pose.turn)
    canvas.ellipse(0, body.top - size * 2, size * 2.5, size * 2.6, (255, 226, 120, 46))
    return anchors(body.top, radius, head=max(radius, 0.14))


def draw_candle(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a candle. Poses: front, above, tipped (leaning)."""
    tilt = {"front": 0.2, "above": 0.44, "tipped": 0.2}[pose.name]
    draw = lambda c: _candle(c, look, pose, tilt)  # noqa: E731
    if pose.name == "tipped":
        return moved(canvas, draw, -0.12, -0.04, 0.96, 20 + 6 * pose.bend + 3 * pose.turn)
    return moved(canvas, draw, angle=5 * pose.bend + 4 * pose.turn)


_VIEWS = ("front", "above", "tipped")
VASE = SubjectClass("vase", False, _VIEWS, _sample_vase, draw_vase)
CAN = SubjectClass("can", False, _VIEWS, _sample_can, draw_can)
CANDLE = SubjectClass("candle", False, _VIEWS, _sample_candle, draw_candle)
