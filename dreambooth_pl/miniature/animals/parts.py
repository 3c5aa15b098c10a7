"""Legs, tails, markings and other parts of dogs and cats that their poses share."""

from __future__ import annotations

import math
import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, Point, shade
from dreambooth_pl.miniature.look import Anchors, Look


def build(look: Look, cat: bool) -> tuple[float, float, float, float]:
    """Return leg length, body length, half-thickness of the body and head radius."""
    s = look.shape
    legs = 0.17 + 0.15 * s["legs"] - (0.03 if cat else 0.0)
    length = 0.36 + 0.16 * s["length"]
    girth = 0.105 + 0.06 * s["girth"] - (0.015 if cat else 0.0)
    head = 0.165 + 0.05 * s["head"]
    return legs, length, girth, head


def leg_colours(look: Look) -> tuple[Colour, Colour]:
    """Return the colours of the upper and the lower leg."""
    main, second = look.colours[:2]
    pattern = look.kind["pattern"]
    return main, second if pattern in ("socks", "belly", "patches", "blaze") else shade(main, 0.92)


def draw_leg(c: Canvas, top: Point, foot: Point, w: float, look: Look, far: bool) -> None:
    """Draw a leg from hip or shoulder to the foot. Legs on the far side are darker."""
    upper, sock = leg_colours(look)
    if far:
        upper, sock = shade(upper, 0.74), shade(sock, 0.8)
    knee = ((top[0] + foot[0]) / 2, (top[1] + foot[1]) / 2)
    c.limb([top, knee, foot], upper, w * 1.25, w * 0.85)
    c.limb(
        [(knee[0] * 0.4 + foot[0] * 0.6, knee[1] * 0.4 + foot[1] * 0.6), foot],
        sock,
        w * 0.88,
        w * 0.88,
    )
    c.ellipse(foot[0] + w * 0.5, foot[1] - w * 0.2, w * 1.35, w * 0.8, sock)


def draw_tail(c: Canvas, root: Point, look: Look, up: float) -> None:
    """Draw the tail from its root. `up` raises it."""
    x, y = root
    main, second = look.colours[:2]
    kind = look.kind["tail"]
    tip = second if look.kind["pattern"] in ("belly", "socks", "patches", "mask") else main
    if kind == "curl":
        c.curve(
            [(x, y), (x - 0.1, y - 0.1), (x - 0.03, y - 0.2), (x + 0.05, y - 0.13)], main, 0.065
        )
    elif kind == "stub":
        c.limb([(x, y), (x - 0.07, y - 0.07)], main, 0.04, 0.03)
    elif kind == "bushy":
        c.limb([(x, y), (x - 0.13, y - 0.05 - up), (x - 0.22, y - 0.16 - up)], main, 0.045, 0.075)
        c.ellipse(x - 0.23, y - 0.18 - up, 0.06, 0.06, tip)
    else:
        c.limb(
            [
                (x, y),
                (x - 0.13, y - 0.02 - up),
                (x - 0.2, y - 0.15 - up),
                (x - 0.17, y - 0.24 - up),
            ],
            main,
            0.04,
            0.026,
        )
        c.ellipse(x - 0.17, y - 0.24 - up, 0.032, 0.032, tip)


def draw_markings(c: Canvas, look: Look, rear: Point, chest: Point, half: float) -> None:
    """Draw the coat's pattern on a torso from `rear` to `chest` with half-thickness `half`."""
    second = look.colours[1]
    dx, dy = chest[0] - rear[0], chest[1] - rear[1]
    length = math.hypot(dx, dy)
    nx, ny = -dy / length * half, dx / length * half
    if ny < 0:
        nx, ny = -nx, -ny

    def at(t: float, o: float) -> Point:
        return rear[0] + dx * t + nx * o, rear[1] + dy * t + ny * o

    angle = math.degrees(math.atan2(dy, dx))
    pattern = look.kind["pattern"]
    rng = random.Random(look.shape["seed"])
    if pattern == "belly":
        c.ellipse(*at(0.55, 0.62), length * 0.52, half * 0.42, second, angle)
        c.ellipse(*at(1.08, 0.1), half * 0.5, half * 0.72, second, angle)
    elif pattern == "saddle":
        c.ellipse(*at(0.42, -0.4), length * 0.5, half * 0.66, second, angle)
    elif pattern == "patches":
        for t in (rng.uniform(0.02, 0.2), rng.uniform(0.5, 0.7), rng.uniform(0.85, 1.0)):
            r = rng.uniform(0.5, 0.75) * half
            c.ellipse(*at(t, rng.uniform(-0.4, 0.25)), r * 1.2, r * 0.9, second, rng.uniform(0, 90))
    elif pattern == "spots":
        for i in range(7):
            t = i / 6 * 1.1 - 0.05 + rng.uniform(-0.05, 0.05)
            r = rng.uniform(0.2, 0.3) * half
            c.ellipse(*at(t, rng.choice((-0.5, 0.05, 0.5)) + rng.uniform(-0.1, 0.1)), r, r, second)
    elif pattern == "tabby":
        for i in range(5):
            t = i / 4 * 0.96
            c.line([at(t, -0.95), at(t + 0.03, 0.25)], shade(look.colours[0], 0.6), 0.034)


def draw_collar(c: Canvas, look: Look, at: Point, half: float, angle: float = 0.0) -> None:
    """Draw the collar if the animal wears one."""
    if look.kind["collar"] == "yes":
        c.ellipse(at[0], at[1], half, half * 0.34, look.colours[2], angle)


def draw_neck(c: Canvas, look: Look, chest: Point, head: Point, half: float, r: float) -> None:
    """Draw the neck between chest and head."""
    c.limb([chest, head], look.colours[0], half * 0.9, r * 0.62)


def anchors_of(
    head: Point,
    r: float,
    neck: Point,
    neck_half: float,
    chest: Point,
    rear: Point,
    half: float,
    legs: tuple[tuple[Point, Point], ...],
    tilt: float = 0.0,
) -> Anchors:
    """Return the anchors of an animal.

    Args:
        head: centre of the head.
        r: radius of the head.
        neck: centre of the neck.
        neck_half: half-width of the neck.
        chest, rear: ends of the torso.
        half: half-thickness of the torso.
        legs: top and foot of each leg.
        tilt: rotation of the head in degrees.
    """
    points = {
        "head": head,
        "neck": neck,
        "chest": chest,
        "rear": rear,
        "head_top": (head[0], head[1] - r * 0.72),
        "eyes": (head[0], head[1] - r * 0.12),
        "belly": ((chest[0] + rear[0]) / 2, (chest[1] + rear[1]) / 2),
    }
    for i, (top, foot) in enumerate(legs):
        points[f"leg{i}_top"], points[f"leg{i}_foot"] = top, foot
    sizes = {
        "head": r,
        "head_top": r,
        "eyes": r,
        "neck": neck_half,
        "chest": half,
        "rear": half,
        "belly": half,
    }
    return Anchors(points, sizes, tilt)
