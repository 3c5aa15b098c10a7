"""The contact sheet of a benchmark whose runs drew no probes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_benchmark_table import folder_of, job, line_of

from dreambooth_pl.benchmark.sheet import benchmark_sheet
from dreambooth_pl.benchmark.table import JobLine

NOUNS = {"rex": "dog", "bag": "backpack"}
RED = {"rex": 10, "bag": 200}
# In both of DreamBench's lists: the first ten, of settings, and the last five, of properties. Every
# second of these fifteen, in whole steps of 15 / 8.
SHOWN = (0, 1, 3, 5, 7, 9, 21, 23)


@pytest.fixture()
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[JobLine]:
    """A live subject and an object with 100 images each; image n has n as its green."""
    monkeypatch.chdir(tmp_path)
    found = []
    for subject, noun in NOUNS.items():
        job_ = job("x", subject, 1)
        line = line_of(job_, [0.1])
        run = replace(line.run, class_noun=noun)
        folder = folder_of(job_) / "evaluation/dreambench/tuned"
        folder.mkdir(parents=True)
        for n in range(100):
            Image.new("RGB", (128, 128), (RED[subject], n, 0)).save(folder / f"{n:04d}_x.png")
        found.append(JobLine(job_, replace(line, name=subject, run=run)))
    return found


def colours(sheet: Image.Image) -> list[tuple[int, int]]:
    """Red and green of the pictures on it, row by row."""
    pixels = np.asarray(sheet)
    places = {}
    for count, colour in sheet.getcolors(sheet.width * sheet.height):
        if count == 128 * 128 and colour[2] == 0:
            y, x = np.argwhere((pixels == colour).all(axis=-1)).min(axis=0)
            places[y, x] = colour[:2]
    return [places[place] for place in sorted(places)]


def test_shows_the_first_image_of_prompts_that_all_runs_share(entries: list[JobLine]) -> None:
    sheet = benchmark_sheet(entries, "dreambench", "title")
    assert colours(sheet) == [(red, 4 * n) for red in (10, 200) for n in SHOWN]


def test_a_run_that_is_not_drawn_to_its_end_is_left_out(entries: list[JobLine]) -> None:
    next(folder_of(entries[0].job).rglob("*.png")).unlink()
    sheet = benchmark_sheet(entries, "dreambench", "title")
    assert colours(sheet) == [(200, 4 * n) for n in SHOWN]


def test_nothing_drawn_makes_no_sheet(entries: list[JobLine]) -> None:
    assert benchmark_sheet(entries, "probes", "title") is None
