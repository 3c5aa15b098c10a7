"""Dogs and cats of the picture-book world: looks, heads and bodies in several poses."""

from __future__ import annotations

import math
import random

from dreambooth_pl.miniature.canvas import Canvas, Colour, Point, mix, shade
from dreambooth_pl.miniature.look import Anchors, Look, Pose, SubjectClass

POSES = ("standing", "sitting", "lying", "running", "portrait")

DOG_COATS: dict[str, Colour] = {
    "brown": (139, 84, 44), "black": (45, 42, 46), "white": (240, 236, 226),
    "golden": (218, 162, 76), "grey": (132, 134, 142), "red-brown": (172, 84, 40),
    "cream": (234, 208, 164), "chocolate": (88, 52, 34),
}  # fmt: skip
CAT_COATS: dict[str, Colour] = {
    "orange": (230, 142, 54), "black": (46, 44, 52), "white": (242, 240, 236),
    "grey": (126, 130, 142), "brown": (132, 96, 64), "cream": (236, 212, 176),
    "blue-grey": (98, 112, 136),
}  # fmt: skip
COLLARS: tuple[Colour, ...] = (
    (206, 40, 44), (36, 96, 190), (40, 150, 74), (240, 180, 30), (140, 66, 160), (30, 176, 184),
)  # fmt: skip
_EYES: tuple[Colour, ...] = ((58, 34, 20), (104, 62, 24), (70, 120, 170))
_CAT_EYES: tuple[Colour, ...] = ((150, 190, 60), (236, 190, 50), (90, 170, 220), (70, 170, 110))
_BLACK = (26, 22, 24)


def _contrasting(rng: random.Random, coats: dict[str, Colour], main: str) -> Colour:
    light = sum(coats[main]) > 380
    names = [n for n, c in coats.items() if n != main and (sum(c) > 380) != light]
    return coats[rng.choice(names)]


def sample_dog(rng: random.Random) -> Look:
    """A dog: coat, markings, ears, tail and build drawn independently."""
    main = rng.choice(list(DOG_COATS))
    return Look(
        colours=(
            DOG_COATS[main],
            _contrasting(rng, DOG_COATS, main),
            rng.choice(COLLARS),
            rng.choice(_EYES),
        ),
        shape={
            **{k: rng.random() for k in ("legs", "length", "girth", "head", "snout", "ear")},
            "seed": rng.random(),
        },
        kind={
            "coat": main,
            "ears": rng.choice(("floppy", "pointed", "folded", "long")),
            "pattern": rng.choice(
                ("plain", "belly", "patches", "saddle", "spots", "mask", "blaze", "socks")
            ),
            "tail": rng.choice(("long", "curl", "bushy", "stub")),
            "collar": rng.choice(("yes", "no")),
        },
    )


def sample_cat(rng: random.Random) -> Look:
    """A cat: coat, markings, eyes and build drawn independently."""
    main = rng.choice(list(CAT_COATS))
    return Look(
        colours=(
            CAT_COATS[main],
            _contrasting(rng, CAT_COATS, main),
            rng.choice(COLLARS),
            rng.choice(_CAT_EYES),
        ),
        shape={
            **{k: rng.random() for k in ("legs", "length", "girth", "head", "snout", "ear")},
            "seed": rng.random(),
        },
        kind={
            "coat": main,
            "ears": "cat",
            "pattern": rng.choice(("plain", "tabby", "belly", "patches", "mask", "socks", "blaze")),
            "tail": rng.choice(("long", "long", "bushy")),
            "collar": rng.choice(("yes", "no", "no")),
        },
    )


def draw_dog(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a dog in the local frame of `SubjectClass`."""
    return _draw(canvas, look, pose, cat=False)


def draw_cat(canvas: Canvas, look: Look, pose: Pose) -> Anchors:
    """Draw a cat in the local frame of `SubjectClass`."""
    return _draw(canvas, look, pose, cat=True)


DOG = SubjectClass("dog", True, POSES, sample_dog, draw_dog)
CAT = SubjectClass("cat", True, POSES, sample_cat, draw_cat)


def _draw(canvas: Canvas, look: Look, pose: Pose, cat: bool) -> Anchors:
    body = {
        "standing": _standing, "running": _standing, "sitting": _sitting, "lying": _lying,
        "portrait": _portrait,
    }[pose.name]  # fmt: skip
    return body(canvas, look, pose, cat)


def _build(look: Look, cat: bool) -> tuple[float, float, float, float]:
    """Leg length, body length, half-thickness of the body, head radius."""
    s = look.shape
    legs = 0.17 + 0.15 * s["legs"] - (0.03 if cat else 0.0)
    length = 0.36 + 0.16 * s["length"]
    girth = 0.105 + 0.06 * s["girth"] - (0.015 if cat else 0.0)
    head = 0.165 + 0.05 * s["head"]
    return legs, length, girth, head


def _leg_colours(look: Look) -> tuple[Colour, Colour]:
    main, second = look.colours[:2]
    pattern = look.kind["pattern"]
    return main, second if pattern in ("socks", "belly", "patches", "blaze") else shade(main, 0.92)


def _leg(c: Canvas, top: Point, foot: Point, w: float, look: Look, far: bool) -> None:
    upper, sock = _leg_colours(look)
    if far:
        upper, sock = shade(upper, 0.74), shade(sock, 0.8)
    knee = ((top[0] + foot[0]) / 2, (top[1] + foot[1]) / 2)
    c.limb([top, knee, foot], upper, w * 1.25, w * 0.85)
    c.limb(
        [(knee[0] * 0.4 + foot[0] * 0.6, knee[1] * 0.4 + foot[1] * 0.6), foot], sock, w * 0.88,
        w * 0.88,
    )  # fmt: skip
    c.ellipse(foot[0] + w * 0.5, foot[1] - w * 0.2, w * 1.35, w * 0.8, sock)


def _tail(c: Canvas, root: Point, look: Look, up: float) -> None:
    x, y = root
    main, second = look.colours[:2]
    kind = look.kind["tail"]
    tip = second if look.kind["pattern"] in ("belly", "socks", "patches", "mask") else main
    if kind == "curl":
        c.curve([(x, y), (x - 0.1, y - 0.1), (x - 0.03, y - 0.2), (x + 0.05, y - 0.13)], main, 0.065)
    elif kind == "stub":
        c.limb([(x, y), (x - 0.07, y - 0.07)], main, 0.04, 0.03)
    elif kind == "bushy":
        c.limb([(x, y), (x - 0.13, y - 0.05 - up), (x - 0.22, y - 0.16 - up)], main, 0.045, 0.075)
        c.ellipse(x - 0.23, y - 0.18 - up, 0.06, 0.06, tip)
    else:
        c.limb(
            [(x, y), (x - 0.13, y - 0.02 - up), (x - 0.2, y - 0.15 - up), (x - 0.17, y - 0.24 - up)],
            main, 0.04, 0.026,
        )  # fmt: skip
        c.ellipse(x - 0.17, y - 0.24 - up, 0.032, 0.032, tip)


def _markings(c: Canvas, look: Look, rear: Point, chest: Point, half: float) -> None:
    """Coat pattern on a torso that runs from `rear` to `chest` with half-thickness `half`."""
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


def _head(
    canvas: Canvas, look: Look, pose: Pose, at: Point, r: float, cat: bool, tilt: float = 0.0
) -> None:
    """A face turned by `pose.turn`, centred at `at`, of radius `r`."""
    c = canvas.frame(at[0], at[1], r, tilt)
    main, second = look.colours[:2]
    eye = look.colours[3]
    pattern, ears = look.kind["pattern"], look.kind["ears"]
    t = pose.turn
    snout = look.shape["snout"]
    ear_size = 0.8 + 0.45 * look.shape["ear"]
    dark_points = pattern == "mask"
    ear_colour = second if dark_points or pattern in ("spots", "patches") else shade(main, 0.8)
    if ears == "cat":
        for side in (-1, 1):
            x = side * 0.55 + t * 0.08
            h = 0.95 * ear_size
            c.polygon(
                [(x - 0.36, -0.4), (x + side * 0.16, -0.55 - h * 0.75), (x + 0.36, -0.4)],
                second if dark_points else main,
            )
            c.polygon(
                [(x - 0.17, -0.5), (x + side * 0.12, -0.5 - h * 0.5), (x + 0.18, -0.5)],
                (232, 160, 160),
            )
    elif ears == "pointed":
        for side in (-1, 1):
            x = side * 0.56 + t * 0.1
            c.polygon(
                [(x - 0.34, -0.35), (x + side * 0.2, -0.7 - 0.72 * ear_size), (x + 0.34, -0.35)],
                ear_colour,
            )
            c.polygon(
                [(x - 0.14, -0.5), (x + side * 0.14, -0.6 - 0.46 * ear_size), (x + 0.15, -0.5)],
                mix(ear_colour, (226, 150, 140), 0.6),
            )
    c.ellipse(0, 0, 0.94, 0.86, main)
    if pattern == "blaze":
        c.blob([(t * 0.3 - 0.1, -0.86), (t * 0.3 + 0.1, -0.86), (t * 0.35 + 0.28, 0.5),
                (t * 0.35 - 0.28, 0.5)], second)  # fmt: skip
    elif pattern == "patches":
        side = 1 if look.shape["seed"] > 0.5 else -1
        c.ellipse(side * 0.44 + t * 0.2, -0.14, 0.36, 0.42, second)
    elif pattern == "saddle":
        c.ellipse(t * 0.1, -0.56, 0.6, 0.3, second)
    elif pattern == "spots":
        c.ellipse(-0.5 + t * 0.1, -0.5, 0.17, 0.17, second)
        c.ellipse(0.62 + t * 0.1, 0.26, 0.14, 0.14, second)
    elif pattern == "tabby":
        for x in (-0.3, 0.0, 0.3):
            c.line([(x + t * 0.15, -0.8), (x * 0.8 + t * 0.15, -0.42)], shade(main, 0.6), 0.13)
    mx, my = t * 0.34, 0.36
    muzzle = (
        second if pattern in ("belly", "blaze", "mask", "socks", "patches") else shade(main, 1.22)
    )
    if cat:
        if dark_points:
            c.ellipse(mx, 0.16, 0.55, 0.52, second)
        c.ellipse(mx - 0.2, my, 0.28, 0.23, muzzle)
        c.ellipse(mx + 0.2, my, 0.28, 0.23, muzzle)
    else:
        c.ellipse(mx, my, 0.46 + 0.1 * snout, 0.34 + 0.2 * snout, muzzle)
    dark_face = sum(main) < 200 or (dark_points and sum(second) < 200)
    for side in (-1, 1):
        ex, ey = side * (0.42 - 0.05 * abs(t)) + t * 0.2, -0.12
        if cat:
            c.ellipse(ex, ey, 0.22, 0.2, eye)
            c.ellipse(ex + t * 0.04, ey, 0.09, 0.18, _BLACK)
        else:
            if dark_face:
                c.ellipse(ex, ey, 0.2, 0.2, (226, 214, 196))
            c.ellipse(ex, ey, 0.17, 0.18, eye)
            c.ellipse(ex + t * 0.04, ey, 0.1, 0.12, _BLACK)
        c.ellipse(ex + 0.05, ey - 0.07, 0.055, 0.055, (255, 255, 255))
    if cat:
        c.polygon(
            [(mx - 0.12, my - 0.2), (mx + 0.12, my - 0.2), (mx, my - 0.05)], (222, 120, 124)
        )
        c.curve([(mx - 0.2, my + 0.02), (mx, my + 0.12), (mx + 0.2, my + 0.02)], _BLACK, 0.05)
    else:
        ny = my - 0.12 - 0.08 * snout
        c.ellipse(mx + t * 0.08, ny, 0.19, 0.14, _BLACK)
        dark_muzzle = sum(muzzle) < 240
        if pose.bend > 0.2:
            c.ellipse(mx, my + 0.28 + 0.1 * snout, 0.13, 0.2, (232, 110, 122))
        c.curve(
            [(mx - 0.22, my + 0.1), (mx, my + 0.2), (mx + 0.22, my + 0.1)],
            (110, 96, 90) if dark_muzzle else (70, 44, 40), 0.06,
        )  # fmt: skip
    if ears in ("floppy", "long"):
        drop = (0.75 if ears == "floppy" else 1.2) * ear_size
        for side in (-1, 1):
            x = side * 0.84 + t * 0.12
            c.blob(
                [(x - side * 0.25, -0.66), (x + side * 0.16, -0.52), (x + side * 0.28, drop * 0.35),
                 (x + side * 0.02, drop * 0.72), (x - side * 0.16, drop * 0.3)], ear_colour,
            )  # fmt: skip
    elif ears == "folded":
        for side in (-1, 1):
            x = side * 0.6 + t * 0.1
            c.polygon(
                [(x - 0.3, -0.55), (x + 0.02 * side, -0.55 - 0.5 * ear_size), (x + 0.3, -0.55)],
                ear_colour,
            )
            c.polygon(
                [(x - side * 0.16, -0.62 - 0.24 * ear_size), (x + side * 0.5, -0.62),
                 (x + side * 0.42, -0.16), (x + side * 0.12, -0.5)], shade(ear_colour, 0.8),
            )  # fmt: skip


def _collar(c: Canvas, look: Look, at: Point, half: float, angle: float = 0.0) -> None:
    if look.kind["collar"] == "yes":
        c.ellipse(at[0], at[1], half, half * 0.34, look.colours[2], angle)


def _neck(c: Canvas, look: Look, chest: Point, head: Point, half: float, r: float) -> None:
    c.limb([chest, head], look.colours[0], half * 0.9, r * 0.62)


def _anchors(
    head: Point, r: float, neck: Point, neck_half: float, chest: Point, rear: Point, half: float,
    legs: tuple[tuple[Point, Point], ...], tilt: float = 0.0,
) -> Anchors:  # fmt: skip
    points = {
        "head": head, "neck": neck, "chest": chest, "rear": rear,
        "head_top": (head[0], head[1] - r * 0.72), "eyes": (head[0], head[1] - r * 0.12),
        "belly": ((chest[0] + rear[0]) / 2, (chest[1] + rear[1]) / 2),
    }  # fmt: skip
    for i, (top, foot) in enumerate(legs):
        points[f"leg{i}_top"], points[f"leg{i}_foot"] = top, foot
    sizes = {"head": r, "head_top": r, "eyes": r, "neck": neck_half, "chest": half, "rear": half,
             "belly": half}  # fmt: skip
    return Anchors(points, sizes, tilt)


def _standing(c: Canvas, look: Look, pose: Pose, cat: bool) -> Anchors:
    legs, length, half, r = _build(look, cat)
    running = pose.name == "running"
    y = -legs - half + (-0.05 if running else 0.0)
    rear = (-length / 2 - 0.06, y + (0.02 if running else 0.0))
    chest = (length / 2 - 0.06, y - 0.02)
    reach = 0.13 if running else 0.02 + 0.03 * pose.bend
    foot_y = -0.045 if running else -0.02
    w = 0.036 + 0.018 * look.shape["girth"]
    far = (
        ((rear[0] + 0.06, y), (rear[0] + 0.06 + reach * 0.7, foot_y)),
        ((chest[0] - 0.05, y), (chest[0] - 0.05 - reach * 0.7, foot_y)),
    )
    near = (
        ((rear[0], y + half * 0.3), (rear[0] - reach, foot_y)),
        ((chest[0] + 0.01, y + half * 0.3), (chest[0] + 0.01 + reach, foot_y)),
    )
    head = (chest[0] + 0.12, y - half - r * (0.75 + 0.25 * pose.bend))
    _tail(c, (rear[0] - half * 0.6, y - half * 0.3), look, 0.05 + 0.05 * pose.bend)
    for top, foot in far:
        _leg(c, top, foot, w, look, far=True)
    c.limb([rear, ((rear[0] + chest[0]) / 2, y), chest], look.colours[0], half, half * 1.08)
    _markings(c, look, rear, chest, half)
    for top, foot in near:
        _leg(c, top, foot, w, look, far=False)
    _neck(c, look, chest, head, half, r)
    neck = (chest[0] + 0.07, y - half * 0.75)
    _collar(c, look, neck, r * 0.72, 25)
    _head(c, look, pose, head, r, cat, 4 * pose.bend)
    return _anchors(head, r, neck, r * 0.72, chest, rear, half, near + far, 4 * pose.bend)


def _sitting(c: Canvas, look: Look, pose: Pose, cat: bool) -> Anchors:
    legs, length, half, r = _build(look, cat)
    main, sock = _leg_colours(look)
    height = 0.3 + 0.5 * legs + 0.2 * length
    wide = half * 1.55
    lean = 0.05 * pose.turn
    chest, rear = (lean, -height), (0.0, -wide * 0.85)
    head = (lean * 1.6, -height - r * 0.85)
    _tail(c, (-wide * 0.7, -0.07), look, 0.02)
    c.limb([rear, chest], main, wide, half * 1.1)
    _markings(c, look, rear, chest, half * 1.1)
    for side in (-1, 1):
        c.ellipse(side * wide * 0.85, -0.1, 0.1, 0.1, shade(main, 0.88))
        c.ellipse(side * wide * 1.0, -0.04, 0.1, 0.045, sock)
    if look.kind["pattern"] in ("belly", "blaze", "socks"):
        c.ellipse(lean, -height * 0.72, half * 0.6, height * 0.3, look.colours[1])
    w = 0.04 + 0.015 * look.shape["girth"]
    front = tuple(
        ((lean + side * half * 0.55, -height * 0.75), (side * half * 0.6, -0.03))
        for side in (-1, 1)
    )
    for top, foot in front:
        c.limb([top, foot], shade(main, 0.94), w, w * 0.9)
        c.limb([(foot[0], foot[1] - 0.07), foot], sock, w * 0.92, w * 0.92)
        c.ellipse(foot[0], foot[1], w * 1.3, w * 0.8, sock)
    _neck(c, look, chest, head, half, r)
    neck = (lean * 1.2, -height - r * 0.05)
    _collar(c, look, neck, r * 0.66)
    tilt = 8 * pose.bend
    _head(c, look, pose, head, r * 1.1, cat, tilt)
    collar_bone = (lean, -height + half * 1.0)
    return _anchors(head, r * 1.1, neck, r * 0.66, collar_bone, rear, half * 1.2, front, tilt)


def _lying(c: Canvas, look: Look, pose: Pose, cat: bool) -> Anchors:
    _, length, half, r = _build(look, cat)
    main, sock = _leg_colours(look)
    y = -half * 1.05
    rear, chest = (-length / 2 - 0.1, y), (length / 2 - 0.06, y - 0.03)
    _tail(c, (rear[0] - half * 0.5, -0.06), look, -0.02)
    c.limb([rear, ((rear[0] + chest[0]) / 2, y - 0.01), chest], main, half * 1.1, half * 1.05)
    _markings(c, look, rear, chest, half)
    c.ellipse(rear[0] + 0.05, -half * 0.75, half * 0.95, half * 0.75, shade(main, 0.9))
    c.limb([(rear[0] + 0.02, -0.035), (rear[0] + 0.2, -0.035)], sock, 0.038, 0.036)
    paw = (chest[0] + 0.22, -0.035)
    c.limb([(chest[0], -0.08), paw], shade(main, 0.94), 0.05, 0.04)
    c.limb([(paw[0] - 0.05, -0.035), paw], sock, 0.042, 0.044)
    head = (chest[0] + 0.1, y - half - r * (0.6 + 0.3 * pose.bend))
    _neck(c, look, chest, head, half, r)
    neck = (chest[0] + 0.05, y - half * 0.75)
    _collar(c, look, neck, r * 0.7, 20)
    _head(c, look, pose, head, r * 1.05, cat, 6 * pose.bend)
    legs = (((chest[0], -0.08), paw),)
    return _anchors(head, r * 1.05, neck, r * 0.7, chest, rear, half, legs, 6 * pose.bend)


def _portrait(c: Canvas, look: Look, pose: Pose, cat: bool) -> Anchors:
    _, _, half, r = _build(look, cat)
    main = look.colours[0]
    big = r * 1.9
    wide = half * 2.5
    lean = 0.06 * pose.turn
    chest, rear = (lean, -0.26), (0.0, 0.02)
    head = (lean * 1.5, -0.3 - big * 0.85)
    c.limb([rear, chest], main, wide * 1.05, wide * 0.85)
    _markings(c, look, rear, (lean, -0.3), wide * 0.8)
    if look.kind["pattern"] in ("belly", "blaze", "socks"):
        c.ellipse(lean, -0.14, wide * 0.5, 0.2, look.colours[1])
    _neck(c, look, chest, head, wide * 0.7, big)
    neck = (lean * 1.2, -0.3)
    _collar(c, look, neck, big * 0.66)
    tilt = 7 * pose.bend
    _head(c, look, pose, head, big, cat, tilt)
    shoulders, below = (lean, 0.0), (0.0, 0.3)
    return _anchors(head, big, neck, big * 0.66, shoulders, below, wide * 0.78, (), tilt)
