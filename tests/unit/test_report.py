"""Reports read back by each format's own reader; contact sheets by their pixels."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import pytest
from PIL import Image
from rich.console import Console

from dreambooth_pl.evaluation.bootstrap import Interval
from dreambooth_pl.evaluation.comparison import Comparison
from dreambooth_pl.evaluation.results import Row
from dreambooth_pl.files.contact_sheet import contact_sheet
from dreambooth_pl.reporting.paper import paper_table
from dreambooth_pl.reporting.tables import (
    TABLE_FORMATS,
    render,
    tables,
    to_csv,
    to_json,
)
from dreambooth_pl.reporting.text_table import escape_latex

FIDELITY = ("dino", "clip_i", "clip_t")
PHOTOS = {"dino": Interval(0.774, 0.7, 0.8), "clip_i": Interval(0.885, 0.8, 0.9)}
ONE = dict.fromkeys(FIDELITY, Interval(0.25, math.nan, math.nan))
ROWS = [
    Row("real photos", "probes", 5, PHOTOS),
    Row("sks|x", "probes", 1, ONE | {"clip_t_identifier": Interval(0.2, 0.1, 0.3)}),
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
    lines = render(ROWS, "markdown").split("\n\n")[0].splitlines()
    assert len(lines) == 4
    cells = [line.replace("\\|", "").count("|") for line in lines]
    assert cells == [7] * 4
    assert "| 0.774 [0.700, 0.800] |" in lines[2]
    assert lines[2].endswith("| - |")


@pytest.mark.parametrize(("width", "narrow"), [(110, False), (80, True)])
def test_table_shows_every_number_in_the_terminals_width(width: int, narrow: bool) -> None:
    low = Interval(0.612, 0.6, 0.65)
    rows = [*ROWS, Row("sks-text_encoder/version_1", "probes", 3000, dict.fromkeys(FIDELITY, low))]
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(tables(rows)[0].to_rich(narrow))
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


def scored(*means: float) -> dict[str, Interval]:
    return {
        name: Interval(mean, mean - 0.01, mean + 0.01)
        for name, mean in zip(FIDELITY, means, strict=True)
    }


GROUPS = {name: scored(0.5, 0.7, 0.3) for name in ("setting", "live", "property", "object")}
FULL = [
    Row("real photos", "dreambench", 5, {"dino": Interval(0.774, 0.7, 0.8)}),
    Row("base", "dreambench", 400, scored(0.3, 0.6, 0.31), GROUPS),
    Row(
        "a_run & 100 %",
        "dreambench",
        400,
        scored(0.6, 0.8, 0.3)
        | {
            "pres": Interval(0.5, 0.4, 0.6),
            "pres_change": Interval(0.1, 0.05, 0.15),
            "div": Interval(0.39, 0.3, 0.4),
        },
        GROUPS,
    ),
]
COMPARISON = Comparison("a", "b", Row("a - b", "dreambench", 400, scored(0.02, -0.03, 0.0)))


def test_side_effects_have_a_table_of_the_columns_and_rows_that_are_there() -> None:
    fidelity, preservation, variety, *_ = tables(FULL)
    assert fidelity.headings == ("run", "images", "DINO", "CLIP-I", "CLIP-T")
    assert preservation.headings == ("run", "PRES ↓", "PRES change ↓")
    own = ("a_run & 100 %", "0.500 [0.400, 0.600]", "0.100 [0.050, 0.150]")
    assert preservation.rows == (own,)
    assert variety.headings == ("run", "DIV ↑")
    assert variety.rows == (("a_run & 100 %", "0.390 [0.300, 0.400]"),)
    _, variety = tables(ROWS)
    assert variety.headings == ("run", "CLIP-T with [V] ↑")
    assert variety.rows == (("sks|x", "0.200 [0.100, 0.300]"),)


def test_groups_have_columns_under_their_names() -> None:
    *_, subjects, prompts = tables(FULL)
    assert subjects.groups == (("", 1), ("live", 3), ("object", 3))
    assert prompts.groups == (("", 1), ("setting", 3), ("property", 3))
    assert [row[0] for row in subjects.rows] == ["base", "a_run & 100 %"]
    assert subjects.rows[0][1:] == ("0.500", "0.700", "0.300") * 2
    assert "| live DINO | live CLIP-I |" in render(FULL, "markdown")


def test_csv_and_json_carry_every_score() -> None:
    *_, run = csv.DictReader(io.StringIO(to_csv(FULL)))
    assert (float(run["pres"]), float(run["div_high"])) == (0.5, 0.4)
    assert float(run["setting.clip_i"]) == 0.7
    assert "drift" not in run
    ceiling, _, record = json.loads(to_json(FULL), parse_constant=pytest.fail)
    assert record["pres_change"] == {"mean": 0.1, "low": 0.05, "high": 0.15}
    assert record["groups"]["object"]["clip_t"]["mean"] == 0.3
    assert not {"pres", "groups", "clip_t_identifier"} & ceiling.keys()


def test_differences_are_signed_and_apart() -> None:
    text = render(FULL, "markdown", comparisons=[COMPARISON])
    line = next(line for line in text.splitlines() if line.startswith("| a - b"))
    assert "| +0.020 [+0.010, +0.030] | -0.030 [-0.040, -0.020] |" in line
    records = json.loads(render(FULL, "json", comparisons=[COMPARISON]))
    assert records[-1]["difference"] == ["a", "b"]
    assert render(FULL, "csv", comparisons=[COMPARISON]).splitlines()[-1].startswith("a - b,")


@pytest.mark.parametrize("form", TABLE_FORMATS)
def test_the_papers_rows_are_marked_as_of_another_base(form: str) -> None:
    paper = [paper_table("fidelity"), paper_table("prior")]
    text = render(FULL, form, paper=paper)
    for number in ("0.696", "0.305", "0.391"):
        assert number in text
    assert "DreamBooth, Imagen" in text
    mark = {"json": "arXiv 2208.12242", "csv": "paper: Table 1"}.get(form, "another base")
    assert mark in text
    assert "Imagen" not in render(FULL, form)


def test_the_papers_tables_are_as_published() -> None:
    fidelity, prior, noun = (paper_table(name) for name in ("fidelity", "prior", "class_noun"))
    assert [row.scores["dino"].mean for row in fidelity.rows] == [0.774, 0.696, 0.668, 0.569]
    assert "clip_t" not in fidelity.rows[0].scores
    assert [(row.scores["pres"].mean, row.scores["div"].mean) for row in prior.rows] == [
        (0.493, 0.391),
        (0.664, 0.371),
    ]
    assert [row.scores["clip_i"].mean for row in noun.rows] == [0.853, 0.607, 0.728]
    assert {table.source for table in (fidelity, prior, noun)} == {fidelity.source}


def test_latex_is_well_formed() -> None:
    text = render(FULL, "latex", comparisons=[COMPARISON], paper=[paper_table("prior")])
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 7
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 7
    assert r"a\_run \& 100 \%" in text and "↓" not in text
    assert r"\cmidrule(lr){2-4} \cmidrule(lr){5-7}" in text
    bare = re.sub(r"\\.", "", text)  # without what is escaped
    depth = 0
    for letter in bare:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0
    for tabular in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end", text, re.DOTALL):
        alignment, body = tabular
        for line in re.sub(r"\\&", "", body).splitlines():
            if line.endswith(r"\\") and "multicolumn" not in line:
                assert line.count("&") == len(alignment) - 1, line
    assert not re.search(r"\\\\\s*\[", text), "a bracket would be read as the height of a line"


@pytest.mark.parametrize("name", ["#1_{x}", "~^\\", "$5 & 50%", "[0.1]"])
def test_latex_escapes_every_special_letter(name: str) -> None:
    escaped = escape_latex(name)
    undone = {
        r"\textbackslash{}": "\\",
        r"\textasciitilde{}": "~",
        r"\textasciicircum{}": "^",
        "{[}": "[",
        "{]}": "]",
    }
    pattern = "|".join(map(re.escape, undone)) + r"|\\([#_{}$&%])"
    back = re.sub(pattern, lambda found: found[1] or undone[found[0]], escaped)
    assert back == name
    assert not re.search(r"(?<!\\)[#_$&%]", escaped)


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_shows_all_tables_and_notes_uncut(width: int) -> None:
    some = Interval(-0.512, -0.625, -0.375)
    shown = ("pres", "pres_change", "drift", "div", "copy", "clip_t_identifier")
    effects = dict.fromkeys((*shown, "pres_base"), some)  # the last is the floor's PRES
    groups = {**GROUPS, "accessory": scored(0.1, 0.2, 0.3)}
    scores = scored(0.1, 0.2, 0.3) | effects
    most = Row("sks-text_encoder/version_1", "dreambench", 3000, scores, groups)
    text = render([*FULL, most], "table", width, [COMPARISON], notes=["DIV: LPIPS"])
    assert max(map(len, text.splitlines())) <= width
    assert text.count("-0.512") == text.count("[-0.625, -0.375]") == 6
    for part in ("Variety", "By subject", "property", "accessory", "+0.020", "[0.300, 0.400]"):
        assert part in text
    assert text.endswith("DIV: LPIPS\n")
    assert "…" not in text
