"""Sneakers and boots."""

from __future__ import annotations

import random
from collections.abc import Callable

from dreambooth_pl.miniature.canvas import Canvas, Colour, shade
from dreambooth_pl.miniature.look import Anchors, Look, Pose, SubjectClass
from dreambooth_pl.miniature.objects.parts import (
    GLOSS,
    LEATHERS,
    PALETTE,
    SHADOW,
    WHITE,
    anchors,
    between,
    emblem,
    moved,
    sample_colours,
    sample_shape,
)

_SHOE_MARKS = ("wave", "stripes", "star", "bolt", "disc", "none")


def _sample_sneaker(rng: random.Random) -> Look:
    kind = {
        "collar": rng.choice(("low", "low", "high")),
        "mark": rng.choice(_SHOE_MARKS),
        "sole": rng.choice(("white", "white", "second", "two-tone")),
        "toe": rng.choice(("cap", "plain", "cap")),
    }
    return Look(sample_colours(rng), sample_shape(rng, "sole", "height"), kind)


def _sole(look: Look) -> Colour:
    return look.colours[1] if look.kind["sole"] == "second" else WHITE


def _mark(canvas: Canvas, look: Look, x: float, y: float, squeeze: float = 1.0) -> None:
    mark, colour = look.kind["mark"], look.colours[1]
    if mark == "wave":
        canvas.polygon([(x - 0.2 * squeeze, y - 0.04), (x - 0.1 * squeeze, y + 0.03),
                        (x + 0.24 * squeeze, y - 0.1), (x - 0.04 * squeeze, y + 0.1),
                        (x - 0.18 * squeeze, y + 0.08)], colour)  # fmt: skip
    elif mark == "stripes":
        for k in (-1, 0, 1):
            left = x + k * 0.105 * squeeze
            canvas.polygon([(left - 0.07 * squeeze, y - 0.1), (left - 0.01 * squeeze, y - 0.1),
                            (left + 0.06 * squeeze, y + 0.11), (left, y + 0.11)],
                           colour)  # fmt: skip
    elif mark != "none":
        emblem(canvas, mark, x, y, 0.105, colour, WHITE, squeeze)


def _sneaker_side(canvas: Canvas, look: Look, shift: float) -> Anchors:
    main, second, accent = look.colours
    high = look.kind["collar"] == "high"
    thick = between(0.1, 0.15, look.shape["sole"])
    top = -between(0.44, 0.5, look.shape["height"]) - (0.2 if high else 0.0)
    canvas.ellipse(-0.27, top + 0.05, 0.19, 0.055, shade(main, 0.42))
    tongue = [(-0.12, top + 0.06), (-0.1, top - 0.07), (0.0, top - 0.06), (0.12, -0.34),
              (0.02, -0.3)]  # fmt: skip
    canvas.blob(tongue, accent)
    upper = [(-0.48, -thick), (-0.5, -0.26), (-0.47, top + 0.06), (-0.41, top), (-0.33, top + 0.05),
             (-0.2, top + 0.07), (-0.1, top + 0.03), (0.0, min(-0.4, top + 0.14)), (0.16, -0.33),
             (0.38, -0.26), (0.52, -0.18), (0.53, -thick)]  # fmt: skip
    canvas.polygon(upper, main)
    canvas.polygon([(-0.48, -thick), (-0.5, -0.26), (-0.48, -0.32), (-0.36, -0.28),
                    (-0.32, -thick)], second)  # fmt: skip
    if look.kind["toe"] == "cap":
        canvas.blob([(0.3, -thick), (0.31, -0.26), (0.42, -0.25), (0.53, -0.17), (0.54, -thick)],
                    _sole(look) if look.kind["sole"] == "white" else second)  # fmt: skip
    if high and look.kind["mark"] in ("star", "disc"):
        _mark(canvas, look, -0.27 + shift, top + 0.24)
    else:
        _mark(canvas, look, -0.1 + shift, -0.26)
    canvas.polygon([(-0.49, -thick - 0.07), (0.53, -thick - 0.045), (0.53, -thick),
                    (-0.48, -thick)], SHADOW)  # fmt: skip
    rows = 4 if high else 3
    for k in range(rows):
        share = k / (rows - 1)
        x, y = between(0.14, -0.1, share), between(-0.36, top + 0.1, share)
        canvas.line([(x - 0.07, y + 0.07), (x + 0.05, y - 0.02)], WHITE, 0.042)
    canvas.rectangle(-0.54, -thick - 0.01, 0.58, 0.0, _sole(look), 0.06)
    lower = second if look.kind["sole"] == "two-tone" else shade(_sole(look), 0.72)
    canvas.rectangle(-0.54, -thick * 0.42, 0.58, 0.0, lower, 0.03)
    return anchors(top, 0.5, head=0.2)


def _sneaker_front(canvas: Canvas, look: Look, turn: float) -> Anchors:
    main, second, accent = look.colours
    high = look.kind["collar"] == "high"
    top = -between(0.56, 0.62, look.shape["height"]) - (0.14 if high else 0.0)
    back = -0.14 * turn
    canvas.blob([(-0.27, -0.12), (back - 0.25, -0.4), (back - 0.23, top), (back, top + 0.02),
                 (back + 0.23, top), (back + 0.25, -0.4), (0.27, -0.12)], main)  # fmt: skip
    canvas.ellipse(back, top + 0.03, 0.2, 0.06, shade(main, 0.42))
    canvas.blob([(back - 0.12, top + 0.03), (back, top - 0.07), (back + 0.12, top + 0.03),
                 (0.11, -0.32), (-0.11, -0.32)], accent)  # fmt: skip
    canvas.blob([(-0.32, -0.1), (-0.28, -0.28), (0.0, -0.38), (0.28, -0.28), (0.32, -0.1),
                 (0.0, -0.06)], main)  # fmt: skip
    _mark(canvas, look, back + 0.16 * (1 if turn < 0 else -1), -0.43, 0.28)
    for k in range(4 if high else 3):
        x, y = back * (0.2 + 0.2 * k), -0.38 - 0.085 * k
        canvas.line([(x - 0.14, y - 0.02), (x + 0.14, y + 0.02)], WHITE, 0.045)
    if look.kind["toe"] == "cap":
        cap = _sole(look) if look.kind["sole"] == "white" else second
        canvas.blob([(-0.3, -0.1), (-0.22, -0.25), (0.0, -0.29), (0.22, -0.25), (0.3, -0.1)], cap)
    canvas.polygon([(0.17, -0.1), (0.2, -0.3), (back + 0.14, top + 0.1), (back + 0.25, top + 0.06),
                    (back + 0.25, -0.4), (0.31, -0.2), (0.31, -0.1)], SHADOW)  # fmt: skip
    canvas.rectangle(-0.34, -0.15, 0.34, 0.0, _sole(look), 0.07)
    lower = second if look.kind["sole"] == "two-tone" else shade(_sole(look), 0.72)
    canvas.rectangle(-0.33, -0.06, 0.33, 0.0, lower, 0.03)
    return anchors(top, 0.3, x=back * 0.5)


def _sneaker_above(canvas: Canvas, look: Look) -> Anchors:
    """Draw a sneaker seen from above, around (0, -0.5), with the toe down."""
    main, second, accent = look.colours
    shoe = canvas.frame(0, -0.5)
    print_ = [(-0.19, -0.5), (0.0, -0.58), (0.19, -0.5), (0.2, -0.2), (0.25, 0.15), (0.2, 0.46),
              (0.0, 0.57), (-0.2, 0.46), (-0.25, 0.15), (-0.2, -0.2)]  # fmt: skip
    shoe.blob([(x * 1.14, y) for x, y in print_], _sole(look))
    shoe.blob([(x, y * 0.94) for x, y in print_], main)
    if look.kind["toe"] == "cap":
        cap = _sole(look) if look.kind["sole"] == "white" else second
        shoe.blob([(-0.2, 0.36), (-0.19, 0.45), (0.0, 0.53), (0.19, 0.45), (0.2, 0.36), (0, 0.29)],
                  cap)  # fmt: skip
    shoe.polygon([(0.12, -0.5), (0.19, -0.46), (0.2, -0.2), (0.24, 0.15), (0.2, 0.42), (0.14, 0.3)],
                 SHADOW)  # fmt: skip
    shoe.ellipse(0, -0.27, 0.15, 0.24, shade(main, 0.38))
    shoe.polygon([(-0.11, -0.2), (0.11, -0.2), (0.08, 0.2), (-0.08, 0.2)], accent)
    for k in range(3):
        shoe.line([(-0.13, -0.05 + 0.1 * k), (0.13, -0.03 + 0.1 * k)], WHITE, 0.045)
    shoe.rectangle(-0.07, -0.55, 0.07, -0.46, second, 0.03)
    return anchors(-1.05, 0.25)


def _sideways(
    canvas: Canvas,
    pose: Pose,
    draw: Callable[[Canvas, float], Anchors],
    angle: float = 0.0,
    y: float = 0.0,
) -> Anchors:
    """Draw a shoe in profile. Its toe points where it is turned, foreshortened by the turn."""
    flip = pose.turn < 0
    squeeze = 1 - 0.2 * abs(pose.turn)
    lean = (angle + 5 * pose.bend) * (-1 if flip else 1)

    def narrowed(frame: Canvas) -> Anchors:
        inner = draw(frame.frame(0, 0, stretch=squeeze), 0.05 * abs(pose.turn))
        inner.points = {name: (px * squeeze, py) for name, (px, py) in inner.points.items()}
        return inner

    return moved(canvas, narrowed, y=y, angle=lean, flip=flip)


def draw_sneaker(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a sneaker. Poses: side, front, above, tipped (on its toe)."""
    if pose.name == "front":
        return moved(canvas, lambda c: _sneaker_front(c, look, pose.turn), scale=1.15,
                     angle=4 * pose.bend)  # fmt: skip
    if pose.name == "above":
        angle = 36 * pose.turn + 8 * pose.bend
        return moved(canvas, lambda c: moved(c, lambda d: _sneaker_above(d, look), y=0.5),
                     y=-0.55, scale=0.95, angle=angle)  # fmt: skip
    draw = lambda c, shift: _sneaker_side(c, look, shift)  # noqa: E731
    if pose.name == "tipped":
        return _sideways(canvas, pose, draw, 26 + 6 * pose.bend, -0.24)
    return _sideways(canvas, pose, draw)


def _sample_boot(rng: random.Random) -> Look:
    kind = {
        "form": rng.choice(("cowboy", "rain", "laced", "fur")),
        "mark": rng.choice(("star", "flower", "heart", "none", "leaf")),
    }
    mains = LEATHERS if kind["form"] in ("cowboy", "laced") and rng.random() < 0.6 else PALETTE
    return Look(sample_colours(rng, mains), sample_shape(rng, "height", "width"), kind)


def _boot_side(canvas: Canvas, look: Look, shift: float) -> Anchors:
    main, second, accent = look.colours
    form = look.kind["form"]
    top = -between(0.78, 0.91, look.shape["height"])
    half = between(0.19, 0.24, look.shape["width"])
    cowboy = form == "cowboy"
    dark = shade(second, 0.6) if form != "rain" else second
    lift = 0.12 if cowboy else 0.07
    left, right = -0.14 - half, -0.14 + half
    canvas.ellipse(-0.14, top + 0.03, half, 0.06, shade(main, 0.4))
    toe = 0.53 if cowboy else 0.48
    shaft = [(left, top + 0.02), (left + 0.02, -0.4), (left - 0.02, -0.2), (left + 0.01, -lift)]
    front = [(toe, -lift), (toe - 0.02, -0.17 if cowboy else -0.22), (toe - 0.16, -0.26),
             (0.18, -0.32), (right - 0.02, -0.46), (right, top + 0.02)]  # fmt: skip
    dip = [(-0.14 + 0.1, top + 0.06), (-0.14, top + (0.13 if cowboy else 0.07)),
           (-0.24, top + 0.06)]  # fmt: skip
    canvas.polygon(shaft + front + dip, main)
    if form == "cowboy":
        canvas.curve([(left + 0.05, -0.3), (0.0, -0.42), (0.2, -0.28)], accent, 0.045)
        canvas.blob([(0.28, -lift), (0.32, -0.25), (0.42, -0.23), (toe, -lift)], second)
    elif form == "rain":
        canvas.rectangle(left, top + 0.05, right, top + 0.17, second)
        canvas.polygon([(0.26, -0.07), (0.28, -0.27), (0.4, -0.25), (0.47, -0.16), (0.48, -0.07)],
                       second)  # fmt: skip
    elif form == "laced":
        for k in range(4):
            y = -0.4 + (top + 0.52) * k / 3
            canvas.line([(right - 0.13, y + 0.03), (right + 0.01, y - 0.02)], accent, 0.045)
        canvas.blob([(0.26, -0.07), (0.28, -0.26), (0.4, -0.24), (0.49, -0.07)], shade(main, 0.7))
    if look.kind["mark"] != "none":
        emblem(canvas, look.kind["mark"], -0.16 + shift, top * 0.62, 0.115, second, accent)
    canvas.polygon([(left, top + 0.1), (left + 0.09, top + 0.1), (left + 0.1, -0.2),
                    (toe, -0.13), (toe, -lift), (left, -lift)], SHADOW)  # fmt: skip
    canvas.polygon([(right - 0.09, top + 0.2), (right - 0.04, top + 0.2), (right - 0.06, -0.5),
                    (right - 0.11, -0.5)], GLOSS)  # fmt: skip
    if cowboy:
        canvas.polygon([(left - 0.02, -0.14), (-0.06, -0.14), (-0.09, 0.0), (left + 0.02, 0.0)],
                       dark)  # fmt: skip
        canvas.polygon([(left, -0.15), (0.1, -0.12), (0.3, -0.06), (toe + 0.03, -0.12),
                        (toe - 0.04, -0.03), (0.25, 0.0), (0.02, -0.07), (left, -0.09)],
                       dark)  # fmt: skip
    else:
        canvas.rectangle(left - 0.03, -0.1, toe + 0.03, 0.0, dark, 0.04)
        canvas.rectangle(left - 0.02, -0.12, left + 0.2, 0.0, dark, 0.03)
    if form == "fur":
        for k in range(4):
            x = left + 2 * half * k / 3
            canvas.ellipse(x, top + 0.05, 0.1, 0.1, accent if k % 2 else shade(accent, 1.3))
    return anchors(top, 0.42, x=-0.14, head=half)


def _boot_front(canvas: Canvas, look: Look, turn: float) -> Anchors:
    main, second, accent = look.colours
    form = look.kind["form"]
    top = -between(0.78, 0.91, look.shape["height"])
    half = between(0.19, 0.24, look.shape["width"])
    back = -0.1 * turn
    left, right = back - half, back + half
    canvas.ellipse(back, top + 0.02, half, 0.07, shade(main, 0.4))
    canvas.polygon([(left, top + 0.02), (left + 0.02, -0.3), (-0.26, -0.08), (0.26, -0.08),
                    (right - 0.02, -0.3), (right, top + 0.02), (back, top + 0.09)],
                   main)  # fmt: skip
    toe = second if form in ("rain", "cowboy") else shade(main, 0.75)
    canvas.blob([(-0.27, -0.07), (-0.22, -0.24), (0, -0.32), (0.22, -0.24), (0.27, -0.07)], main)
    canvas.blob([(-0.25, -0.07), (-0.17, -0.18), (0, -0.22), (0.17, -0.18), (0.25, -0.07)], toe)
    if form == "rain":
        canvas.rectangle(left, top + 0.06, right, top + 0.18, second)
    if form == "laced":
        for k in range(4):
            x, y = back * k / 3, -0.38 + (top + 0.52) * k / 3
            canvas.line([(x - 0.11, y - 0.03), (x + 0.11, y + 0.03)], accent, 0.045)
    elif look.kind["mark"] != "none":
        emblem(canvas, look.kind["mark"], back, top * 0.62, 0.115, second, accent)
    canvas.polygon([(right - 0.1, top + 0.09), (right, top + 0.04), (right - 0.02, -0.3),
                    (0.26, -0.08), (0.15, -0.08), (right - 0.12, -0.34)], SHADOW)  # fmt: skip
    canvas.rectangle(-0.29, -0.1, 0.29, 0.0, second if form == "rain" else shade(second, 0.6), 0.04)
    if form == "fur":
        for k in range(4):
            x = left + 2 * half * k / 3
            canvas.ellipse(x, top + 0.05, 0.1, 0.1, accent if k % 2 else shade(accent, 1.3))
    return anchors(top, half, x=back)


def draw_boot(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a boot. Poses: side, front, tipped (falling forward)."""
    if pose.name == "front":
        return moved(canvas, lambda c: _boot_front(c, look, pose.turn), angle=5 * pose.bend)
    draw = lambda c, shift: _boot_side(c, look, shift)  # noqa: E731
    if pose.name == "tipped":
        return _sideways(canvas, pose, draw, 32 + 5 * pose.bend, -0.22)
    return _sideways(canvas, pose, draw)


SNEAKER = SubjectClass(
    "sneaker", False, ("side", "front", "above", "tipped"), _sample_sneaker, draw_sneaker
)
BOOT = SubjectClass("boot", False, ("side", "front", "tipped"), _sample_boot, draw_boot)
