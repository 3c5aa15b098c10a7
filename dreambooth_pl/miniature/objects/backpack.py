"""Backpacks."""

from __future__ import annotations

import random

from dreambooth_pl.miniature.canvas import Canvas, shade
from dreambooth_pl.miniature.look import Anchors, Look, Pose, SubjectClass
from dreambooth_pl.miniature.objects.parts import (
    EMBLEMS,
    GLOSS,
    INK,
    SHADOW,
    WHITE,
    anchors,
    between,
    emblem,
    eye,
    lying,
    moved,
    sample_colours,
    sample_shape,
)


def _sample(rng: random.Random) -> Look:
    kind = {
        "form": rng.choice(("arch", "box", "round")),
        "front": rng.choice(("pocket", "flap", "pocket", "face")),
        "mark": rng.choice((*EMBLEMS, "none", "stripes", "dots")),
        "ears": rng.choice(("round", "pointed")),
        "sides": rng.choice(("second", "accent", "main")),
    }
    return Look(sample_colours(rng), sample_shape(rng, "height", "width", "pocket"), kind)


def _measures(look: Look) -> tuple[float, float]:
    top = -between(0.82, 0.96, look.shape["height"])
    return top, between(0.3, 0.37, look.shape["width"])


def _outline(form: str, left: float, right: float, top: float) -> list[tuple[float, float]]:
    """Return the corners of a bag that stands between `left` and `right`."""
    middle, half = (left + right) / 2, (right - left) / 2
    shares = {
        "arch": [(-0.94, 0.0), (-1.0, 0.1), (-1.0, 0.55), (-0.9, 0.8), (-0.62, 0.96), (-0.25, 1.0)],
        "box": [(-0.94, 0.0), (-1.0, 0.06), (-1.0, 0.88), (-0.95, 0.96), (-0.84, 1.0), (-0.2, 1.0)],
        "round": [(-0.7, 0.0), (-0.94, 0.1), (-1.04, 0.4), (-0.98, 0.7), (-0.7, 0.92), (-0.3, 1.0)],
    }[form]
    walk = [(middle + x * half, y * top) for x, y in shares]
    return walk + [(2 * middle - x, y) for x, y in reversed(walk)]


def _mark(canvas: Canvas, look: Look, x: float, y: float, size: float) -> None:
    kind, colour = look.kind["mark"], look.colours[2]
    if kind == "stripes":
        for k in (-1, 1):
            canvas.rectangle(x - 2 * size, y + k * size * 0.5 - 0.03, x + 2 * size,
                             y + k * size * 0.5 + 0.03, colour)  # fmt: skip
    elif kind == "dots":
        for k in (-1, 0, 1):
            canvas.ellipse(x + k * size * 1.2, y + (k % 2) * 0.05, 0.05, 0.05, colour)
    elif kind != "none":
        emblem(canvas, kind, x, y, size, colour)


def _face(canvas: Canvas, look: Look, x: float, top: float, half: float, gaze: float) -> None:
    y = top * 0.68
    canvas.ellipse(x, top * 0.5, half * 0.52, half * 0.38, look.colours[1])
    for side in (-1, 1):
        eye(canvas, x + side * half * 0.46, y, 0.075, gaze)
    canvas.ellipse(x, top * 0.56, 0.07, 0.05, INK)
    canvas.curve([(x - 0.1, top * 0.47), (x, top * 0.42), (x + 0.1, top * 0.47)], INK, 0.035)


def _front(canvas: Canvas, look: Look, turn: float) -> Anchors:
    main, second, accent = look.colours
    top, half = _measures(look)
    form = look.kind["form"]
    strap = shade(accent if look.kind["sides"] == "accent" else second, 0.75)
    canvas.curve([(-0.11, top + 0.05), (-0.1, top - 0.09), (0.1, top - 0.09), (0.11, top + 0.05)],
                 strap, 0.06)  # fmt: skip
    for side in (-1, 1):
        x = side * half
        canvas.curve([(x * 0.9, top * 0.8), (x + side * 0.12, top * 0.5), (x * 0.98, top * 0.12)],
                     strap, 0.07)  # fmt: skip
    if look.kind["front"] == "face":
        for side in (-1, 1):
            x, y = side * half * 0.72, top + 0.04
            if look.kind["ears"] == "round":
                canvas.ellipse(x, y, 0.13, 0.13, main)
                canvas.ellipse(x, y, 0.07, 0.07, second)
            else:
                canvas.polygon([(x - 0.13, y + 0.1), (x + side * 0.07, y - 0.17),
                                (x + 0.13, y + 0.1)], main)  # fmt: skip
    # Turning shows the gusset of the far side as a darker edge.
    gusset = 0.1 * abs(turn)
    outline = _outline(form, -half, half, top)
    if turn >= 0:
        left, right, near = -half + gusset, half, shade(main, 0.62)
    else:
        left, right, near = -half, half - gusset, shade(main, 0.62)
    canvas.polygon(outline, near)
    canvas.polygon(_outline(form, left, right, top), main)
    x, wide = (left + right) / 2 + 0.02 * turn, (right - left) / 2
    for side in (-1, 1):
        edge = side * half
        canvas.rectangle(min(edge, edge + side * 0.07), top * 0.36, max(edge, edge + side * 0.07),
                         -0.04, shade(second, 0.8), 0.04)  # fmt: skip
    if look.kind["front"] == "face":
        _face(canvas, look, x, top, wide, turn)
    elif look.kind["front"] == "flap":
        depth = between(0.42, 0.34, look.shape["pocket"]) * top
        canvas.polygon([*_outline(form, left, right, top)[3:9], (right, depth - 0.03),
                        (right - 0.08, depth), (left + 0.08, depth), (left, depth - 0.03)],
                       second)  # fmt: skip
        _mark(canvas, look, x, top * 0.7, 0.125)
        for side in (-1, 1):
            sx = x + side * wide * 0.5
            canvas.rectangle(sx - 0.045, depth - 0.12, sx + 0.045, depth + 0.14, shade(accent, 0.8))
            canvas.rectangle(sx - 0.06, depth - 0.03, sx + 0.06, depth + 0.06, (236, 204, 110),
                             0.02)  # fmt: skip
    else:
        depth = between(0.5, 0.4, look.shape["pocket"]) * top
        canvas.curve([(x - wide * 0.78, top * 0.62), (x - wide * 0.6, top * 0.86), (x, top * 0.91),
                      (x + wide * 0.6, top * 0.86), (x + wide * 0.78, top * 0.62)],
                     shade(main, 0.55), 0.035)  # fmt: skip
        _mark(canvas, look, x, top * 0.68, 0.11)
        canvas.rectangle(x - wide * 0.8, depth, x + wide * 0.8, -0.05, second, 0.09)
        canvas.line([(x - wide * 0.66, depth + 0.09), (x + wide * 0.66, depth + 0.09)],
                    shade(second, 0.5), 0.035)  # fmt: skip
        canvas.rectangle(x + wide * 0.3, depth + 0.07, x + wide * 0.3 + 0.05, depth + 0.2, accent,
                         0.02)  # fmt: skip
    canvas.polygon([(right - 0.09, top * 0.84), (right - 0.01, top * 0.7), (right, -0.06),
                    (right - 0.05, 0), (right - 0.12, 0)], SHADOW)  # fmt: skip
    canvas.ellipse(left + 0.1, top * 0.74, 0.035, 0.1, GLOSS, 14)
    return anchors(top, half)


def _side(canvas: Canvas, look: Look, turn: float) -> Anchors:
    """Draw the profile: pocket to the right, shoulder strap to the left."""
    main, second, accent = look.colours
    top = _measures(look)[0]
    strap = shade(accent if look.kind["sides"] == "accent" else second, 0.75)
    canvas.curve([(-0.16, top + 0.06), (-0.1, top - 0.08), (0.04, top - 0.07), (0.06, top + 0.05)],
                 strap, 0.06)  # fmt: skip
    reach = -0.38 - 0.06 * (1 - abs(turn))
    canvas.curve([(-0.18, top * 0.93), (reach, top * 0.74), (reach, top * 0.35),
                  (-0.18, top * 0.08)], strap, 0.085)  # fmt: skip
    depth = between(0.5, 0.4, look.shape["pocket"]) * top
    canvas.blob([(0.16, depth), (0.36, depth + 0.05), (0.41, -0.2), (0.34, -0.03), (0.16, -0.02)],
                second)  # fmt: skip
    canvas.blob([(-0.22, -0.01), (-0.25, top * 0.5), (-0.22, top * 0.94), (-0.05, top * 1.0),
                 (0.14, top * 0.9), (0.24, top * 0.5), (0.22, -0.02)], main)  # fmt: skip
    canvas.curve([(-0.12, top * 0.9), (0.08, top * 0.78), (0.14, top * 0.5)], shade(main, 0.55),
                 0.035)  # fmt: skip
    if look.kind["front"] == "face":
        canvas.ellipse(0.05, top + 0.02, 0.12, 0.12, main)
        canvas.ellipse(0.06, top + 0.02, 0.06, 0.06, second)
        eye(canvas, 0.12, top * 0.68, 0.06, 1)
    canvas.rectangle(-0.17, top * 0.36, 0.16, -0.05, shade(second, 0.85), 0.07)
    canvas.rectangle(-0.17, top * 0.36, 0.16, top * 0.36 + 0.06, accent, 0.03)
    canvas.polygon([(-0.23, -0.02), (-0.25, top * 0.5), (-0.22, top * 0.92), (-0.14, top * 0.94),
                    (-0.16, top * 0.5), (-0.14, -0.02)], SHADOW)  # fmt: skip
    return anchors(top, 0.3)


def _back(canvas: Canvas, look: Look, turn: float) -> Anchors:
    """Draw the back: a padded panel under two shoulder straps."""
    main, second, accent = look.colours
    top, half = _measures(look)
    strap = shade(accent if look.kind["sides"] == "accent" else second, 0.75)
    canvas.curve([(-0.11, top + 0.05), (-0.1, top - 0.09), (0.1, top - 0.09), (0.11, top + 0.05)],
                 strap, 0.06)  # fmt: skip
    canvas.polygon(_outline(look.kind["form"], -half, half, top), main)
    x = 0.05 * turn
    canvas.rectangle(x - half * 0.66, top * 0.84, x + half * 0.66, -0.1, shade(main, 0.72), 0.1)
    for side in (-1, 1):
        canvas.curve([(x + side * 0.08, top * 0.9), (x + side * half * 0.78, top * 0.66),
                      (x + side * half * 0.92, top * 0.34), (x + side * half * 0.7, top * 0.08)],
                     strap, 0.11)  # fmt: skip
        canvas.rectangle(x + side * half * 0.82 - 0.05, top * 0.32, x + side * half * 0.82 + 0.05,
                         top * 0.24, WHITE, 0.02)  # fmt: skip
    canvas.rectangle(x - 0.12, top * 0.95, x + 0.12, top * 0.86, strap, 0.03)
    canvas.polygon([(half - 0.07, top * 0.8), (half, top * 0.7), (half, -0.06), (half - 0.07, 0)],
                   SHADOW)  # fmt: skip
    return anchors(top, half)


def draw_backpack(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a backpack. Poses: front, side, back, tipped (lying on its side)."""
    if pose.name == "side":
        return moved(canvas, lambda c: _side(c, look, pose.turn), angle=5 * pose.bend,
                     flip=pose.turn < 0)  # fmt: skip
    if pose.name == "back":
        return moved(canvas, lambda c: _back(c, look, pose.turn), angle=5 * pose.bend)
    draw = lambda c: _front(c, look, pose.turn)  # noqa: E731
    if pose.name == "tipped":
        return lying(canvas, draw, 0.9, _measures(look)[1], 52 + 12 * pose.bend)
    return moved(canvas, draw, angle=5 * pose.bend)


BACKPACK = SubjectClass("backpack", False, ("front", "side", "back", "tipped"), _sample,
                        draw_backpack)  # fmt: skip
