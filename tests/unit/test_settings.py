"""The settings of the picture-book world: complete, repeatable, varied, distinct and quick."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import dreambooth_pl
from dreambooth_pl.miniature.canvas import Canvas
from dreambooth_pl.miniature.settings import SETTINGS

MAGENTA = (255, 0, 255)
BOXES = ((0.25, 0.3, 0.75, 0.9), (0.1, 0.15, 0.7, 0.86), (0.3, 0.1, 0.95, 1.0))
FACTS = Path(dreambooth_pl.__file__).parent / "facts"


def drawn(name: str, seed: int, ground: tuple[int, int, int] = MAGENTA) -> np.ndarray:
    image = Image.new("RGB", (256, 256), ground)
    SETTINGS[name].draw(Canvas(image), random.Random(seed))
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_covers_every_pixel(name):
    """The picture is the same on magenta and on black."""
    for seed in range(12):
        assert np.array_equal(drawn(name, seed), drawn(name, seed, (0, 0, 0))), seed


@pytest.mark.parametrize("name", SETTINGS)
def test_same_seed_same_picture_other_seed_another(name):
    assert np.array_equal(drawn(name, 3), drawn(name, 3))
    pictures = [drawn(name, seed) for seed in range(5)]
    for first, second in itertools.combinations(pictures, 2):
        assert not np.array_equal(first, second)
    mean = np.mean(pictures, axis=0)
    assert np.abs(np.asarray(pictures) - mean).mean() > 2


@pytest.mark.parametrize("name", SETTINGS)
def test_front_is_repeatable_and_stays_low(name):
    """The front draws the same twice, changes the picture and covers only the subject's feet."""
    for seed, box in enumerate(BOXES):
        results = []
        for _ in range(2):
            image = Image.new("RGB", (256, 256))
            front = SETTINGS[name].draw(Canvas(image), random.Random(seed))
            if front is None:
                break
            image.paste(MAGENTA, tuple(round(256 * v) for v in box))
            front(Canvas(image), box)
            results.append(np.asarray(image))
        if not results:
            continue
        assert np.array_equal(*results)
        x0, y0, x1, y1 = (round(256 * v) for v in box)
        subject = results[0][y0:y1, x0:x1]
        covered = (subject != MAGENTA).any(axis=2)
        assert covered.any()
        assert not covered[: int(0.8 * (y1 - y0))].any()


def test_settings_differ_at_the_rim():
    """The average rims of any two settings differ clearly, even if the subject hides the middle."""
    rim = np.ones((8, 8), bool)
    rim[2:7, 2:6] = False
    means = {}
    for name in SETTINGS:
        small = [
            np.asarray(Image.fromarray(drawn(name, s).astype("uint8")).resize((8, 8), 4))
            for s in range(12)
        ]
        means[name] = np.mean(small, axis=0)[rim]
    for first, second in itertools.combinations(means, 2):
        assert np.abs(means[first] - means[second]).mean() > 9, (first, second)


def test_every_dreambench_setting_has_its_phrase():
    canonical = {setting.phrases[0] for setting in SETTINGS.values()}
    expected = set()
    for file in ("dreambench_object.yaml", "dreambench_live.yaml", "probes.yaml"):
        text = (FACTS / file).read_text(encoding="utf-8")
        for prompt in _strings(yaml.safe_load(text)):
            ending = prompt.rpartition("{class}")[2].strip(" .")
            if ending.startswith(("on top", "in the", "on ", "with ", "floating")):
                expected.add(ending)
    expected -= {"in the style of van gogh"}
    assert len(expected) == 21
    assert expected <= canonical


def _strings(value):
    if isinstance(value, str):
        return [value] if "{class}" in value else []
    children = value.values() if isinstance(value, dict) else value if value else []
    return (
        [s for child in children for s in _strings(child)] if isinstance(value, dict | list) else []
    )


def test_phrases_name_one_setting_each():
    phrases = [phrase for setting in SETTINGS.values() for phrase in setting.phrases]
    assert len(phrases) == len(set(phrases))
    assert all(name == setting.name for name, setting in SETTINGS.items())


def test_settings_are_drawn_quickly():
    """Each takes about 1 ms on an idle core. The bound only catches an order of magnitude."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for name in SETTINGS:
            drawn(name, 0)
        best = min(best, time.process_time() - start)
    assert best / len(SETTINGS) < 0.02
