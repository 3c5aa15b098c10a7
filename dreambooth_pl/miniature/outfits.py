"""Clothing and accessories, placed on a drawn subject by its anchors."""

from __future__ import annotations

import math
from collections.abc import Callable

from dreambooth_pl.miniature.canvas import Canvas, Colour, Point, shade
from dreambooth_pl.miniature.look import Anchors

RED: Colour = (214, 38, 40)
PURPLE: Colour = (126, 52, 168)
_WHITE: Colour = (246, 246, 244)
_BLACK: Colour = (30, 28, 32)
_GOLD: Colour = (246, 200, 50)


def _between(a: Point, b: Point, t: float) -> Point:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


def _torso(anchors: Anchors, start: float, end: float) -> tuple[Point, Point, float]:
    """Return the ends of a stretch of the torso, 0 (chest) to 1 (rear), and its half-width."""
    chest, rear = anchors.points["chest"], anchors.points["rear"]
    return _between(chest, rear, start), _between(chest, rear, end), anchors.sizes["chest"]


def shirt(c: Canvas, anchors: Anchors, colour: Colour) -> None:
    """Draw a short-sleeved shirt over the front of the torso."""
    start, end, half = _torso(anchors, -0.04, 0.62)
    c.limb([start, end], colour, half * 1.08, half * 1.16)
    lower, hem, _ = _torso(anchors, 0.5, 0.64)
    c.limb([lower, hem], shade(colour, 0.8), half * 1.15, half * 1.17)
    c.limb([start, lower], colour, half * 1.08, half * 1.12)
    for i in (0, 1, 2, 3):
        top, foot = anchors.points.get(f"leg{i}_top"), anchors.points.get(f"leg{i}_foot")
        front = top is not None and abs(top[0] - start[0]) < half * 1.4
        if top is not None and foot is not None and front:
            c.limb([top, _between(top, foot, 0.42)], shade(colour, 0.88), half * 0.46, half * 0.42)


def shorts(c: Canvas, anchors: Anchors, colour: Colour) -> None:
    """Draw short trousers over the hind part."""
    start, end, half = _torso(anchors, 0.7, 1.04)
    c.limb([start, end], colour, half * 1.14, half * 1.16)
    for i in (0, 1, 2, 3):
        top, foot = anchors.points.get(f"leg{i}_top"), anchors.points.get(f"leg{i}_foot")
        hind = top is not None and abs(top[0] - end[0]) < half * 1.2
        if top is not None and foot is not None and hind:
            c.limb([top, _between(top, foot, 0.5)], shade(colour, 0.88), half * 0.5, half * 0.48)


def _across(anchors: Anchors, t: float, width: float) -> list[Point]:
    """Return the ends of a line across the torso at `t`, `width` chest half-widths to each side."""
    middle, beyond, half = _torso(anchors, t, t + 0.1)
    dx, dy = beyond[0] - middle[0], beyond[1] - middle[1]
    length = math.hypot(dx, dy) or 1.0
    over = (-dy / length * half * width, dx / length * half * width)
    return [
        (middle[0] - over[0], middle[1] - over[1]),
        (middle[0] + over[0], middle[1] + over[1]),
    ]


def _shirt_without_limbs(c: Canvas, anchors: Anchors, colour: Colour) -> None:
    """Draw a shirt on something without limbs. Its sleeves stick out at the sides."""
    (x, top), half = anchors.points["neck"], anchors.sizes["chest"]
    hem = anchors.points["rear"][1]
    for side in (-1, 1):
        shoulder = (x + side * half * 0.8, top + half * 0.3)
        cuff = (x + side * half * 1.3, top + (hem - top) * 0.55)
        c.limb([shoulder, cuff], shade(colour, 0.88), half * 0.26, half * 0.22)
    c.polygon(
        [
            (x - half * 0.7, top),
            (x + half * 0.7, top),
            (x + half * 1.06, top + (hem - top) * 0.3),
            (x + half * 1.1, hem),
            (x - half * 1.1, hem),
            (x - half * 1.06, top + (hem - top) * 0.3),
        ],
        colour,
    )
    c.ellipse(x, top, half * 0.3, half * 0.12, shade(colour, 0.7))


def red_t_shorts(c: Canvas, anchors: Anchors) -> None:
    """Draw a red shirt with red shorts, white at the waist."""
    if "leg0_top" not in anchors.points:
        _shirt_without_limbs(c, anchors, RED)
        hem = anchors.points["rear"][1]
        x, half = anchors.points["neck"][0], anchors.sizes["chest"]
        c.line([(x - half * 1.08, hem), (x + half * 1.08, hem)], _WHITE, half * 0.14)
        return
    shorts(c, anchors, RED)
    shirt(c, anchors, RED)
    c.line(_across(anchors, 0.6, 1.04), _WHITE, anchors.sizes["chest"] * 0.16)


def _on_head(c: Canvas, anchors: Anchors) -> Canvas:
    x, y = anchors.points["head_top"]
    return c.frame(x, y, anchors.sizes["head_top"], anchors.angle)


def red_hat(c: Canvas, anchors: Anchors) -> None:
    """Draw a red hat with a brim."""
    h = _on_head(c, anchors)
    h.rectangle(-0.58, -0.7, 0.58, 0.05, RED, 0.25)
    h.rectangle(-0.58, -0.2, 0.58, 0.05, shade(RED, 0.6))
    h.ellipse(0, 0.06, 1.0, 0.17, shade(RED, 0.86))


def santa_hat(c: Canvas, anchors: Anchors) -> None:
    """Draw a red pointed cap with white fur and a bobble."""
    h = _on_head(c, anchors)
    h.blob(
        [(-0.72, 0.02), (-0.3, -0.7), (0.35, -1.0), (0.95, -0.55), (0.6, -0.5), (0.72, 0.02)], RED
    )
    h.rectangle(-0.84, -0.14, 0.84, 0.18, _WHITE, 0.16)
    h.ellipse(0.98, -0.5, 0.22, 0.22, _WHITE)


def rainbow_scarf(c: Canvas, anchors: Anchors) -> None:
    """Draw a scarf in rainbow stripes around the neck with one end hanging."""
    x, y = anchors.points["neck"]
    half = anchors.sizes["neck"] * 1.15
    bands = ((228, 48, 48), (246, 150, 40), (250, 220, 60), (70, 180, 80), (60, 120, 220))
    for i, colour in enumerate(bands):
        c.ellipse(x, y + half * (0.02 + 0.12 * (i - 2)), half, half * 0.26, colour)
    for i, colour in enumerate(bands):
        c.rectangle(
            x + half * 0.2,
            y + half * (0.2 + 0.2 * i),
            x + half * 0.66,
            y + half * (0.42 + 0.2 * i),
            colour,
        )


def top_hat_and_monocle(c: Canvas, anchors: Anchors) -> None:
    """Draw a black top hat and a monocle."""
    h = _on_head(c, anchors)
    h.rectangle(-0.56, -1.05, 0.56, 0.05, _BLACK)
    h.rectangle(-0.56, -0.26, 0.56, -0.06, (150, 40, 50))
    h.ellipse(0, 0.05, 0.98, 0.15, _BLACK)
    x, y = anchors.points["eyes"]
    r = anchors.sizes["eyes"]
    c.ellipse(x + r * 0.42, y, r * 0.34, r * 0.34, _GOLD)
    c.ellipse(x + r * 0.42, y, r * 0.25, r * 0.25, (222, 240, 250, 150))
    c.curve(
        [(x + r * 0.7, y + r * 0.1), (x + r * 0.86, y + r * 0.5), (x + r * 0.8, y + r * 0.9)],
        _GOLD,
        r * 0.07,
    )


def chef(c: Canvas, anchors: Anchors) -> None:
    """Draw a white jacket with buttons and a chef's hat."""
    shirt(c, anchors, _WHITE)
    start, end, half = _torso(anchors, 0.1, 0.5)
    for t in (0.1, 0.4, 0.7):
        c.ellipse(*_between(start, end, t), half * 0.12, half * 0.12, (90, 90, 100))
    h = _on_head(c, anchors)
    for x in (-0.5, 0.0, 0.5):
        h.ellipse(x, -0.66, 0.44, 0.4, _WHITE)
    h.rectangle(-0.6, -0.6, 0.6, 0.08, (228, 230, 236))


def firefighter(c: Canvas, anchors: Anchors) -> None:
    """Draw a dark jacket with yellow bands and a red helmet with a badge."""
    shirt(c, anchors, (60, 58, 70))
    start, end, half = _torso(anchors, 0.3, 0.36)
    c.limb([start, end], (240, 230, 60), half * 0.95, half * 0.95)
    start, end, _ = _torso(anchors, 0.0, 0.2)
    c.limb([start, end], (60, 58, 70), half * 1.08, half * 1.1)
    h = _on_head(c, anchors)
    h.blob([(-0.75, 0.05), (-0.6, -0.55), (0, -0.8), (0.6, -0.55), (0.75, 0.05)], (222, 52, 30))
    h.ellipse(0, 0.06, 1.08, 0.17, (190, 40, 26))
    h.polygon([(-0.22, -0.5), (0.22, -0.5), (0, -0.06)], _GOLD)


def police(c: Canvas, anchors: Anchors) -> None:
    """Draw a blue shirt with a badge and a peaked cap."""
    blue = (36, 62, 140)
    shirt(c, anchors, blue)
    x, y = _torso(anchors, 0.2, 0.5)[0]
    half = anchors.sizes["chest"]
    c.ellipse(x, y, half * 0.26, half * 0.26, _GOLD)
    h = _on_head(c, anchors)
    h.blob(
        [(-0.86, -0.3), (-0.5, -0.72), (0.5, -0.72), (0.86, -0.3), (0.6, -0.12), (-0.6, -0.12)],
        blue,
    )
    h.rectangle(-0.62, -0.22, 0.62, 0.02, shade(blue, 0.6))
    h.ellipse(0, 0.06, 0.66, 0.14, _BLACK)
    h.ellipse(0, -0.4, 0.15, 0.15, _GOLD)


def pink_glasses(c: Canvas, anchors: Anchors) -> None:
    """Draw pink glasses."""
    x, y = anchors.points["eyes"]
    g = c.frame(x, y, anchors.sizes["eyes"], anchors.angle)
    pink = (250, 84, 170)
    for side in (-1, 1):
        g.ellipse(side * 0.43, 0, 0.37, 0.34, pink)
        g.ellipse(side * 0.43, 0, 0.23, 0.2, (255, 214, 236))
    g.line([(-0.12, 0), (0.12, 0)], pink, 0.12)


def yellow_shirt(c: Canvas, anchors: Anchors) -> None:
    """Draw a yellow shirt."""
    shirt(c, anchors, (250, 214, 40))


def purple_wizard(c: Canvas, anchors: Anchors) -> None:
    """Draw a purple gown and a tall pointed hat with golden dots."""
    start, end, half = _torso(anchors, -0.04, 1.0)
    c.limb([start, end], PURPLE, half * 1.1, half * 1.24)
    for t, o in ((0.2, -0.4), (0.55, 0.3), (0.85, -0.2)):
        x, y = _between(start, end, t)
        c.ellipse(x, y + o * half, half * 0.15, half * 0.15, _GOLD)
    h = _on_head(c, anchors)
    h.polygon([(-0.68, 0.05), (0.12, -1.45), (0.68, 0.05)], PURPLE)
    h.ellipse(0, 0.06, 1.02, 0.17, shade(PURPLE, 0.8))
    h.ellipse(-0.1, -0.35, 0.14, 0.14, _GOLD)
    h.ellipse(0.16, -0.78, 0.1, 0.1, _GOLD)


OUTFITS: dict[str, Callable[[Canvas, Anchors], None]] = {
    "in red t-shorts": red_t_shorts,
    "wearing a red hat": red_hat,
    "wearing a santa hat": santa_hat,
    "wearing a rainbow scarf": rainbow_scarf,
    "wearing a black top hat and a monocle": top_hat_and_monocle,
    "in a chef outfit": chef,
    "in a firefighter outfit": firefighter,
    "in a police outfit": police,
    "wearing pink glasses": pink_glasses,
    "wearing a yellow shirt": yellow_shirt,
    "in a purple wizard outfit": purple_wizard,
}
"""Caption phrase -> the function that draws the outfit on a subject in its local frame."""
