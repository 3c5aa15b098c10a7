"""Stuffed animals with seams and button eyes."""

from __future__ import annotations

import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, Point, mix, shade
from dreambooth_pl.miniature.look import Anchors, Look, Pose, SubjectClass
from dreambooth_pl.miniature.objects.parts import (
    GLOSS,
    INK,
    SHADOW,
    WHITE,
    anchors,
    between,
    emblem,
    lying,
    moved,
    sample_colours,
    sample_shape,
)

_FURS: tuple[Colour, ...] = (
    (168, 112, 66), (206, 156, 100), (112, 74, 52), (236, 222, 196), (150, 152, 160),
    (104, 110, 124), (246, 168, 186), (150, 186, 222), (176, 150, 214), (146, 190, 130),
    (240, 190, 90), (214, 92, 84), (90, 160, 170), (232, 132, 66),
)  # fmt: skip
_KINDS = ("bear", "bear", "bunny", "wolf", "sloth", "elephant")


def _sample(rng: random.Random) -> Look:
    kind = {
        "animal": rng.choice(_KINDS),
        "wears": rng.choice(("bow", "none", "scarf", "heart", "patch")),
        "eyes": rng.choice(("button", "button", "cross")),
        "belly": rng.choice(("pale", "second", "pale")),
    }
    return Look(sample_colours(rng, _FURS), sample_shape(rng, "width", "head", "ears"), kind)


def _seam(canvas: Canvas, points: list[Point], colour: Colour) -> None:
    """Draw short stitches along a straight line from the first point to the second."""
    (x0, y0), (x1, y1) = points
    for k in range(3):
        a, b = k / 3 + 0.05, k / 3 + 0.24
        canvas.line([(x0 + (x1 - x0) * a, y0 + (y1 - y0) * a),
                     (x0 + (x1 - x0) * b, y0 + (y1 - y0) * b)], colour, 0.032)  # fmt: skip


def _ears(canvas: Canvas, look: Look, x: float, y: float, half: float, turn: float) -> None:
    """Draw ears on a head of half-width `half` around (x, y)."""
    main, pale = look.colours[0], _pale(look)
    animal, long = look.kind["animal"], look.shape["ears"]
    for side in (-1, 1):
        ex = x + side * half * 0.72 - 0.03 * turn
        if animal == "bear":
            size = between(0.1, 0.14, long)
            canvas.ellipse(ex, y - half * 0.72, size, size, main)
            canvas.ellipse(ex, y - half * 0.7, size * 0.55, size * 0.55, pale)
        elif animal == "bunny":
            length = between(0.3, 0.4, long)
            tip = (ex - side * 0.04 + 0.05 * turn, y - half * 0.7 - length)
            root = (x + side * half * 0.42, y - half * 0.7)
            canvas.limb([root, tip], main, 0.085, 0.075)
            canvas.limb([root, (tip[0], tip[1] + 0.03)], pale, 0.04, 0.035)
        elif animal == "wolf":
            top = y - half * between(1.35, 1.6, long)
            canvas.polygon([(ex - side * 0.17, y - half * 0.6), (ex + side * 0.03, top),
                            (ex + side * 0.1, y - half * 0.25)], main)  # fmt: skip
            canvas.polygon([(ex - side * 0.08, y - half * 0.6), (ex + side * 0.015, top + 0.09),
                            (ex + side * 0.05, y - half * 0.4)], pale)  # fmt: skip
        elif animal == "elephant":
            size = between(0.16, 0.21, long)
            canvas.ellipse(x + side * (half + 0.08), y, size, size * 1.12, shade(main, 0.86))
            canvas.ellipse(x + side * (half + 0.08), y, size * 0.6, size * 0.72, pale)


def _pale(look: Look) -> Colour:
    main, second, _ = look.colours
    if look.kind["belly"] == "second":
        return second
    return mix(main, (255, 244, 224), 0.66) if sum(main) < 620 else shade(main, 0.82)


def _head(canvas: Canvas, look: Look, x: float, y: float, half: float, turn: float) -> None:
    main, second, accent = look.colours
    animal, pale = look.kind["animal"], _pale(look)
    _ears(canvas, look, x, y, half, turn)
    high = half * 0.86
    canvas.ellipse(x, y, half, high, main)
    canvas.ellipse(x - half * 0.42, y - high * 0.6, half * 0.22, high * 0.16, GLOSS, -24)
    fx = x + half * 0.26 * turn
    if animal == "sloth":
        canvas.ellipse(fx, y + 0.02, half * 0.76, high * 0.66, pale)
        for side in (-1, 1):
            canvas.ellipse(fx + side * half * 0.42, y + 0.02, half * 0.3, high * 0.2, shade(main,
                                                                                            0.6),
                           side * 26)  # fmt: skip
    elif animal == "elephant":
        canvas.limb([(fx, y + 0.06), (fx + 0.02 * turn, y + high * 0.8),
                     (fx + 0.1, y + high * 1.1)], shade(main, 0.9), 0.1, 0.07)  # fmt: skip
        canvas.line([(fx - 0.06, y + 0.13), (fx + 0.07, y + 0.13)], shade(main, 0.66), 0.032)
        canvas.line([(fx - 0.05, y + 0.21), (fx + 0.07, y + 0.21)], shade(main, 0.66), 0.032)
    elif animal == "wolf":
        canvas.polygon([(x - half * 0.96, y), (fx, y - 0.02), (x + half * 0.96, y),
                        (x + half * 0.55, y + high * 0.78), (fx, y + high),
                        (x - half * 0.55, y + high * 0.78)], pale)  # fmt: skip
        canvas.ellipse(fx, y + high * 0.36, half * 0.36, high * 0.34, shade(pale, 1.3))
    else:
        canvas.ellipse(fx, y + high * 0.38, half * 0.46, high * 0.4, pale)
    for side in (-1, 1):
        ex, ey = fx + side * half * 0.42, y - high * 0.06
        if look.kind["eyes"] == "cross" and side == 1:
            for slope in (-1, 1):
                canvas.line([(ex - 0.055, ey - 0.055 * slope), (ex + 0.055, ey + 0.055 * slope)],
                            INK, 0.036)  # fmt: skip
        else:
            canvas.ellipse(ex, ey, 0.072, 0.072, INK)
            canvas.ellipse(ex - 0.022, ey - 0.022, 0.024, 0.024, WHITE)
    if animal != "elephant":
        nose = accent if animal == "bunny" else INK
        canvas.ellipse(fx, y + high * 0.22, 0.068, 0.045, nose)
        canvas.line([(fx, y + high * 0.26), (fx, y + high * 0.48)], INK, 0.032)
        canvas.curve([(fx - 0.09, y + high * 0.46), (fx, y + high * 0.56),
                      (fx + 0.09, y + high * 0.46)], INK, 0.032)  # fmt: skip
    _seam(canvas, [(fx, y - high * 0.92), (fx, y - high * 0.3)], shade(main, 0.62))


def _sitting(canvas: Canvas, look: Look, turn: float, bend: float, upright: bool) -> Anchors:
    """Draw the animal sitting with its feet towards the viewer, or standing if `upright`."""
    main, second, accent = look.colours
    pale = _pale(look)
    half = between(0.25, 0.32, look.shape["width"])
    head = between(0.27, 0.33, look.shape["head"])
    lift = 0.1 if upright else 0.0
    hx, hy = 0.05 * turn, -0.44 - lift - head * 0.78
    if look.kind["animal"] in ("wolf", "bunny"):
        tail = -1 if turn >= 0 else 1
        canvas.limb([(0.1 * tail, -0.12), (tail * (half + 0.14), -0.22)], shade(main, 0.8), 0.1,
                    0.09)  # fmt: skip
    if upright:
        for side in (-1, 1):
            canvas.limb([(side * 0.14, -0.2), (side * 0.16, -0.07)], shade(main, 0.86), 0.12, 0.12)
    canvas.ellipse(0, -0.27 - lift, half, 0.27, main)
    canvas.ellipse(half * 0.5, -0.27 - lift, half * 0.5, 0.23, SHADOW)
    bx = 0.06 * turn
    canvas.ellipse(bx, -0.26 - lift, half * 0.62, 0.19, pale)
    _seam(canvas, [(bx, -0.42 - lift), (bx, -0.1 - lift)], shade(pale, 0.6))
    if look.kind["wears"] == "heart":
        emblem(canvas, "heart", bx + 0.11, -0.34 - lift, 0.085, accent)
    elif look.kind["wears"] == "patch":
        canvas.rectangle(bx - 0.22, -0.3 - lift, bx - 0.06, -0.14 - lift, accent, 0.02)
    long = 1.3 if look.kind["animal"] == "sloth" else 1.0
    for side in (-1, 1):
        raised = 0.06 * bend * side + 0.02 * turn * side + 0.01
        canvas.limb([(side * half * 0.78, -0.43 - lift),
                     (side * (half + 0.11), -0.28 - lift - raised),
                     (side * (half + 0.07) * long, -0.2 - lift - raised * 2.2)], shade(main, 0.88),
                    0.09, 0.085)  # fmt: skip
        if not upright:
            px = side * 0.25 + 0.05 * turn
            canvas.ellipse(px, -0.13, 0.145, 0.135, shade(main, 0.88))
            canvas.ellipse(px + 0.02 * turn, -0.12, 0.09, 0.085, pale)
    _head(canvas, look, hx, hy, head, turn)
    neck = hy + head * 0.8
    if look.kind["wears"] == "bow" and look.kind["animal"] != "elephant":
        for side in (-1, 1):
            canvas.polygon([(hx, neck), (hx + side * 0.17, neck - 0.085),
                            (hx + side * 0.17, neck + 0.085)], accent)  # fmt: skip
        canvas.ellipse(hx, neck, 0.052, 0.052, shade(accent, 0.7))
    elif look.kind["wears"] == "scarf" and look.kind["animal"] != "elephant":
        canvas.rectangle(hx - 0.2, neck - 0.05, hx + 0.2, neck + 0.05, accent, 0.05)
        canvas.rectangle(hx + 0.06, neck, hx + 0.17, neck + 0.22, shade(accent, 0.8), 0.03)
    result = anchors(hy - head * 0.84, half, x=hx, head=head)
    result.points |= {"eyes": (hx + head * 0.26 * turn, hy - 0.02), "neck": (hx, neck)}
    result.sizes |= {"eyes": head * 0.8, "neck": 0.2, "head_top": head * 0.7}
    return result


def _fitting(look: Look) -> float:
    """Return a scale that limits the standing animal with its ears to 1.12 units of height."""
    head, long = between(0.27, 0.33, look.shape["head"]), look.shape["ears"]
    above = {
        "bunny": head * 0.7 + between(0.38, 0.48, long),
        "wolf": head * between(1.35, 1.6, long),
    }
    height = 0.54 + head * 0.78 + above.get(look.kind["animal"], head * 1.1)
    return min(1.0, 1.12 / height)


def draw_stuffed_animal(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a stuffed animal.

    Poses: front (sitting), side (sitting, turned away), standing, lying.
    """
    turn, scale = pose.turn * 0.6, _fitting(look)
    if pose.name == "side":
        turn = (-1 if pose.turn < 0 else 1) * (1.1 + 0.5 * abs(pose.turn))

        def squeezed(frame: Canvas) -> Anchors:
            return _sitting(frame.frame(0, 0, stretch=0.9), look, turn, pose.bend, False)

        return moved(canvas, squeezed, scale=scale, angle=3 * turn)
    draw = lambda c: _sitting(c, look, turn, pose.bend, pose.name == "standing")  # noqa: E731
    if pose.name == "lying":
        scaled = lambda c: moved(c, draw, scale=0.94 * scale)  # noqa: E731
        return lying(canvas, scaled, 0.95, 0.37, 68 + 9 * pose.bend)
    return moved(canvas, draw, scale=scale, angle=4 * pose.bend)


STUFFED_ANIMAL = SubjectClass(
    "stuffed animal", False, ("front", "side", "standing", "lying"), _sample, draw_stuffed_animal
)
