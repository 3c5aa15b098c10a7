"""The face of a dog or a cat in three-quarter view."""

from __future__ import annotations

from dreambooth_pl.miniature.canvas import Canvas, Point, mix, shade
from dreambooth_pl.miniature.look import Look, Pose

_BLACK = (26, 22, 24)


def draw_head(
    canvas: Canvas, look: Look, pose: Pose, at: Point, r: float, cat: bool, tilt: float = 0.0
) -> None:
    """Draw a face of radius `r` around `at`, turned by `pose.turn`, tilted by `tilt` degrees."""
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
        c.blob(
            [
                (t * 0.3 - 0.1, -0.86),
                (t * 0.3 + 0.1, -0.86),
                (t * 0.35 + 0.28, 0.5),
                (t * 0.35 - 0.28, 0.5),
            ],
            second,
        )
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
        c.polygon([(mx - 0.12, my - 0.2), (mx + 0.12, my - 0.2), (mx, my - 0.05)], (222, 120, 124))
        c.curve([(mx - 0.2, my + 0.02), (mx, my + 0.12), (mx + 0.2, my + 0.02)], _BLACK, 0.05)
    else:
        ny = my - 0.12 - 0.08 * snout
        c.ellipse(mx + t * 0.08, ny, 0.19, 0.14, _BLACK)
        dark_muzzle = sum(muzzle) < 240
        if pose.bend > 0.2:
            c.ellipse(mx, my + 0.28 + 0.1 * snout, 0.13, 0.2, (232, 110, 122))
        c.curve(
            [(mx - 0.22, my + 0.1), (mx, my + 0.2), (mx + 0.22, my + 0.1)],
            (110, 96, 90) if dark_muzzle else (70, 44, 40),
            0.06,
        )
    if ears in ("floppy", "long"):
        drop = (0.75 if ears == "floppy" else 1.2) * ear_size
        for side in (-1, 1):
            x = side * 0.84 + t * 0.12
            c.blob(
                [
                    (x - side * 0.25, -0.66),
                    (x + side * 0.16, -0.52),
                    (x + side * 0.28, drop * 0.35),
                    (x + side * 0.02, drop * 0.72),
                    (x - side * 0.16, drop * 0.3),
                ],
                ear_colour,
            )
    elif ears == "folded":
        for side in (-1, 1):
            x = side * 0.6 + t * 0.1
            c.polygon(
                [(x - 0.3, -0.55), (x + 0.02 * side, -0.55 - 0.5 * ear_size), (x + 0.3, -0.55)],
                ear_colour,
            )
            c.polygon(
                [
                    (x - side * 0.16, -0.62 - 0.24 * ear_size),
                    (x + side * 0.5, -0.62),
                    (x + side * 0.42, -0.16),
                    (x + side * 0.12, -0.5),
                ],
                shade(ear_colour, 0.8),
            )
