"""The base's figures: retrieval by hand, ROC area by scipy, and contact sheets of the world."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import mannwhitneyu

from dreambooth_pl.miniature import report, sheets

BASE = Path(__file__).parents[2] / "data" / "miniature"


def test_nearest_subject_by_hand():
    rows = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.9, 0.3]]), dim=1)
    # Rows 0 and 1 are nearest to each other; row 3 is nearest to 1; row 2 to 3.
    assert report.nearest_subject(rows, torch.tensor([7, 7, 8, 8])) == pytest.approx(0.75)


def test_roc_area_is_that_of_mann_whitney():
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(24, 6, generator=generator), dim=1)
    subjects = torch.arange(24) // 3
    classes = subjects // 2
    same, other = [], []
    for i in range(24):
        for j in range(i + 1, 24):
            value = float(features[i] @ features[j])
            if subjects[i] == subjects[j]:
                same.append(value)
            elif classes[i] == classes[j]:
                other.append(value)
    expected = mannwhitneyu(same, other).statistic / (len(same) * len(other))
    assert report.same_subject_auc(features, subjects, classes) == pytest.approx(expected, abs=1e-6)


def test_sheets_show_every_picture():
    world_sheet = sheets.world_sheet(seed=1, count=4, columns=2)
    assert world_sheet.width == 2 * 128 + 3 * 8
    subjects_sheet = sheets.subjects_sheet(["dog6", "can"])
    assert subjects_sheet.width > 5 * 128
    assert subjects_sheet.height > 2 * 128


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--photos", "nowhere"], "--photos nowhere: no JPEG photo is there"),
        (["--base", "nowhere/base"], "--base nowhere/base: it is not the folder of a base"),
        (["--out", "a_file"], "Cannot write to a_file"),
    ],
    ids=["photos", "base", "out"],
)
def test_mistakes_are_told_before_anything_is_measured(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    assert report.main(["--base", str(BASE), *arguments]) == 1  # the last --base holds
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert error.count("\n") == 1


def test_photos_are_upright_squares(tmp_path):
    photo = Image.new("RGB", (60, 40), "white")
    photo.paste((255, 0, 0), (0, 0, 60, 10))  # red above
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: to be turned a quarter clockwise
    (tmp_path / "deep").mkdir()
    photo.rotate(90, expand=True).save(tmp_path / "deep" / "a.JPG", exif=exif, quality=95)
    (square,) = report.photo_squares(tmp_path)
    assert square.size == (128, 128)
    red, green, _ = square.getpixel((64, 5))
    assert red > 200 and green < 60
