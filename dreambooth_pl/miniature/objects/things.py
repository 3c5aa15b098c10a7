"""Clocks and glasses."""

from __future__ import annotations

import math
import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, Point, mix, shade, smooth
from dreambooth_pl.miniature.look import Anchors, Look, Pose, SubjectClass
from dreambooth_pl.miniature.objects.parts import (
    GLOSS,
    INK,
    WHITE,
    anchors,
    between,
    moved,
    sample_colours,
    sample_shape,
)

_BRASS: Colour = (236, 196, 84)


def _sample_clock(rng: random.Random) -> Look:
    kind = {
        "form": rng.choice(("alarm", "alarm", "wall", "mantel", "house", "square")),
        "dial": rng.choice(("white", "white", "second", "cream")),
        "marks": rng.choice(("four", "twelve", "dots")),
    }
    return Look(sample_colours(rng), sample_shape(rng, "size", "hour", "minute"), kind)


def _dial(canvas: Canvas, look: Look, x: float, y: float, size: float) -> None:
    """Draw a dial of radius `size` with marks and hands. The look sets the time."""
    _, second, accent = look.colours
    ground = {"white": WHITE, "cream": (250, 234, 190), "second": second}[look.kind["dial"]]
    ink = INK if sum(ground) > 330 else WHITE
    canvas.ellipse(x, y, size, size, ground)
    marks = look.kind["marks"]
    for k in range(12 if marks == "twelve" else 4):
        angle = 2 * math.pi * k / (12 if marks == "twelve" else 4)
        sx, sy = math.sin(angle), -math.cos(angle)
        if marks == "dots":
            canvas.ellipse(x + sx * size * 0.78, y + sy * size * 0.78, size * 0.11, size * 0.11,
                           accent)  # fmt: skip
        else:
            inner = 0.7 if k % 3 == 0 or marks == "four" else 0.78
            canvas.line([(x + sx * size * inner, y + sy * size * inner),
                         (x + sx * size * 0.88, y + sy * size * 0.88)], ink, 0.036)  # fmt: skip
    for share, length, width in (
        (look.shape["hour"], 0.42, 0.06),
        (look.shape["minute"], 0.64, 0.045),
    ):
        angle = 2 * math.pi * share
        canvas.line([(x, y),
                     (x + math.sin(angle) * size * length, y - math.cos(angle) * size * length)],
                    ink, width)  # fmt: skip
    canvas.ellipse(x, y, 0.05, 0.05, accent)


def _case(look: Look, size: float) -> tuple[list[Point], float]:
    """Return the outline of the case around (0, 0) and the height of its centre above ground."""
    form = look.kind["form"]
    if form == "square":
        s = size * 1.06
        return [(-s, s), (-s, -s * 0.9), (-s * 0.9, -s), (s * 0.9, -s), (s, -s * 0.9), (s, s)], s
    if form == "mantel":
        arch = [(-size * 1.1 * math.cos(math.pi * k / 10), -size * 1.1 * math.sin(math.pi * k / 10))
                for k in range(11)]  # fmt: skip
        return [(-size * 1.45, size * 1.25), (-size * 1.3, size * 0.5), *arch,
                (size * 1.3, size * 0.5), (size * 1.45, size * 1.25)], size * 1.3  # fmt: skip
    if form == "house":
        return [(-size * 1.1, size * 1.2), (-size * 1.1, -size * 0.7), (0, -size * 1.6),
                (size * 1.1, -size * 0.7), (size * 1.1, size * 1.2)], size * 1.2 + 0.2  # fmt: skip
    circle = [
        (size * math.cos(math.pi * k / 14), size * math.sin(math.pi * k / 14)) for k in range(28)
    ]
    return circle, size + (0.1 if form == "alarm" else 0.0)


def _clock(canvas: Canvas, look: Look, turn: float, squeeze: float) -> Anchors:
    """Draw a clock narrowed by `squeeze`. Its thickness shows on the side it turns away from."""
    main, second, accent = look.colours
    form = look.kind["form"]
    size = between(0.31, 0.37, look.shape["size"]) + {"wall": 0.07, "alarm": 0.07, "mantel": -0.08,
                                                      "house": -0.02}.get(form, 0.0)  # fmt: skip
    outline, middle = _case(look, size)
    depth = -(1 if turn >= 0 else -1) * (0.05 + 0.15 * math.sqrt(1 - squeeze * squeeze))
    front = canvas.frame(0, -middle, stretch=squeeze)
    if form == "alarm":
        for side in (-1, 1):
            front.line([(side * size * 0.5, size * 0.6), (side * size * 0.72, size + 0.06)],
                       shade(main, 0.6), 0.09)  # fmt: skip
            front.ellipse(side * size * 0.62, -size * 0.98, 0.17, 0.12, accent, side * 34)
            front.ellipse(side * size * 0.62 - 0.05, -size * 1.02, 0.05, 0.03, GLOSS, side * 34)
        front.line([(0, -size), (0, -size * 1.2)], shade(main, 0.6), 0.05)
        front.ellipse(0, -size * 1.22, 0.07, 0.05, second)
    elif form == "house":
        swing = 0.12 * turn
        front.line([(0, size), (swing, size + 0.2)], shade(second, 0.6), 0.045)
        front.ellipse(swing, size * 1.2 + 0.11, 0.085, 0.085, _BRASS)
    # Copies of the outline from back to front form the thickness.
    for share in (1.0, 0.83, 0.67, 0.5, 0.33, 0.17):
        canvas.frame(depth * share, -middle, stretch=squeeze).polygon(outline, shade(main, 0.6))
    front.polygon(outline, main)
    if form == "house":
        w = size * 1.35
        front.polygon([(-w, -size * 0.55), (0, -size * 1.7), (w, -size * 0.55),
                       (w * 0.96, -size * 0.32), (0, -size * 1.32), (-w * 0.96, -size * 0.32)],
                      second)  # fmt: skip
        front.polygon([(-size * 1.1, size * 1.2), (-size * 1.1, size * 1.0),
                       (size * 1.1, size * 1.0), (size * 1.1, size * 1.2)], accent)  # fmt: skip
    elif form == "mantel":
        front.rectangle(-size * 1.55, size * 1.1, size * 1.55, size * 1.3, second)
    elif form == "square":
        for sx in (-1, 1):
            for sy in (-1, 1):
                front.ellipse(sx * size * 0.86, sy * size * 0.86, 0.055, 0.055, second)
    radius = size * (0.8 if form in ("wall", "alarm", "house") else 0.86)
    if form == "wall":
        front.ellipse(0, 0, size * 0.88, size * 0.88, second)
    front.ellipse(0, 0, radius + 0.03, radius + 0.03, shade(main, 0.7))
    _dial(front, look, 0, 0, radius)
    front.polygon([(-radius * 0.8, -radius * 0.1), (-radius * 0.1, -radius * 0.8),
                   (radius * 0.06, -radius * 0.7), (-radius * 0.7, radius * 0.06)],
                  (255, 255, 255, 90))  # fmt: skip
    top = -middle - size * {"house": 1.6, "mantel": 1.1}.get(form, 1.0)
    return anchors(top, size * squeeze)


def draw_clock(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a clock. Poses: front, side (seen at a slant), tipped (rolled to one side)."""
    squeeze = {"front": 0.98, "side": 0.72, "tipped": 0.94}[pose.name] - 0.12 * abs(pose.turn)
    draw = lambda c: _clock(c, look, pose.turn, squeeze)  # noqa: E731
    if pose.name == "tipped":
        return moved(
            canvas,
            draw,
            -0.2,
            -0.19 if look.kind["form"] == "mantel" else -0.15,
            0.92,
            34 + 10 * pose.bend,
        )
    return moved(canvas, draw, angle=5 * pose.bend)


_LENSES: dict[str, list[Point]] = {
    "round": [(math.cos(math.pi * k / 12), math.sin(math.pi * k / 12)) for k in range(24)],
    "square": [(-1.02, -0.7), (-0.9, -0.82), (0.9, -0.82), (1.02, -0.7), (0.92, 0.66), (0.76, 0.8),
               (-0.76, 0.8), (-0.92, 0.66)],
    "cat": [(-0.95, -0.5), (0.2, -0.62), (1.25, -1.0), (1.1, -0.1), (0.6, 0.72),
            (-0.3, 0.78), (-0.9, 0.2)],
    "heart": [(0.0, 1.0), (-0.62, 0.45), (-1.02, -0.1), (-0.92, -0.66), (-0.48, -0.88), (0.0, -0.5),
              (0.48, -0.88), (0.92, -0.66), (1.02, -0.1), (0.62, 0.45)],
    "aviator": [(-0.95, -0.72), (0.9, -0.82), (1.08, -0.3), (0.7, 0.72), (0.1, 0.95), (-0.6, 0.5)],
    "star": [
        (math.sin(math.pi * i / 5) * (1.2, 0.62)[i % 2],
         -math.cos(math.pi * i / 5) * (1.2, 0.62)[i % 2])
        for i in range(10)
    ],
}  # fmt: skip
_LENSES |= {name: smooth(_LENSES[name], closed=True, steps=3) for name in ("cat", "aviator")}


def _sample_glasses(rng: random.Random) -> Look:
    kind = {
        "form": rng.choice(tuple(_LENSES)),
        "tint": rng.choice(("dark", "dark", "accent", "pale")),
        "rim": rng.choice(("bold", "bolder")),
    }
    return Look(sample_colours(rng), sample_shape(rng, "width", "height"), kind)


def _glasses(
    canvas: Canvas, look: Look, turn: float, squeeze: float, folded: bool, flat: float
) -> Anchors:
    """Draw glasses narrowed by `squeeze` and flattened to `flat` of their height."""
    main, second, accent = look.colours
    tint = {"dark": (48, 44, 62), "accent": accent, "pale": (198, 228, 238)}[look.kind["tint"]]
    rx = between(0.2, 0.22, look.shape["width"])
    ry = between(0.18, 0.24, look.shape["height"])
    rim = 0.07 if look.kind["rim"] == "bold" else 0.1
    y, gap = -ry - rim, rx + rim + 0.025
    face = canvas.frame(0, y * flat, flat, stretch=squeeze / flat)
    arm = shade(main, 0.72)
    edge = gap + rx
    if folded:
        for side in (-1, 1):
            face.line([(side * edge, -ry * 0.5),
                       (-side * edge * 0.7, -ry * 0.5 - 0.34 - 0.05 * side)], arm,
                      0.09)  # fmt: skip
    else:
        for side in (-1, 1):
            # The near arm is visible along its length once the glasses are turned.
            shown = max(0.1, side * turn * 1.0 + 0.12)
            reach = side * (edge + 0.05) + side * 0.26 * min(shown, 0.6)
            face.line([(side * edge, -ry * 0.45), (reach, -ry * 0.45 - 0.3 * shown)], arm, 0.085)
            face.line([(reach, -ry * 0.45 - 0.3 * shown),
                       (reach + side * 0.04, -ry * 0.2 - 0.3 * shown)], second, 0.085)  # fmt: skip
    face.curve([(-gap * 0.6, -ry * 0.3), (0, -ry * 0.62), (gap * 0.6, -ry * 0.3)], main, 0.085)
    for side in (-1, 1):
        lens = face.frame(side * gap, 0, 1.0, flip=side < 0)
        outline = _LENSES[look.kind["form"]]
        lens.polygon([(px * (rx + rim), py * (ry + rim)) for px, py in outline], main)
        shrink = 0.86 if look.kind["form"] in ("heart", "star") else 1.0
        lens.polygon([(px * rx * shrink, py * ry * shrink) for px, py in outline], tint)
        glint = face.frame(side * gap + 0.06 * turn, 0)
        glint.polygon([(-rx * 0.5, ry * 0.1), (rx * 0.05, -ry * 0.5), (rx * 0.3, -ry * 0.5),
                       (-rx * 0.3, ry * 0.3)], mix(tint, (255, 255, 255), 0.6))  # fmt: skip
        lens.ellipse(rx + rim * 0.2, -ry * 0.45, 0.045, 0.045, second)
    return anchors(2 * y * flat, edge * squeeze)


def draw_glasses(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw glasses. Poses: front, side (at a slant), folded (lying flat), tipped (askew)."""
    turn = pose.turn
    if pose.name == "side":
        turn = (-1 if turn < 0 else 1) * (0.9 + 0.5 * abs(turn))
        return moved(canvas, lambda c: _glasses(c, look, turn, 0.66 - 0.08 * abs(pose.turn), False,
                                                1.0), -0.1 * turn, 0.0, 1.08,
                     4 * pose.bend)  # fmt: skip
    if pose.name == "folded":
        return moved(canvas, lambda c: _glasses(c, look, turn, 0.88, True, 0.8),
                     angle=7 * turn + 4 * pose.bend, y=-0.05)  # fmt: skip
    draw = lambda c: _glasses(c, look, turn, 0.93 - 0.14 * abs(turn), False, 1.0)  # noqa: E731
    if pose.name == "tipped":
        return moved(canvas, draw, -0.08, -0.2, 0.88, 24 + 8 * pose.bend)
    return moved(canvas, draw, scale=0.96, angle=4 * pose.bend)


CLOCK = SubjectClass("clock", False, ("front", "side", "tipped"), _sample_clock, draw_clock)
GLASSES = SubjectClass(
    "glasses", False, ("front", "side", "folded", "tipped"), _sample_glasses, draw_glasses
)
