"""Contact sheets and tables: several labelled images in one image."""

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
    """Lay out `images` row by row, each with its label below. Labels are wrapped, not truncated.

    Args:
        images: at least one, RGB. Small images are enlarged to at least `min_cell`, by an integer
            factor and without smoothing, so that the generated pixels stay unchanged.
        labels: one per image. A label may be empty or have several lines.
        columns: images per row. The last row may be shorter.
        title: text above all images.
        min_cell: minimal longer side of the largest image on the sheet, in pixels.

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
    """Break `text` into lines of at most `width` pixels, as measured with the font."""
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


def image_table(
    rows: Sequence[Sequence[Image.Image]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str = "",
    min_cell: int = 128,
) -> Image.Image:
    """Lay out images as a table, with row labels on the left and column labels above.

    Labels are wrapped, not truncated.

    Args:
        rows: at least one, each with one RGB image per column. Small images are enlarged as in
            `contact_sheet`.
        row_labels: one per row.
        column_labels: one per column.
        title: text above the table.
        min_cell: minimal longer side of the largest image in the table, in pixels.

    Returns:
        RGB image.
    """
    assert len(rows) == len(row_labels) > 0, "one label per row"
    assert {len(row) for row in rows} == {len(column_labels)}, "one image per column in each row"
    images = [image for row in rows for image in row]
    factor = max(1, -(-min_cell // max(max(image.size) for image in images)))
    cell_width = max(image.width for image in images) * factor
    cell_height = max(image.height for image in images) * factor
    font = ImageFont.load_default(max(12, cell_width // 10))
    line_height = sum(font.getmetrics())
    longest = max(font.getlength(line) for label in row_labels for line in [*label.split("\n"), ""])
    label_width = min(round(longest) + 2, 3 * cell_width // 2)
    width = label_width + _MARGIN + len(column_labels) * (cell_width + _MARGIN) + _MARGIN

    sides = [_wrap(label, font, label_width) for label in row_labels]
    heads = [_wrap(label, font, cell_width) for label in column_labels]
    title_lines = _wrap(title, font, width - 2 * _MARGIN)
    heights = [max(cell_height, line_height * len(lines)) for lines in sides]
    head_height = line_height * max(len(lines) for lines in heads)
    title_height = len(title_lines) * line_height + (_MARGIN if title_lines else 0)
    height = _MARGIN + title_height + head_height + sum(h + _MARGIN for h in heights) + _MARGIN
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)

    def write(lines: Sequence[str], left: int, top: int) -> None:
        for n, line in enumerate(lines):
            draw.text((left, top + n * line_height), line, fill=_INK, font=font)

    write(title_lines, _MARGIN, _MARGIN)
    top = _MARGIN + title_height
    lefts = [
        label_width + 2 * _MARGIN + column * (cell_width + _MARGIN)
        for column in range(len(column_labels))
    ]
    for left, lines in zip(lefts, heads, strict=True):
        write(lines, left, top + head_height - len(lines) * line_height)
    top += head_height + _MARGIN // 2
    for row, lines, row_height in zip(rows, sides, heights, strict=True):
        write(lines, _MARGIN, top + (row_height - len(lines) * line_height) // 2)
        for left, image in zip(lefts, row, strict=True):
            picture = image.resize((image.width * factor, image.height * factor), 0)
            sheet.paste(picture, (left, top))
        top += row_height + _MARGIN
    return sheet
