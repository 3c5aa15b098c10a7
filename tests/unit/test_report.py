"""Reports read back by each format's own reader; contact sheets by their pixels."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from PIL import Image
from rich.console import Console

from dreambooth_pl.report import contact_sheet, to_csv, to_json, to_markdown, to_table
from dreambooth_pl.scores import Interval, Row

ROWS = [
    Row("real photos", "probes", 5, Interval(0.774, 0.7, 0.8), Interval(0.885, 0.8, 0.9), None),
    Row("sks|x", "probes", 1, *[Interval(0.25, math.nan, math.nan)] * 3, Interval(0.2, 0.1, 0.3)),
]


def test_json_has_the_documented_shape_and_no_nan() -> None:
    first, second = json.loads(to_json(ROWS), parse_constant=pytest.fail)
    assert first == {
        "run": "real photos",
        "protocol": "probes",
        "n_images": 5,
        "dino": {"mean": 0.774, "low": 0.7, "high": 0.8},
        "clip_i": {"mean": 0.885, "low": 0.8, "high": 0.9},
        "clip_t": None,
    }
    assert second["dino"] == {"mean": 0.25, "low": None, "high": None}
    assert second["clip_t_identifier"]["mean"] == 0.2


def test_csv_reads_back() -> None:
    first, second = csv.DictReader(io.StringIO(to_csv(ROWS)))
    assert float(first["dino"]) == 0.774
    assert float(first["clip_i_low"]) == 0.8
    assert first["clip_t"] == first["clip_t_high"] == ""
    assert second["run"] == "sks|x"
    assert (second["clip_t"], second["clip_t_low"]) == ("0.25", "")


def test_markdown_lines_have_as_many_cells_as_the_heading() -> None:
    lines = to_markdown(ROWS).splitlines()
    assert len(lines) == 4
    cells = [line.replace("\\|", "").count("|") for line in lines]
    assert cells == [7] * 4
    assert "| 0.774 [0.700, 0.800] |" in lines[2]
    assert lines[2].endswith("| - |")


@pytest.mark.parametrize(("width", "narrow"), [(110, False), (80, True)])
def test_table_shows_every_number_in_the_terminals_width(width: int, narrow: bool) -> None:
    low = Interval(0.612, 0.6, 0.65)
    rows = [*ROWS, Row("sks-text_encoder/version_1", "probes", 3000, *[low] * 3)]
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(to_table(rows, narrow))
    text = console.file.getvalue()
    for part in ("real photos", "Protocol: probes", "0.774", "[0.700, 0.800]", "0.250", "3000"):
        assert part in text
    assert text.count("0.612") == text.count("[0.600, 0.650]") == 3
    assert "…" not in text, "something was cut"


def test_contact_sheet_shows_every_image_in_its_place() -> None:
    colours = [(255, 0, 0), (0, 160, 0), (0, 0, 255)]
    images = [Image.new("RGB", (128, 128), colour) for colour in colours]
    sheet = contact_sheet(images, ["one", "", "a long label " * 8], columns=2)
    counts = dict((colour, n) for n, colour in sheet.getcolors(sheet.width * sheet.height))
    for colour in colours:
        assert counts[colour] == 128 * 128
    assert sheet.getpixel((8 + 64, 8 + 64)) == colours[0]
    assert sheet.getpixel((8 + 128 + 8 + 64, 8 + 64)) == colours[1]
    assert sheet.width == 2 * 128 + 3 * 8


def test_contact_sheet_writes_labels_inside_the_sheet() -> None:
    image = Image.new("RGB", (128, 128), "red")
    for label in ("short", "w" * 60, "prose " * 30):
        sheet = contact_sheet([image], [label], columns=4, title=label)
        edge = [sheet.getpixel((sheet.width - 1, y)) for y in range(sheet.height)]
        edge += [sheet.getpixel((x, sheet.height - 1)) for x in range(sheet.width)]
        assert set(edge) == {(255, 255, 255)}, "ink touches the border"
        bare = contact_sheet([image], [""], columns=4)
        assert sheet.height > bare.height


def test_small_images_are_enlarged_by_whole_pixels() -> None:
    image = Image.new("RGB", (2, 2), "black")
    image.putpixel((0, 0), (255, 0, 0))
    sheet = contact_sheet([image], [""], columns=1, min_cell=128)
    colours = dict((colour, n) for n, colour in sheet.getcolors())
    assert colours[(255, 0, 0)] == 64 * 64
