"""Toys: ducks, cars, robots, monsters, rockets, dinosaurs, trains and swirls."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from dreambooth_pl.miniature.canvas import Canvas, Colour, shade
from dreambooth_pl.miniature.look import Anchors, Look, Pose, SubjectClass
from dreambooth_pl.miniature.objects.parts import (
    GLOSS,
    INK,
    SHADOW,
    anchors,
    between,
    difference,
    eye,
    moved,
    sample_colours,
    sample_shape,
)
from dreambooth_pl.miniature.objects.toy_machines import (
    car_front,
    car_side,
    robot,
    rocket,
    toy_mouth,
    train_front,
    train_side,
)

_BEAK: Colour = (245, 140, 30)


def _sample(rng: random.Random) -> Look:
    kind = {
        "form": rng.choice(tuple(_FORMS)),
        "mark": rng.choice(("star", "heart", "bolt", "disc", "flower", "none")),
        "top": rng.choice(("one", "two", "three")),
        "mouth": rng.choice(("smile", "teeth", "flat")),
    }
    return Look(sample_colours(rng), sample_shape(rng, "height", "width", "eyes"), kind)


def _duck_colours(look: Look) -> tuple[Colour, Colour, Colour, bool]:
    """Return the colours of body, beak and wing, and whether the eyes need a white."""
    main, second, accent = look.colours
    return main, _BEAK if difference(main, _BEAK) > 90 else second, accent, sum(main) < 330


def _duck_side(canvas: Canvas, look: Look, turn: float) -> Anchors:
    main, second, accent, white = _duck_colours(look)
    fat = between(0.9, 1.08, look.shape["width"])
    canvas.polygon([(-0.3, -0.3), (-0.56, -0.46), (-0.46, -0.14)], main)
    canvas.blob([(-0.44, -0.3), (-0.3, -0.06), (0.05, 0.0), (0.36 * fat, -0.1), (0.4 * fat, -0.32),
                 (0.1, -0.44), (-0.2, -0.36)], main)  # fmt: skip
    canvas.blob([(-0.4, -0.16), (0.0, -0.1), (0.38 * fat, -0.2), (0.3, -0.05), (0.02, 0.0),
                 (-0.28, -0.05)], SHADOW)  # fmt: skip
    canvas.limb([(0.3, -0.6), (0.5, -0.57)], second, 0.085, 0.05)
    canvas.ellipse(0.14, -0.62, 0.25, 0.24, main)
    eye(canvas, 0.2, -0.67, 0.075 if white else 0.06, 0.5, white=white)
    canvas.blob([(-0.26, -0.3), (0.02, -0.34), (0.12, -0.24), (-0.08, -0.12), (-0.3, -0.2)], accent)
    canvas.ellipse(0.04, -0.74, 0.06, 0.05, GLOSS)
    _duck_hat(canvas, look, 0.12)
    return anchors(-0.86, 0.36, x=0.12, head=0.24)


def _duck_hat(canvas: Canvas, look: Look, x: float) -> None:
    if look.kind["top"] == "two":
        canvas.limb([(x, -0.82), (x - 0.03, -0.92), (x - 0.12, -0.94)], look.colours[0], 0.05, 0.03)
    elif look.kind["top"] == "three":
        canvas.rectangle(x - 0.19, -0.84, x + 0.19, -0.78, look.colours[2], 0.03)
        canvas.rectangle(x - 0.12, -0.98, x + 0.12, -0.8, look.colours[2], 0.02)


def _duck_front(canvas: Canvas, look: Look, turn: float) -> Anchors:
    main, second, accent, white = _duck_colours(look)
    fat = between(0.9, 1.08, look.shape["width"])
    x = 0.07 * turn
    canvas.blob([(-0.4 * fat, -0.24), (-0.28, -0.42), (0.28, -0.42), (0.4 * fat, -0.24),
                 (0.26, -0.02), (-0.26, -0.02)], main)  # fmt: skip
    canvas.blob([(-0.36, -0.12), (0.0, -0.08), (0.38, -0.2), (0.26, -0.02), (-0.26, -0.02)], SHADOW)
    for side in (-1, 1):
        canvas.ellipse(side * 0.39 * fat - 0.02 * turn, -0.26, 0.09, 0.16, accent, -side * 14)
    canvas.ellipse(x, -0.6, 0.27, 0.26, main)
    for side in (-1, 1):
        eye(canvas, x * 1.8 + side * 0.12, -0.67, 0.07 if white else 0.052, turn, white=white)
    canvas.ellipse(x * 2, -0.535, 0.14, 0.075, second)
    canvas.ellipse(x * 2, -0.5, 0.1, 0.035, shade(second, 0.75))
    canvas.ellipse(x - 0.13, -0.77, 0.06, 0.04, GLOSS)
    _duck_hat(canvas, look, x)
    return anchors(-0.86, 0.36, x=x, head=0.26)


def _monster(canvas: Canvas, look: Look, turn: float, side_on: bool) -> Anchors:
    main, second, accent = look.colours
    half = between(0.31, 0.4, look.shape["width"]) * (0.84 if side_on else 1.0)
    top = -between(0.74, 0.92, look.shape["height"])
    x = (0.14 if side_on else 0.06) * turn
    horns = {"one": (0.0,), "two": (-0.55, 0.55), "three": (-0.6, 0.0, 0.6)}[look.kind["top"]]
    for share in horns:
        cx, cy = x * 0.6 + share * half, top * (0.97 - 0.12 * abs(share))
        canvas.polygon([(cx - 0.08, cy + 0.08), (cx + share * 0.1, cy - 0.2),
                        (cx + 0.08, cy + 0.08)], accent)  # fmt: skip
    for side in (-1, 1):
        canvas.ellipse(side * half * 0.5, -0.05, 0.15, 0.07, shade(main, 0.75))
        lift = -0.1 * turn * side
        canvas.limb([(side * half * 0.8, -0.36), (side * (half + 0.15), -0.4 + lift)],
                    shade(main, 0.86), 0.085, 0.065)  # fmt: skip
    canvas.blob(
        [
            (-half, -0.1),
            (-half * 1.02, top * 0.5),
            (-half * 0.7, top * 0.9),
            (0, top),
            (half * 0.7, top * 0.9),
            (half * 1.02, top * 0.5),
            (half, -0.1),
            (0, -0.03),
        ],
        main,
    )
    canvas.blob([(half * 0.55, top * 0.9), (half * 1.02, top * 0.5), (half, -0.1),
                 (half * 0.3, -0.03), (half * 0.75, top * 0.4)], SHADOW)  # fmt: skip
    canvas.ellipse(x, top * 0.24, half * 0.62, -top * 0.2, second)
    eyes = 1 + int(look.shape["eyes"] * 2.99)
    size = {1: 0.17, 2: 0.115, 3: 0.09}[eyes]
    for k in range(eyes):
        cx = x * 1.5 + (k - (eyes - 1) / 2) * size * 2.05
        eye(canvas, cx, top * (0.76 if eyes == 3 and k == 1 else 0.68), size, turn)
    toy_mouth(canvas, look, x * 1.5, top * 0.41, 0.13)
    return anchors(top, half, x=x * 0.6)


def _dinosaur(canvas: Canvas, look: Look, turn: float, side_on: bool) -> Anchors:
    main, second, accent = look.colours
    tall = between(0.0, 0.1, look.shape["height"])
    squeeze = 1.0 if side_on else 0.72
    d = canvas.frame(0, 0, stretch=squeeze)
    for k, (px, py) in enumerate(
        ((-0.42, -0.24), (-0.3, -0.4), (-0.17, -0.52), (-0.06, -0.64 - tall))
    ):
        d.polygon([(px - 0.07, py + 0.1), (px - 0.06 - 0.01 * k, py - 0.1), (px + 0.09, py)],
                  accent)  # fmt: skip
    d.limb([(-0.1, -0.2), (-0.4, -0.14), (-0.6, -0.22)], main, 0.17, 0.04)
    d.limb([(-0.04, -0.26), (0.04, -0.5), (0.12, -0.72 - tall)], main, 0.25, 0.15)
    for px in (-0.16, 0.08):
        d.rectangle(px - 0.1, -0.2, px + 0.1, 0.0, shade(main, 0.84), 0.06)
    d.limb([(0.13, -0.76 - tall), (0.32, -0.71 - tall)], main, 0.16, 0.11)
    d.blob([(0.02, -0.12), (0.16, -0.14), (0.22, -0.3), (0.2, -0.48), (0.1, -0.5), (0.04, -0.3)],
           second)  # fmt: skip
    d.limb([(0.14, -0.46), (0.28, -0.4 - 0.06 * turn)], shade(main, 0.84), 0.055, 0.045)
    eye(d, 0.16, -0.82 - tall, 0.065, 0.6)
    d.curve([(0.2, -0.66 - tall), (0.32, -0.64 - tall), (0.41, -0.69 - tall)], INK, 0.032)
    d.ellipse(-0.14, -0.34, 0.055, 0.055, second)
    d.ellipse(-0.02, -0.42, 0.045, 0.045, second)
    return anchors(-0.9 - tall, 0.26, x=0.12 * squeeze, head=0.17)


def _swirl(canvas: Canvas, look: Look, turn: float, side_on: bool) -> Anchors:
    main, second, _ = look.colours
    wide = between(0.92, 1.08, look.shape["width"])
    x = (0.14 if side_on else 0.06) * turn
    tiers = ((-0.14, 0.46, 0.14), (-0.36, 0.35, 0.14), (-0.57, 0.23, 0.12))
    for k, (y, r, h) in enumerate(tiers):
        canvas.ellipse(0.0, y, r * wide, h, main)
        canvas.ellipse(0.02, y + h * 0.62, r * wide * 0.86, h * 0.3, SHADOW)
        canvas.ellipse(-r * 0.6, y - h * 0.3, 0.07 - 0.01 * k, 0.035, GLOSS)
    canvas.limb([(0.0, -0.62), (0.02, -0.76), (-0.08 + 0.05 * turn, -0.86)], main, 0.13, 0.035)
    for side in (-1, 1):
        eye(canvas, x * 1.4 + side * 0.14, -0.4, 0.105, turn)
    canvas.blob([(x * 1.4 - 0.17, -0.22), (x * 1.4, -0.2), (x * 1.4 + 0.17, -0.22),
                 (x * 1.4, -0.08)], second)  # fmt: skip
    return anchors(-0.82, 0.42, head=0.2)


def _two_sided(
    side: Callable[[Canvas, Look, float], Anchors], front: Callable[[Canvas, Look, float], Anchors]
) -> Callable[[Canvas, Look, float, bool], Anchors]:
    return lambda canvas, look, turn, side_on: (side if side_on else front)(canvas, look, turn)


_FORMS: dict[str, Callable[[Canvas, Look, float, bool], Anchors]] = {
    "duck": _two_sided(_duck_side, _duck_front),
    "car": _two_sided(car_side, car_front),
    "robot": robot,
    "monster": _monster,
    "rocket": rocket,
    "dinosaur": _dinosaur,
    "train": _two_sided(train_side, train_front),
    "swirl": _swirl,
}
_PROFILES = ("duck", "car", "dinosaur", "train")
"""Toys with a profile that can face left or right."""


def draw_toy(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a toy. Poses: front, side, tipped (about to fall over)."""
    form = look.kind["form"]
    side_on = pose.name == "side" or (pose.name == "tipped" and form in _PROFILES)
    flip = pose.turn < 0 and (form == "dinosaur" or side_on and form in _PROFILES)
    turn = abs(pose.turn) if flip else pose.turn
    tipped = pose.name == "tipped"
    lean = (24 if tipped else 0) + 5 * pose.bend
    squeeze = 1 - 0.16 * abs(pose.turn) if side_on and form in _PROFILES else 1.0

    def draw(frame: Canvas) -> Anchors:
        inner = _FORMS[form](frame.frame(0, 0, stretch=squeeze), look, turn, side_on)
        inner.points = {name: (x * squeeze, y) for name, (x, y) in inner.points.items()}
        return inner

    shift = 0.4 * math.sin(math.radians(lean)) if tipped else 0.0
    return moved(canvas, draw, -shift, -0.13 if tipped else 0.0, 0.93 if tipped else 1.0, lean,
                 flip)  # fmt: skip


TOY = SubjectClass("toy", False, ("front", "side", "tipped"), _sample, draw_toy)
