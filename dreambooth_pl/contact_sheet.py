"""Contact sheets: several images on one, each under its label."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_MARGIN = 8  # pixels
_BACKGROUND = "white"
_INK = "black"


def contact_sheet(
    images: Sequence[Image.Image],
    labels: Sequence[str],
    columns: int,
    title: str = "",
    min_cell: int = 128,
) -> Image.Image:
    """Lay out ``images`` row by row, each with its label below; labels wrap, nothing is cut.

    Args:
        images: at least one, RGB. Small ones are enlarged without smoothing to ``min_cell``, by a
            whole factor, so that the pixels stay what the model drew.
        labels: one per image, may be empty or of several lines.
        columns: images per row; the last row may be shorter.
        title: a line above all.
        min_cell: least side of a picture on the sheet, pixels.

    Returns:
        RGB image.
    """
    assert len(images) == len(labels) > 0, "one label per image"
    assert columns >= 1, "at least one column"
    columns = min(columns, len(images))
    factor = max(1, -(-min_cell // max(max(image.size) for image in images)))
    pictures = [image.resize((image.width * factor, image.height * factor), 0) for image in images]
    cell_width = max(picture.width for picture in pictures)
    cell_height = max(picture.height for picture in pictures)
    font = ImageFont.load_default(max(12, cell_width // 16))
    line_height = sum(font.getmetrics())
    wrapped = [_wrap(label, font, cell_width) for label in labels]
    rows = [range(start, min(start + columns, len(images)))
            for start in range(0, len(images), columns)]  # fmt: skip
    label_heights = [line_height * max(len(wrapped[i]) for i in row) for row in rows]

    width = columns * (cell_width + _MARGIN) + _MARGIN
    title_lines = _wrap(title, font, width - 2 * _MARGIN)
    top = _MARGIN + (len(title_lines) * line_height + _MARGIN if title_lines else 0)
    height = top + sum(cell_height + 2 * _MARGIN + lines for lines in label_heights)
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((_MARGIN, _MARGIN), "\n".join(title_lines), fill=_INK, font=font, spacing=0)
    for row, label_height in zip(rows, label_heights, strict=True):
        for column, i in enumerate(row):
            left = _MARGIN + column * (cell_width + _MARGIN)
            sheet.paste(pictures[i], (left, top))
            for n, line in enumerate(wrapped[i]):
                position = (left, top + cell_height + _MARGIN // 2 + n * line_height)
                draw.text(position, line, fill=_INK, font=font)
        top += cell_height + 2 * _MARGIN + label_height
    return sheet


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break ``text`` into lines that fit ``width`` pixels, by the width of the font's letters."""
    if not text:
        return []
    if "\n" in text:
        return [line for part in text.split("\n") for line in _wrap(part, font, width)]
    letters = max(1, int(width / (font.getlength(text) / len(text))))
    while letters > 1:
        lines = textwrap.wrap(text, letters)
        if all(font.getlength(line) <= width for line in lines):
            return lines
        letters -= 1
    return textwrap.wrap(text, 1)
