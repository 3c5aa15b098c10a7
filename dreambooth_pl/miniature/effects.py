"""Effects on a whole picture or subject: style, shine, water, cubes, the car, light."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from dreambooth_pl.miniature.canvas import Canvas, Colour, shade


def subject_mask(before: Image.Image, after: Image.Image) -> Image.Image:
    """Return the mask of pixels that changed when the subject was drawn: mode "L", 0 or 255."""
    return ImageChops.difference(before, after).convert("L").point(lambda v: 255 if v > 4 else 0)


def shadow(image: Image.Image, x: float, y: float, half: float) -> None:
    """Draw a soft contact shadow under a subject that stands at (x, y)."""
    canvas = Canvas(image)
    canvas.ellipse(x, y, half, half * 0.13, (20, 20, 30, 60))
    canvas.ellipse(x, y, half * 0.75, half * 0.09, (20, 20, 30, 60))


def shiny(
    image: Image.Image, mask: Image.Image, box: tuple[float, ...], rng: random.Random
) -> None:
    """Draw bright streaks on the subject and sparkles around it."""
    layer = image.copy()
    canvas = Canvas(layer)
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    slant = rng.uniform(0.12, 0.22) * w
    for t, width in ((rng.uniform(0.2, 0.34), 0.12), (rng.uniform(0.56, 0.7), 0.07)):
        x = x0 + t * w
        canvas.polygon(
            [
                (x + slant, y0),
                (x + slant + width * w, y0),
                (x - slant + width * w, y1),
                (x - slant, y1),
            ],
            (255, 255, 255, 190),
        )
    image.paste(layer, mask=mask)
    canvas = Canvas(image)
    for _ in range(4):
        x, y = x0 + rng.uniform(-0.04, 1.04) * w, y0 + rng.uniform(0.0, 0.75) * h
        r = rng.uniform(0.035, 0.06)
        points = []
        for i in range(8):
            radius = r if i % 2 == 0 else r * 0.25
            points.append(
                (x + radius * math.sin(i * math.pi / 4), y - radius * math.cos(i * math.pi / 4))
            )
        canvas.polygon(points, (255, 252, 214))


def wet(image: Image.Image, mask: Image.Image, box: tuple[float, ...], rng: random.Random) -> None:
    """Make the subject darker and bluish, with drops on it and a puddle."""
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    blue = Image.blend(image, Image.new("RGB", image.size, (40, 90, 160)), 0.33)
    canvas = Canvas(image)
    canvas.ellipse((x0 + x1) / 2, y1, w * 0.62, 0.045, (120, 180, 235))
    image.paste(blue, mask=mask)
    for i in range(12):
        x = x0 + (i % 4 + rng.uniform(0.1, 0.9)) / 4 * w
        y = y0 + (i // 4 + rng.uniform(0.1, 0.9)) / 3 * h
        r = rng.uniform(0.016, 0.026)
        drop = (190, 228, 255)
        canvas.ellipse(x, y, r, r, drop)
        canvas.polygon(
            [(x - r * 0.9, y - r * 0.3), (x, y - r * 2.6), (x + r * 0.9, y - r * 0.3)], drop
        )
        canvas.ellipse(x - r * 0.3, y, r * 0.35, r * 0.35, (255, 255, 255))


def cube(
    image: Image.Image,
    subject: Image.Image,
    mask: Image.Image,
    colour: Colour,
    box: tuple[float, float, float, float],
) -> None:
    """Draw a cube in the subject's colour that shows the subject on its front.

    Args:
        image: the picture to draw into.
        subject: a picture of the size of `image` that shows the subject.
        mask: 255 where `subject` shows it, else 0.
        colour: the subject's main colour.
        box: where the cube goes, in unit coordinates.
    """
    size = image.width
    bounds = mask.getbbox() or (0, 0, size, size)
    x0, y0, x1, y1 = (v * size for v in box)
    edge = min(x1 - x0, y1 - y0) / 1.28
    depth = edge * 0.28
    left, bottom = (x0 + x1 - edge - depth) / 2, y1
    face = Image.new("RGB", image.size, shade(colour, 1.06))
    face.paste(subject, mask=mask)
    side = max(bounds[2] - bounds[0], bounds[3] - bounds[1]) * 1.06
    cx, cy = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    square = (cx - side / 2, cy - side / 2, cx + side / 2, cy + side / 2)
    face = face.transform(
        (round(edge), round(edge)), Image.Transform.EXTENT, square, fillcolor=shade(colour, 1.06)
    )
    pen = ImageDraw.Draw(image)
    top = bottom - edge
    pen.polygon(
        [
            (left, top),
            (left + depth, top - depth),
            (left + edge + depth, top - depth),
            (left + edge, top),
        ],
        fill=shade(colour, 1.3),
    )
    pen.polygon(
        [
            (left + edge, top),
            (left + edge + depth, top - depth),
            (left + edge + depth, bottom - depth),
            (left + edge, bottom),
        ],
        fill=shade(colour, 0.66),
    )
    image.paste(face, (round(left), round(top)))
    outline = shade(colour, 0.45)
    pen.line([(left, top), (left + edge, top), (left + edge, bottom)], fill=outline, width=3)
    pen.line([(left + edge, top), (left + edge + depth, top - depth)], fill=outline, width=3)


def car(image: Image.Image, rng: random.Random, behind: bool, colour: Colour, y: float) -> None:
    """Draw an open car from the side: its parts behind the driver, or those in front."""
    c = Canvas(image).frame(0.5, y, 1.0)
    if behind:
        c.polygon([(-0.34, -0.3), (-0.27, -0.5), (-0.21, -0.5), (-0.22, -0.25)], shade(colour, 0.7))
        c.rectangle(-0.36, -0.36, 0.3, -0.2, (60, 44, 40), 0.03)
        return
    c.polygon([(0.2, -0.32), (0.27, -0.58), (0.31, -0.58), (0.29, -0.3)], (190, 226, 244))
    c.line([(0.29, -0.3), (0.31, -0.58)], shade(colour, 0.6), 0.026)
    c.blob(
        [
            (-0.48, -0.14),
            (-0.44, -0.31),
            (-0.22, -0.31),
            (0.1, -0.29),
            (0.36, -0.27),
            (0.47, -0.18),
            (0.48, -0.08),
            (0.0, -0.06),
            (-0.46, -0.07),
        ],
        colour,
    )
    c.rectangle(-0.46, -0.13, 0.47, -0.09, shade(colour, 0.62), 0.02)
    c.ellipse(0.43, -0.2, 0.035, 0.045, (255, 244, 170))
    c.ellipse(-0.45, -0.2, 0.025, 0.04, (250, 90, 60))
    for x in (-0.28, 0.28):
        c.ellipse(x, -0.08, 0.105, 0.105, (34, 34, 40))
        c.ellipse(x, -0.08, 0.05, 0.05, (206, 208, 214))
    c.ellipse(0.17, -0.35, 0.05, 0.085, (40, 36, 40), 20)
    c.ellipse(0.172, -0.35, 0.03, 0.06, shade(colour, 0.9), 20)


def van_gogh(image: Image.Image, rng: random.Random) -> Image.Image:
    """Repaint the picture in thick swirling strokes that lean towards yellow and blue."""
    size = image.width
    small = image.filter(ImageFilter.GaussianBlur(size / 300))
    pixels = small.load()
    pen_image = small.copy()
    pen = ImageDraw.Draw(pen_image)
    cx, cy = rng.uniform(0.1, 0.9) * size, rng.uniform(-0.1, 0.35) * size
    phase = rng.uniform(0, math.tau)
    step = size / 21
    rows = [(r + 0.5) * step for r in range(21)]
    cells = [
        (x + rng.uniform(-0.4, 0.4) * step, y + rng.uniform(-0.4, 0.4) * step)
        for y in rows
        for x in rows
    ]
    rng.shuffle(cells)
    width = max(2, round(size / 40))
    for x, y in cells:
        px, py = min(max(int(x), 0), size - 1), min(max(int(y), 0), size - 1)
        r, g, b = pixels[px, py]
        angle = (
            math.atan2(y - cy, x - cx) + math.pi / 2 + 0.5 * math.sin(phase + 9 * (x + y) / size)
        )
        dx, dy = math.cos(angle) * step * 0.75, math.sin(angle) * step * 0.75
        light = rng.choice((-20, -6, 6, 20))
        warm = 0.299 * r + 0.587 * g + 0.114 * b > 130
        tint = (light + 14, light + 8, light - 26) if warm else (light - 12, light - 2, light + 26)
        pen.line(
            (x - dx, y - dy, x + dx, y + dy),
            fill=(_clip(r + tint[0]), _clip(g + tint[1]), _clip(b + tint[2])),
            width=width,
        )
    for _ in range(3):
        x, y = rng.uniform(0.05, 0.95) * size, rng.uniform(0.04, 0.22) * size
        for i, colour in enumerate(
            ((70, 110, 190), (250, 214, 80), (60, 90, 170), (255, 244, 170))
        ):
            radius = size * (0.085 - 0.022 * i)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return Image.blend(image, pen_image, 0.6)


def _clip(value: float) -> int:
    return min(max(int(value), 0), 255)


def light(image: Image.Image, rng: random.Random) -> Image.Image:
    """Change brightness and warmth a little, as between hours of the day."""
    gain = rng.uniform(0.86, 1.08)
    warmth = rng.uniform(-0.06, 0.06)
    bands = [
        band.point([_clip(v * g) for v in range(256)])
        for band, g in zip(
            image.split(), (gain * (1 + warmth), gain, gain * (1 - warmth)), strict=True
        )
    ]
    return Image.merge("RGB", bands)
