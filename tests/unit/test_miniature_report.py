"""The base's figures: retrieval by hand, ROC area by scipy, and contact sheets of the world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import mannwhitneyu

from dreambooth_pl.bases.load import load_base
from dreambooth_pl.metrics.encoders import load_encoders
from dreambooth_pl.miniature import quality, report, sheets
from dreambooth_pl.miniature.base_folder import encoders_of
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest, image_seed
from dreambooth_pl.sampling.settings import SamplingSettings

BASE = Path(__file__).parents[2] / "data" / "miniature"


def test_nearest_subject_by_hand():
    rows = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.9, 0.3]]), dim=1)
    # Rows 0 and 1 are nearest to each other; row 3 is nearest to 1; row 2 to 3.
    assert quality.nearest_subject(rows, torch.tensor([7, 7, 8, 8])) == pytest.approx(0.75)


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
    assert quality.same_subject_auc(features, subjects, classes) == pytest.approx(
        expected, abs=1e-6
    )


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
    exif[0x0112] = 6  # the camera was held sideways: rotate by 90 degrees clockwise
    (tmp_path / "deep").mkdir()
    photo.rotate(90, expand=True).save(tmp_path / "deep" / "a.JPG", exif=exif, quality=95)
    (square,) = report.photo_squares(tmp_path)
    assert square.size == (128, 128)
    red, green, _ = square.getpixel((64, 5))
    assert red > 200 and green < 60


def test_identifier_gap_by_one_picture_at_a_time():
    base = load_base(str(BASE))
    encoders = load_encoders(encoders_of(BASE))
    sampling = SamplingSettings(num_inference_steps=1, guidance_scale=1.0)  # to fail now and then
    alone = replace(sampling, batch_size=1)
    texts = encoders.clip.encode_texts([f"a {noun}" for noun in quality.KNOWN])
    hits = {"with": [], "without": []}
    index = 0
    for identifier in ("sks", "http", "hta", "oue"):
        for noun in quality.KNOWN[:3]:
            seed = image_seed(quality.HELD_OUT_SEED, "report", index)
            for side, prompt in (("with", f"a {identifier} {noun}"), ("without", f"a {noun}")):
                images = generate(base, [ImageRequest(prompt, seed)], alone)
                scores = encoders.clip.encode_images(list(images)) @ texts.T
                hits[side].append(quality.KNOWN[int(scores.argmax())] == noun)
            index += 1
    expected = (sum(hits["with"]) - sum(hits["without"])) / 12
    figures, images, labels = quality.identifier_gap(base, encoders, sampling, count=3)
    assert figures["identifier_gap"] == pytest.approx(expected)
    assert figures["identifier_gap_low"] <= expected <= figures["identifier_gap_high"]
    unlike = [a != b for a, b in zip(hits["with"], hits["without"], strict=True)]
    assert sum(unlike) > 0 and len(images) == len(labels) == 2 * sum(unlike)
