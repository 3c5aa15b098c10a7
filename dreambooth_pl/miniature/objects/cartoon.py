"""Cartoon characters: flat colours in thick ink outlines, with thin curved arms and legs."""

from __future__ import annotations

import math
import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, Point, shade, smooth
from dreambooth_pl.miniature.look import Anchors, Look, Pose, SubjectClass
from dreambooth_pl.miniature.objects.parts import (
    INK,
    PALETTE,
    WHITE,
    anchors,
    between,
    moved,
    sample_colours,
    sample_shape,
)

_STROKE = 0.042
_BRIGHT = tuple(colour for colour in PALETTE if sum(colour) > 290)
"""Colours that stand out from the ink."""
_BODIES: dict[str, list[Point]] = {
    "devil": [(-0.62, 0.9), (-0.95, 0.3), (-0.9, -0.4), (-0.5, -0.92), (0, -1.0), (0.5, -0.92),
              (0.9, -0.4), (0.95, 0.3), (0.62, 0.9), (0, 1.0)],
    "ghost": [(-1.0, 1.05), (-0.98, 0.0), (-0.7, -0.78), (0, -1.05), (0.7, -0.78), (0.98, 0.0),
              (1.0, 1.05), (0.66, 0.78), (0.34, 1.08), (0, 0.8), (-0.34, 1.08), (-0.66, 0.78)],
    "drop": [(-0.55, 0.9), (-0.95, 0.4), (-0.75, -0.15), (-0.3, -0.7), (0.06, -1.15), (0.34, -0.65),
             (0.75, -0.15), (0.95, 0.4), (0.55, 0.9), (0, 1.0)],
    "box": [(-0.85, 0.85), (-0.95, 0), (-0.86, -0.88), (0, -0.95), (0.86, -0.88), (0.95, 0),
            (0.85, 0.85), (0, 0.95)],
    "bean": [(-0.5, 0.95), (-0.78, 0.4), (-0.66, -0.2), (-0.8, -0.8), (-0.2, -1.15), (0.5, -1.05),
             (0.78, -0.5), (0.7, 0.4), (0.45, 0.95)],
    "star": [
        (math.sin(math.pi * i / 5) * (1.34, 0.86)[i % 2],
         -math.cos(math.pi * i / 5) * (1.3, 0.84)[i % 2])
        for i in range(10)
    ],
}  # fmt: skip


def _sample(rng: random.Random) -> Look:
    kind = {
        "body": rng.choice(("devil", "devil", *_BODIES)),
        "top": rng.choice(("horns", "antennae", "crown", "tuft", "none")),
        "eyes": rng.choice(("joined", "apart", "one", "angry")),
        "mouth": rng.choice(("grin", "open", "tongue", "smile")),
        "limbs": rng.choice(("ink", "main")),
    }
    if kind["body"] == "devil":
        kind["top"] = "horns"
    return Look(sample_colours(rng, _BRIGHT), sample_shape(rng, "width", "height", "eyes"), kind)


def _outlined(canvas: Canvas, points: list[Point], fill: Colour) -> None:
    canvas.line([*points, points[0], points[1]], INK, 2 * _STROKE)
    canvas.polygon(points, fill)


def _noodle(canvas: Canvas, look: Look, points: list[Point]) -> None:
    """Draw a limb of even width along the points."""
    if look.kind["limbs"] == "ink":
        canvas.curve(points, INK, 0.055)
    else:
        canvas.curve(points, INK, 0.055 + 1.6 * _STROKE)
        canvas.curve(points, look.colours[0], 0.06)


def _disc(canvas: Canvas, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
    canvas.ellipse(x, y, rx + _STROKE, ry + _STROKE, INK)
    canvas.ellipse(x, y, rx, ry, fill)


def _top(canvas: Canvas, look: Look, y: float, half: float, x: float) -> None:
    """Draw the horns or other top of the character's head. y is the top of its body."""
    accent, top = look.colours[2], look.kind["top"]
    if top == "horns":
        for side in (-1, 1):
            base = x + side * half * 0.55
            horn = [(base - 0.08, y + 0.12), (base + side * 0.02, y - 0.04),
                    (base + side * 0.12, y - 0.16), (base + side * 0.1, y),
                    (base + 0.08, y + 0.12)]  # fmt: skip
            _outlined(canvas, horn, accent)
    elif top == "antennae":
        for side in (-1, 1):
            canvas.curve([(x + side * 0.08, y + 0.06), (x + side * 0.12, y - 0.1),
                          (x + side * 0.2, y - 0.15)], INK, 0.042)  # fmt: skip
            _disc(canvas, x + side * 0.2, y - 0.16, 0.05, 0.05, accent)
    elif top == "crown":
        w = half * 0.6
        crown = [(x - w, y + 0.08), (x - w * 1.15, y - 0.14), (x - w * 0.5, y - 0.04),
                 (x, y - 0.18), (x + w * 0.5, y - 0.04), (x + w * 1.15, y - 0.14),
                 (x + w, y + 0.08)]  # fmt: skip
        _outlined(canvas, crown, (250, 204, 60))
    elif top == "tuft":
        for lean in (-0.14, 0.14, 0.0):
            canvas.limb([(x, y + 0.06), (x + lean, y - 0.12)], accent, 0.06, 0.04)


def _face(canvas: Canvas, look: Look, x: float, y: float, half: float, gaze: float) -> None:
    main, second, _ = look.colours
    eyes = look.kind["eyes"]
    size = between(0.1, 0.13, look.shape["eyes"])
    places = (0.0,) if eyes == "one" else (-size, size) if eyes == "joined" else (-0.15, 0.15)
    if eyes == "one":
        size *= 1.45
    for place in places:
        _disc(canvas, x + place, y, size * 0.9, size * 1.15, WHITE)
    for place in places:
        canvas.ellipse(x + place, y, size * 0.9, size * 1.15, WHITE)
        canvas.ellipse(x + place + gaze * size * 0.4, y + size * 0.25, size * 0.45, size * 0.55,
                       INK)  # fmt: skip
    if eyes == "angry":
        for side in (-1, 1):
            canvas.line([(x + side * 0.26, y - 0.2), (x + side * 0.03, y - 0.08)], INK, 0.055)
    my, mouth = y + size * 1.15 + 0.12, look.kind["mouth"]
    if mouth == "grin":
        _outlined(canvas, [(x - 0.17, my - 0.05), (x, my - 0.02), (x + 0.17, my - 0.05),
                           (x + 0.1, my + 0.08), (x, my + 0.1), (x - 0.1, my + 0.08)],
                  WHITE)  # fmt: skip
        canvas.line([(x, my - 0.02), (x, my + 0.09)], INK, 0.03)
    elif mouth == "open":
        canvas.ellipse(x, my + 0.02, 0.1, 0.11, INK)
        canvas.ellipse(x, my + 0.08, 0.06, 0.045, (236, 100, 110))
    else:
        canvas.curve([(x - 0.17, my - 0.05), (x, my + 0.06), (x + 0.17, my - 0.05)], INK, 0.045)
        if mouth == "tongue":
            canvas.ellipse(x + 0.06, my + 0.07, 0.055, 0.07, (236, 90, 110))


def _figure(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    main, second, accent = look.colours
    name, turn, bend = pose.name, pose.turn, pose.bend
    half = between(0.25, 0.32, look.shape["width"])
    high = between(0.3, 0.37, look.shape["height"])
    body = look.kind["body"]
    floats = body == "ghost"
    leap = 0.12 if name == "jumping" else 0.0
    y = -(0.06 if floats else 0.2) - leap - high
    if body == "devil":
        side = -1 if turn >= 0 else 1
        canvas.curve([(side * half * 0.6, y + high * 0.6), (side * (half + 0.16), y + high * 0.8),
                      (side * (half + 0.2), y + high * 0.1)], INK, 0.05)  # fmt: skip
        canvas.polygon([(side * (half + 0.1), y + high * 0.2),
                        (side * (half + 0.21), y - high * 0.2),
                        (side * (half + 0.3), y + high * 0.2)], INK)  # fmt: skip
    if not floats:
        stride = {"walking": 0.14, "jumping": 0.12}.get(name, 0.0)
        for side in (-1, 1):
            lift = (0.1 if name == "walking" and side * (turn or 1) < 0 else 0.0) + leap
            fx = side * (0.13 + stride)
            _noodle(canvas, look, [(side * 0.12, y + high * 0.8), (fx, y + high + 0.06),
                                   (fx, -0.08 - lift)])  # fmt: skip
            toe = 0.05 * (turn if name == "walking" else side)
            _disc(canvas, fx + toe, -0.075 - lift, 0.115, 0.065, accent)
    for side in (-1, 1):
        root = (side * half * 0.8, y + 0.02)
        up = name == "jumping" or (name == "waving" and side == (1 if turn >= 0 else -1))
        if up:
            hand = (side * (half + 0.2), y - 0.26 - 0.08 * bend)
            path = [root, (side * (half + 0.17), y - 0.02), hand]
        else:
            hand = (side * (half + 0.13) + 0.05 * turn, y + 0.26 - 0.1 * bend * side)
            path = [root, (side * (half + 0.14), y + 0.08), hand]
        _noodle(canvas, look, path)
        _disc(canvas, *hand, 0.07, 0.07, WHITE if look.kind["limbs"] == "ink" else main)
    outline = _BODIES[body]
    if body != "star":
        outline = smooth(outline, closed=True, steps=3)
    shape = [(px * half, y + py * high) for px, py in outline]
    head = 0.3 * half if body == "bean" else 0.0
    if look.kind["top"] in ("horns", "antennae", "tuft"):
        _top(canvas, look, y - high * 0.92, half, head)
    _outlined(canvas, shape, main)
    canvas.ellipse(-half * 0.5, y - high * 0.5, 0.04, 0.09, shade(main, 1.55), 24)
    fx = half * (0.42 if name == "walking" else 0.26) * turn + head * 0.3
    if body in ("devil", "box", "bean"):
        canvas.ellipse(fx * 0.6, y + high * 0.72, half * 0.46, high * 0.2, second)
    _face(canvas, look, fx, y - high * 0.24, half, turn)
    if look.kind["top"] == "crown":
        _top(canvas, look, y - high * 0.98, half, head)
    result = anchors(y - high, half, head=half * 0.8)
    result.points |= {"eyes": (fx, y - high * 0.24), "neck": (0.0, y + high * 0.3)}
    return result


def draw_cartoon(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a cartoon character. Poses: front, waving, walking, jumping."""
    return moved(canvas, lambda c: _figure(c, look, pose), scale=0.97, angle=5 * pose.bend)


CARTOON = SubjectClass(
    "cartoon", False, ("front", "waving", "walking", "jumping"), _sample, draw_cartoon
)
