"""The fastest batch size: choices from given rates, and measurements with a simulated clock."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch

from dreambooth_pl.bases.load import load_base
from dreambooth_pl.sampling import batch_size
from dreambooth_pl.sampling.batch_size import (
    best_batch_size,
    choose,
    measure_rates,
    settle_batch_size,
)
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings

SETTINGS = SamplingSettings(num_inference_steps=11, batch_size="auto")


@pytest.fixture(scope="module")
def base(tiny_base_dir):
    return load_base(str(tiny_base_dir))


@pytest.fixture()
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture()
def clock(monkeypatch):
    """A batch takes 1 s, and for each step 1 s plus 0.1 s for each image above four."""
    now = [0.0]

    def simulated(base, requests, settings, progress=None):
        assert len(requests) == settings.batch_size
        crowd = max(0, settings.batch_size - 4)
        now[0] += 1.0 + settings.num_inference_steps * (1.0 + 0.1 * crowd)
        return iter(requests)

    monkeypatch.setattr(batch_size, "generate", simulated)
    monkeypatch.setattr(batch_size.time, "perf_counter", lambda: now[0])
    return now


def brute_force(rates, count):
    """Return the seconds for `count` images by batch size, by simulating each batch."""
    seconds = {}
    for size, rate in rates.items():
        left, seconds[size] = count, 0.0
        while left > 0:
            seconds[size] += size / rate
            left -= size
    return seconds


@pytest.mark.parametrize("count", [1, 3, 8, 9, 25, 100])
def test_choice_is_as_good_as_the_best_by_simulation(count) -> None:
    rates = {1: 1.0, 2: 1.9, 4: 3.1, 8: 3.9, 16: 4.2, 32: 4.1}
    times = {size: size / rate for size, rate in rates.items()}
    for below, above in itertools.pairwise(rates):  # linear between the measured sizes
        for size in range(below + 1, above):
            share = (size - below) / (above - below)
            times[size] = (1 - share) * times[below] + share * times[above]
    every_size = brute_force({size: size / took for size, took in times.items()}, count)
    measured = {size: every_size[size] for size in rates}
    chosen = choose(rates, count)
    assert every_size[chosen] <= min(measured.values()) / 0.97
    assert all(measured[size] > every_size[chosen] for size in rates if size < chosen)


def test_images_are_distributed_evenly() -> None:
    rates = {1: 1.0, 8: 3.0, 32: 4.0}
    assert choose(rates, 100) == 25
    assert choose(rates, 33) == 17  # two batches of 17 are faster than two of 32, which waste 31
    assert choose(rates, 64) == 32
    assert choose(rates, 5) == 5


def test_other_work_does_not_make_steps_free(base, clock, monkeypatch) -> None:
    plain = batch_size.generate

    def disturbed(base, requests, settings, progress=None):
        if settings.num_inference_steps == batch_size.FEW_STEPS:
            clock[0] += 100.0
        return plain(base, requests, settings, progress)

    monkeypatch.setattr(batch_size, "generate", disturbed)
    rates = measure_rates(base, SETTINGS, sizes=(1,), limit=1e9)
    # the shortest timings: 102 s for one step and 5 s for four
    assert rates == pytest.approx({1: 1 / (102 + 10 * 5 / 4)})


def test_rates_are_those_of_complete_images(base, clock) -> None:
    rates = measure_rates(base, SETTINGS, sizes=(1, 4, 8), limit=1e9)
    assert rates == pytest.approx({1: 1 / 12, 4: 4 / 12, 8: 8 / (1 + 11 * 1.4)})


def test_measuring_ends_at_the_time_limit(base, clock) -> None:
    # a size takes 2 s for the warm-up, then twice 2 + 5 s; the next is expected to take double
    assert list(measure_rates(base, SETTINGS, limit=47.0)) == [1]
    assert list(measure_rates(base, SETTINGS, limit=49.0)) == [1, 2]


def test_measuring_ends_when_rates_fall(base, clock, monkeypatch) -> None:
    monkeypatch.setattr(batch_size, "_WORSE", 1.5)
    assert list(measure_rates(base, SETTINGS, limit=1e9)) == [1]


def test_measuring_ends_before_memory_is_full(base, clock, monkeypatch) -> None:
    monkeypatch.setattr(batch_size, "_fits", lambda base, size: size <= 2)
    assert list(measure_rates(base, SETTINGS, limit=1e9)) == [1, 2]


def test_rates_are_measured_once_and_then_read(base, cache, clock) -> None:
    first = best_batch_size(base, SETTINGS)
    (file,) = cache.glob("dreambooth_pl/throughput/*.json")
    taken = clock[0]
    assert best_batch_size(base, SETTINGS) == first
    assert clock[0] == taken, "nothing was measured again"

    file.write_text(json.dumps({"2": 5.0, "4": 1.0}))
    assert best_batch_size(base, SETTINGS) == 2
    file.write_text("no rates")
    assert best_batch_size(base, SETTINGS) == first
    assert clock[0] > taken


def test_each_machine_and_setting_has_its_own_cache_file(base, cache, monkeypatch) -> None:
    files = [batch_size.cache_file(base, SETTINGS)]
    files.append(batch_size.cache_file(base, replace(SETTINGS, resolution=64)))
    files.append(batch_size.cache_file(base, replace(SETTINGS, guidance_scale=1.0)))
    files.append(batch_size.cache_file(base, replace(SETTINGS, autocast="bfloat16")))
    monkeypatch.setattr(batch_size.platform, "node", lambda: "elsewhere")
    files.append(batch_size.cache_file(base, SETTINGS))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    files.append(batch_size.cache_file(base, SETTINGS))
    assert len(set(files)) == len(files)
    # settings that do not affect the speed share one
    assert batch_size.cache_file(base, replace(SETTINGS, lora_scale_unet=0.1)) == files[-1]


def test_auto_generates_the_same_image_as_its_number(base, cache) -> None:
    settled = settle_batch_size(base, replace(SETTINGS, num_inference_steps=2))
    assert isinstance(settled.batch_size, int)
    request = ImageRequest("a dog", 3)
    (image,) = generate(base, [request], settled)
    plain = SamplingSettings(num_inference_steps=2, batch_size=settled.batch_size)
    (other,) = generate(base, [request], plain)
    assert image.tobytes() == other.tobytes()


def test_a_numeric_batch_size_stays(base) -> None:
    settings = SamplingSettings(batch_size=3)
    assert settle_batch_size(base, settings) is settings
