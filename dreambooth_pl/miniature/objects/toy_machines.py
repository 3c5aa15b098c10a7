"""Toy machines: cars, robots, rockets and trains. Their profiles face right."""

from __future__ import annotations

from dreambooth_pl.miniature.canvas import Canvas, Colour, shade
from dreambooth_pl.miniature.look import Anchors, Look
from dreambooth_pl.miniature.objects.parts import (
    GLOSS,
    INK,
    SHADOW,
    WHITE,
    anchors,
    between,
    emblem,
    eye,
)

_GLASS: Colour = (190, 228, 240)
_TYRE: Colour = (50, 46, 56)


def _mark(
    canvas: Canvas, look: Look, x: float, y: float, size: float, squeeze: float = 1.0
) -> None:
    if look.kind["mark"] != "none":
        emblem(canvas, look.kind["mark"], x, y, size, look.colours[2], WHITE, squeeze)


def _wheel(
    canvas: Canvas, x: float, y: float, size: float, hub: Colour, squeeze: float = 1.0
) -> None:
    canvas.ellipse(x, y, size * squeeze, size, _TYRE)
    canvas.ellipse(x, y, size * 0.5 * squeeze, size * 0.5, hub)


def toy_mouth(canvas: Canvas, look: Look, x: float, y: float, size: float) -> None:
    """Draw the look's mouth with half-width `size` around (x, y)."""
    kind = look.kind["mouth"]
    if kind == "smile":
        canvas.blob([(x - size, y - size * 0.3), (x, y), (x + size, y - size * 0.3),
                     (x, y + size * 0.7)], INK)  # fmt: skip
    elif kind == "teeth":
        canvas.rectangle(x - size, y - size * 0.3, x + size, y + size * 0.45, INK, size * 0.3)
        for k in (-0.6, 0.2):
            canvas.rectangle(x + k * size, y - size * 0.3, x + (k + 0.4) * size, y + size * 0.1,
                             WHITE)  # fmt: skip
    else:
        canvas.rectangle(x - size, y - 0.02, x + size, y + 0.03, INK, 0.02)


def car_side(canvas: Canvas, look: Look, turn: float) -> Anchors:
    """Draw a car in profile."""
    main, second, accent = look.colours
    roof = -between(0.52, 0.64, look.shape["height"])
    cabin = [(-0.36, -0.34), (-0.26, roof), (0.14, roof), (0.3, -0.34)]
    canvas.polygon(cabin, second)
    canvas.polygon([(-0.28, -0.35), (-0.21, roof + 0.06), (-0.07, roof + 0.06), (-0.07, -0.35)],
                   _GLASS)  # fmt: skip
    canvas.polygon([(-0.01, -0.35), (-0.01, roof + 0.06), (0.11, roof + 0.06), (0.22, -0.35)],
                   _GLASS)  # fmt: skip
    canvas.rectangle(-0.56, -0.4, 0.56, -0.1, main, 0.09)
    canvas.rectangle(-0.56, -0.19, 0.56, -0.1, shade(main, 0.68), 0.03)
    canvas.rectangle(-0.48, -0.38, -0.1, -0.345, GLOSS)
    canvas.ellipse(0.5, -0.3, 0.055, 0.06, (255, 240, 160))
    _mark(canvas, look, -0.02 + 0.05 * turn, -0.26, 0.1)
    if look.kind["top"] == "three":
        canvas.polygon([(-0.56, -0.4), (-0.6, -0.56), (-0.42, -0.54), (-0.44, -0.4)], accent)
    elif look.kind["top"] == "two":
        canvas.rectangle(-0.14, roof - 0.08, 0.02, roof, accent, 0.03)
    for x in (-0.32, 0.32):
        _wheel(canvas, x, -0.15, 0.155, accent)
    return anchors(roof, 0.5, head=0.24)


def car_front(canvas: Canvas, look: Look, turn: float) -> Anchors:
    """Draw a car from the front."""
    main, second, accent = look.colours
    roof = -between(0.56, 0.68, look.shape["height"])
    x = 0.06 * turn
    for side in (-1, 1):
        canvas.rectangle(side * 0.29 - 0.08, -0.24, side * 0.29 + 0.08, 0.0, _TYRE, 0.04)
    if look.kind["top"] == "three":
        canvas.rectangle(-0.42, -0.56, 0.42, -0.48, accent, 0.03)
    elif look.kind["top"] == "two":
        canvas.rectangle(x - 0.08, roof - 0.08, x + 0.08, roof + 0.02, accent, 0.03)
    canvas.polygon([(-0.35, -0.36), (x - 0.25, roof), (x + 0.25, roof), (0.35, -0.36)], second)
    canvas.polygon([(-0.27, -0.38), (x - 0.2, roof + 0.07), (x + 0.2, roof + 0.07), (0.27, -0.38)],
                   _GLASS)  # fmt: skip
    canvas.rectangle(-0.41, -0.4, 0.41, -0.09, main, 0.09)
    canvas.rectangle(-0.41, -0.17, 0.41, -0.09, shade(main, 0.62), 0.03)
    for side in (-1, 1):
        canvas.ellipse(side * 0.28 + x * 0.6, -0.28, 0.085, 0.085, WHITE)
        canvas.ellipse(side * 0.28 + x * 0.6, -0.28, 0.05, 0.05, (255, 220, 90))
    _mark(canvas, look, x, -0.28, 0.09)
    canvas.rectangle(-0.3, -0.385, 0.05, -0.35, GLOSS)
    return anchors(roof, 0.4, x=x, head=0.25)


def robot(canvas: Canvas, look: Look, turn: float, side_on: bool) -> Anchors:
    """Draw a robot, narrower if `side_on`."""
    main, second, accent = look.colours
    half = between(0.24, 0.31, look.shape["width"]) * (0.78 if side_on else 1.0)
    top = -between(0.86, 0.96, look.shape["height"])
    x = (0.1 if side_on else 0.05) * turn
    joint = shade(second, 0.7)
    for side in (-1, 1):
        canvas.rectangle(side * half * 0.5 - 0.075, -0.24, side * half * 0.5 + 0.075, -0.02, joint)
        canvas.rectangle(side * half * 0.55 - 0.13, -0.09, side * half * 0.55 + 0.13, 0.0, second,
                         0.04)  # fmt: skip
        if side_on and side != (1 if turn < 0 else -1):
            continue
        shoulder, hand = side * half, side * (half + (0.1 if side_on else 0.2))
        lift = -0.12 * turn * side
        canvas.line([(shoulder, -0.5), (hand, -0.4 + lift), (hand, -0.32 + lift)], joint, 0.1)
        canvas.ellipse(hand, -0.28 + lift, 0.085, 0.085, accent)
    antennas = {"one": (0.0,), "two": (-0.6, 0.6), "three": (0.0,)}[look.kind["top"]]
    for share in antennas:
        canvas.line([(x + share * half, top + 0.04), (x + share * half * 1.3, top - 0.1)], joint,
                    0.04)  # fmt: skip
        canvas.ellipse(x + share * half * 1.3, top - 0.12, 0.055, 0.055, accent)
    canvas.rectangle(x * 0.5 - 0.09, -0.62, x * 0.5 + 0.09, -0.5, joint)
    canvas.rectangle(-half, -0.57, half, -0.17, main, 0.06)
    head = half * 0.9
    canvas.rectangle(x - head, top, x + head, -0.58, main, 0.07)
    canvas.rectangle(half - 0.08, -0.54, half, -0.2, SHADOW)
    canvas.rectangle(x + head - 0.06, top + 0.04, x + head, -0.62, SHADOW)
    canvas.rectangle(x - head * 0.8, top + 0.06, x + head * 0.8 + 0.02 * turn, -0.74, shade(second,
                                                                                            0.4),
                     0.06)  # fmt: skip
    for side in (-1, 1):
        canvas.ellipse(x * 1.4 + side * head * 0.38, (top - 0.66) / 2, 0.062, 0.062,
                       (255, 238, 130))  # fmt: skip
    canvas.rectangle(x * 1.4 - head * 0.5, -0.68, x * 1.4 + head * 0.5, -0.63, second)
    canvas.rectangle(x - half * 0.66, -0.5, x + half * 0.66, -0.26, second, 0.04)
    if look.kind["mark"] == "none":
        for k in (-1, 0, 1):
            canvas.ellipse(x + k * half * 0.4, -0.38, 0.045, 0.045, accent)
    else:
        _mark(canvas, look, x, -0.38, 0.1)
    return anchors(top, half, x=x)


def rocket(canvas: Canvas, look: Look, turn: float, side_on: bool) -> Anchors:
    """Draw a rocket that stands on its fins."""
    main, second, accent = look.colours
    half = between(0.19, 0.26, look.shape["width"])
    top = -between(0.98, 1.1, look.shape["height"])
    x = 0.5 * turn * half
    fins = (1, -0.75) if side_on else (1, -1)
    for side in fins:
        canvas.polygon([(side * half * 0.7, -0.5), (side * (half + 0.2), -0.2),
                        (side * (half + 0.2), 0.0), (side * half * 0.6, -0.12)],
                       second)  # fmt: skip
    canvas.polygon(
        [(-0.12, -0.12), (0.12, -0.12), (0.17, -0.02), (-0.17, -0.02)], shade(second, 0.5)
    )
    hull = [(-half * 0.66, -0.1), (-half, -0.4), (-half * 0.86, top * 0.62), (0, top),
            (half * 0.86, top * 0.62), (half, -0.4), (half * 0.66, -0.1)]  # fmt: skip
    canvas.polygon(hull, main)
    canvas.polygon([(-half * 0.86, top * 0.62), (-half * 0.4, top * 0.86), (0, top),
                    (half * 0.4, top * 0.86), (half * 0.86, top * 0.62), (0, top * 0.58)],
                   second)  # fmt: skip
    canvas.polygon([(-half * 0.95, -0.28), (0, -0.24), (half * 0.95, -0.28), (half, -0.38),
                    (0, -0.34), (-half, -0.38)], accent)  # fmt: skip
    canvas.polygon([(half * 0.2, top * 0.9), (half * 0.86, top * 0.62), (half, -0.4),
                    (half * 0.66, -0.1), (half * 0.3, -0.1), (half * 0.55, -0.4)],
                   SHADOW)  # fmt: skip
    canvas.ellipse(x * 0.6, top * 0.5, 0.125, 0.125, WHITE)
    canvas.ellipse(x * 0.6, top * 0.5, 0.085, 0.085, (70, 130, 190))
    canvas.ellipse(x * 0.6 - 0.03, top * 0.53, 0.03, 0.03, WHITE)
    canvas.polygon([(x - 0.04, -0.4), (x + 0.04, -0.4), (x + 0.04, 0.0), (x - 0.04, 0.0)],
                   shade(second, 0.8))  # fmt: skip
    return anchors(top, half, head=half * 0.7)


def train_front(canvas: Canvas, look: Look, turn: float) -> Anchors:
    """Draw a steam engine with a face from the front."""
    main, second, accent = look.colours
    roof = -between(0.66, 0.78, look.shape["height"])
    stack = {"one": 0.06, "two": 0.09, "three": 0.12}[look.kind["top"]]
    x = 0.05 * turn
    canvas.rectangle(-0.3, roof + 0.06, 0.3, -0.16, shade(main, 0.7))
    canvas.rectangle(-0.37, roof, 0.37, roof + 0.1, second, 0.03)
    canvas.polygon([(x - 0.05, -0.6), (x - stack, roof - 0.14), (x + stack, roof - 0.14),
                    (x + 0.05, -0.6)], second)  # fmt: skip
    canvas.ellipse(x, -0.42, 0.28, 0.27, main)
    canvas.ellipse(x, -0.42, 0.2, 0.195, shade(main, 1.5))
    for side in (-1, 1):
        eye(canvas, x * 1.6 + side * 0.085, -0.46, 0.06, turn)
    toy_mouth(canvas, look, x * 1.6, -0.34, 0.09)
    canvas.polygon([(-0.34, -0.18), (0.34, -0.18), (0.42, -0.02), (-0.42, -0.02)], accent)
    for side in (-1, 1):
        _wheel(canvas, side * 0.33, -0.12, 0.12, second, 0.5)
    return anchors(roof, 0.34, x=x)


def train_side(canvas: Canvas, look: Look, turn: float) -> Anchors:
    """Draw a steam engine in profile."""
    main, second, accent = look.colours
    roof = -between(0.66, 0.78, look.shape["height"])
    stack = {"one": 0.06, "two": 0.09, "three": 0.12}[look.kind["top"]]
    canvas.polygon([(0.22, -0.44), (0.25 - stack, roof - 0.06), (0.31 + stack, roof - 0.06),
                    (0.34, -0.44)], second)  # fmt: skip
    canvas.rectangle(-0.5, roof + 0.04, -0.1, -0.16, main)
    canvas.rectangle(-0.56, roof, -0.04, roof + 0.09, second, 0.03)
    canvas.rectangle(-0.42, roof + 0.15, -0.19, -0.4, _GLASS, 0.03)
    canvas.rectangle(-0.12, -0.5, 0.46, -0.16, main, 0.1)
    canvas.rectangle(-0.1, -0.47, 0.38, -0.43, GLOSS)
    canvas.rectangle(0.08, -0.5, 0.15, -0.16, accent)
    canvas.ellipse(0.44, -0.35, 0.05, 0.11, (255, 236, 150))
    canvas.rectangle(-0.56, -0.24, 0.52, -0.13, shade(second, 0.7), 0.03)
    canvas.polygon([(0.42, -0.2), (0.6, -0.02), (0.36, -0.02)], accent)
    _wheel(canvas, -0.36, -0.16, 0.16, accent)
    for px in (0.02, 0.28):
        _wheel(canvas, px, -0.11, 0.11, accent)
    return anchors(roof, 0.46, x=-0.2, head=0.24)
