"""The poses of dogs and cats: standing, running, sitting, lying and portrait."""

from __future__ import annotations

from dreambooth_pl.miniature.animals.head import draw_head
from dreambooth_pl.miniature.animals.parts import (
    anchors_of,
    build,
    draw_collar,
    draw_leg,
    draw_markings,
    draw_neck,
    draw_tail,
    leg_colours,
)
from dreambooth_pl.miniature.canvas import Canvas, shade
from dreambooth_pl.miniature.look import Anchors, Look, Pose

POSES = ("standing", "sitting", "lying", "running", "portrait")


def draw(canvas: Canvas, look: Look, pose: Pose, cat: bool) -> Anchors:
    """Draw a dog or a cat, as `SubjectClass.draw` does."""
    body = {
        "standing": _standing,
        "running": _standing,
        "sitting": _sitting,
        "lying": _lying,
        "portrait": _portrait,
    }[pose.name]
    return body(canvas, look, pose, cat)


def _standing(c: Canvas, look: Look, pose: Pose, cat: bool) -> Anchors:
    legs, length, half, r = build(look, cat)
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
    draw_tail(c, (rear[0] - half * 0.6, y - half * 0.3), look, 0.05 + 0.05 * pose.bend)
    for top, foot in far:
        draw_leg(c, top, foot, w, look, far=True)
    c.limb([rear, ((rear[0] + chest[0]) / 2, y), chest], look.colours[0], half, half * 1.08)
    draw_markings(c, look, rear, chest, half)
    for top, foot in near:
        draw_leg(c, top, foot, w, look, far=False)
    draw_neck(c, look, chest, head, half, r)
    neck = (chest[0] + 0.07, y - half * 0.75)
    draw_collar(c, look, neck, r * 0.72, 25)
    draw_head(c, look, pose, head, r, cat, 4 * pose.bend)
    return anchors_of(head, r, neck, r * 0.72, chest, rear, half, near + far, 4 * pose.bend)


def _sitting(c: Canvas, look: Look, pose: Pose, cat: bool) -> Anchors:
    legs, length, half, r = build(look, cat)
    main, sock = leg_colours(look)
    height = 0.3 + 0.5 * legs + 0.2 * length
    wide = half * 1.55
    lean = 0.05 * pose.turn
    chest, rear = (lean, -height), (0.0, -wide * 0.85)
    head = (lean * 1.6, -height - r * 0.85)
    draw_tail(c, (-wide * 0.7, -0.07), look, 0.02)
    c.limb([rear, chest], main, wide, half * 1.1)
    draw_markings(c, look, rear, chest, half * 1.1)
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
    draw_neck(c, look, chest, head, half, r)
    neck = (lean * 1.2, -height - r * 0.05)
    draw_collar(c, look, neck, r * 0.66)
    tilt = 8 * pose.bend
    draw_head(c, look, pose, head, r * 1.1, cat, tilt)
    collar_bone = (lean, -height + half * 1.0)
    return anchors_of(head, r * 1.1, neck, r * 0.66, collar_bone, rear, half * 1.2, front, tilt)


def _lying(c: Canvas, look: Look, pose: Pose, cat: bool) -> Anchors:
    _, length, half, r = build(look, cat)
    main, sock = leg_colours(look)
    y = -half * 1.05
    rear, chest = (-length / 2 - 0.1, y), (length / 2 - 0.06, y - 0.03)
    draw_tail(c, (rear[0] - half * 0.5, -0.06), look, -0.02)
    c.limb([rear, ((rear[0] + chest[0]) / 2, y - 0.01), chest], main, half * 1.1, half * 1.05)
    draw_markings(c, look, rear, chest, half)
    c.ellipse(rear[0] + 0.05, -half * 0.75, half * 0.95, half * 0.75, shade(main, 0.9))
    c.limb([(rear[0] + 0.02, -0.035), (rear[0] + 0.2, -0.035)], sock, 0.038, 0.036)
    paw = (chest[0] + 0.22, -0.035)
    c.limb([(chest[0], -0.08), paw], shade(main, 0.94), 0.05, 0.04)
    c.limb([(paw[0] - 0.05, -0.035), paw], sock, 0.042, 0.044)
    head = (chest[0] + 0.1, y - half - r * (0.6 + 0.3 * pose.bend))
    draw_neck(c, look, chest, head, half, r)
    neck = (chest[0] + 0.05, y - half * 0.75)
    draw_collar(c, look, neck, r * 0.7, 20)
    draw_head(c, look, pose, head, r * 1.05, cat, 6 * pose.bend)
    legs = (((chest[0], -0.08), paw),)
    return anchors_of(head, r * 1.05, neck, r * 0.7, chest, rear, half, legs, 6 * pose.bend)


def _portrait(c: Canvas, look: Look, pose: Pose, cat: bool) -> Anchors:
    _, _, half, r = build(look, cat)
    main = look.colours[0]
    big = r * 1.9
    wide = half * 2.5
    lean = 0.06 * pose.turn
    chest, rear = (lean, -0.26), (0.0, 0.02)
    head = (lean * 1.5, -0.3 - big * 0.85)
    c.limb([rear, chest], main, wide * 1.05, wide * 0.85)
    draw_markings(c, look, rear, (lean, -0.3), wide * 0.8)
    if look.kind["pattern"] in ("belly", "blaze", "socks"):
        c.ellipse(lean, -0.14, wide * 0.5, 0.2, look.colours[1])
    draw_neck(c, look, chest, head, wide * 0.7, big)
    neck = (lean * 1.2, -0.3)
    draw_collar(c, look, neck, big * 0.66)
    tilt = 7 * pose.bend
    draw_head(c, look, pose, head, big, cat, tilt)
    shoulders, below = (lean, 0.0), (0.0, 0.3)
    return anchors_of(head, big, neck, big * 0.66, shoulders, below, wide * 0.78, (), tilt)
