"""The recipes of ARCHITECTURE.md for metrics, protocols and probe prompts, followed to the letter.

Each takes one entry or one file; everything else has to follow from it.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageStat
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreambooth_pl import prompts
from dreambooth_pl.commands import evaluate
from dreambooth_pl.evaluation import protocols
from dreambooth_pl.evaluation.protocols import make_plan
from dreambooth_pl.evaluation.record import read_sets
from dreambooth_pl.metrics.encoders import EncoderSettings, load_encoders
from dreambooth_pl.metrics.scores import SCORES, EncodedImages, Scope, Score, register
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.prompts import prompt_set
from dreambooth_pl.sampling.requests import probe_requests
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.callbacks import validation
from dreambooth_pl.training.callbacks.fidelity import Fidelity
from dreambooth_pl.training.callbacks.validation import Validation, ValidationSettings

WORDS = ["--identifier", "sks", "--class-noun", "dog"]


# To add a metric.


def brightness(images: EncodedImages, photos: EncodedImages) -> torch.Tensor:
    """How much brighter each image is than the photos are on average, in [-255, 255]."""
    own, theirs = (
        torch.tensor([np.mean(ImageStat.Stat(image).mean) for image in some.images]).float()
        for some in (images, photos)
    )
    return own - theirs.mean()


TOY = Score("brightness", "brightness", False, brightness, Scope.IMAGE, "variety", curve=True)


@pytest.fixture()
def toy() -> Iterator[Score]:
    register(TOY)
    yield TOY
    del SCORES[TOY.name]


@pytest.fixture()
def prompts_file(tmp_path: Path) -> Path:
    path = tmp_path / "weather.yaml"
    path.write_text(
        "name: weather\nimages_per_prompt: 2\nprompts:\n"
        '  dry: ["a {identifier} {class} in the sun", "a {identifier} {class} at noon"]\n'
        '  wet: ["a {identifier} {class} in rain", "a {identifier} {class} in a storm"]\n'
    )
    return path


@pytest.fixture()
def images(tmp_path: Path) -> Path:
    """Two images of each prompt, by the tuned model and by the base, of known brightness."""
    folder = tmp_path / "images"
    for what, offset in (("tuned", 40), ("base", 20)):
        (folder / what).mkdir(parents=True)
        for n in range(8):
            grey = Image.new("RGB", (32, 32), (offset + 10 * n,) * 3)
            grey.save(folder / what / f"{n // 2}_{n % 2}.png")
    return folder


@pytest.fixture()
def options(
    images: Path, prompts_file: Path, photo_dir: Path, tiny_clip: str, tiny_dino: str
) -> list[str]:
    paths = ["--images", images, "--photos", photo_dir, "--prompts", prompts_file]
    encoders = ["--clip", tiny_clip, "--dino", tiny_dino]
    return [*map(str, [*paths, *encoders]), *WORDS, "--device", "cpu"]


def photo_brightness(folder: Path) -> list[float]:
    photos = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())]
    return [float(np.asarray(photo, dtype=np.float64).mean()) for photo in photos]


def test_a_registered_metric_shows_up_in_every_file(
    toy: Score,
    options: list[str],
    photo_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    out = tmp_path / "out"
    assert evaluate.main([*options, "--format", "json", "--save", str(out)]) == 0
    ceiling, floor, own = json.loads(capsys.readouterr().out)
    photos = photo_brightness(photo_dir)
    level = sum(photos) / len(photos)
    assert own["brightness"]["mean"] == pytest.approx(75 - level, abs=1e-3)
    assert floor["brightness"]["mean"] == pytest.approx(55 - level, abs=1e-3)
    others = [(sum(photos) - photo) / (len(photos) - 1) for photo in photos]
    expected = np.mean([a - b for a, b in zip(photos, others, strict=True)])
    assert ceiling["brightness"]["mean"] == pytest.approx(expected, abs=1e-3)
    assert own["groups"]["wet"]["brightness"]["mean"] == pytest.approx(95 - level, abs=1e-3)

    tensors = load_file(out / "images" / "scores.safetensors")
    expected = torch.arange(40.0, 120.0, 10.0).view(1, 4, 2) - level
    torch.testing.assert_close(tensors["tuned.brightness"], expected, atol=1e-3, rtol=0)
    record = json.loads((out / "images" / "scores.json").read_text())
    each = [entry["brightness"] for entry in record["images"]["base"]]
    assert each == pytest.approx([light - level for light in range(20, 100, 10)], abs=1e-3)

    *_, row = csv.DictReader(io.StringIO((out / "table.csv").read_text()))
    assert float(row["brightness"]) == pytest.approx(75 - level, abs=1e-3)
    assert float(row["dry.brightness_low"]) == pytest.approx(45 - level, abs=1e-3)
    cell = f"{own['brightness']['mean']:.3f}"
    for name in ("table.txt", "table.md", "table.tex"):
        text = (out / name).read_text()
        heading = "brightness $\\downarrow$" if name.endswith("tex") else "brightness ↓"
        assert heading in text and cell in text


def test_without_its_entry_nothing_of_a_metric_is_left(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    before = list(SCORES)
    register(TOY)
    try:
        assert evaluate.main([*options, "--save", str(tmp_path / "with")]) == 0
    finally:
        del SCORES[TOY.name]
    assert "brightness" in capsys.readouterr().out
    assert list(SCORES) == before
    kept = read_sets(tmp_path / "with" / "images")
    assert "brightness" not in kept["tuned"].scores and "dino" in kept["tuned"].scores
    assert evaluate.main([*options, "--save", str(tmp_path / "without")]) == 0
    assert "brightness" not in capsys.readouterr().out
    for path in (tmp_path / "without").rglob("*.*"):
        assert b"brightness" not in path.read_bytes(), path


def test_a_registered_metric_of_pairs_and_of_prompts(
    options: list[str], images: Path, capsys: pytest.CaptureFixture
) -> None:
    """Scores of the other scopes: how the class and the images of a prompt compare."""
    for what, level in (("class_tuned", 30), ("class_base", 10)):
        (images / what).mkdir()
        for n in range(3):
            Image.new("RGB", (32, 32), (level + n,) * 3).save(images / what / f"{n}.png")

    def light(some: EncodedImages) -> torch.Tensor:
        return torch.tensor([float(np.asarray(image).mean()) for image in some.images])

    pair = Score(
        "glow",
        "glow",
        True,
        lambda images, base, photos: light(images) - light(base),
        Scope.CLASS_PAIR,
        "preservation",
    )
    spread = Score(
        "spread", "spread", True, lambda images, distance: light(images).amax(), Scope.PROMPT
    )
    for score in (pair, spread):
        register(score)
    try:
        assert evaluate.main([*options, "--format", "json"]) == 0
    finally:
        for score in (pair, spread):
            del SCORES[score.name]
    _, floor, own = json.loads(capsys.readouterr().out)
    assert own["glow"]["mean"] == pytest.approx(20) and "glow" not in floor
    assert own["spread"]["mean"] == pytest.approx((50 + 70 + 90 + 110) / 4)


def test_a_registered_metric_has_curves(
    toy: Score,
    photo_dir: Path,
    tiny_clip: str,
    tiny_dino: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Probes and validation images of a run that stands at steps 0 and 5."""
    logger = TensorBoardLogger(tmp_path, name="run", version="")
    data = SimpleNamespace(
        instance_photos=sorted(photo_dir.iterdir()), identifier="sks", class_noun="dog", seed=42
    )
    trainer = SimpleNamespace(loggers=[logger], global_step=0, datamodule=data)
    module = SimpleNamespace(device="cpu", base_model=None)
    fidelity = Fidelity(load_encoders(EncoderSettings(clip=tiny_clip, dino=tiny_dino)))
    curves = Validation(
        ValidationSettings(class_images=1),
        prompt_set("validation"),
        every_n_steps=5,
        sampling=SamplingSettings(),
        folder=tmp_path / "sheets",
        reporter=ProgressReporter(),
        fidelity=fidelity,
    )

    def generate(base: None, requests: list, *_: object, **__: object) -> list[Image.Image]:
        light = 100 + 4 * trainer.global_step
        return [Image.new("RGB", (32, 32), (light,) * 3) for _ in requests]

    monkeypatch.setattr(validation, "generate", generate)
    monkeypatch.setattr(validation, "settle_batch_size", lambda base, sampling: sampling)
    assert "brightness" in validation.curve_names()
    fidelity.on_fit_start(trainer, module)
    texts = (["A dog"], ["A sks dog"])
    fidelity.set_floor(generate(None, [0]), *texts)
    for step in (0, 5):
        trainer.global_step = step
        fidelity.record(trainer, generate(None, [0]), *texts)
        curves.round(trainer, module)
    logger.experiment.flush()

    events = EventAccumulator(logger.log_dir)
    events.Reload()
    photos = photo_brightness(photo_dir)
    level = sum(photos) / len(photos)
    for group in ("fidelity", "validation"):
        for suffix, expected in (("", [100, 120]), ("_floor", [100, 100])):
            found = [event.value for event in events.Scalars(f"{group}/brightness{suffix}")]
            assert found == pytest.approx([light - level for light in expected], abs=1e-3)
        assert len(events.Scalars(f"{group}/brightness_ceiling")) == 2


# To add a protocol.


def test_a_file_of_prompts_is_a_protocol(
    options: list[str], prompts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    plan = make_plan(str(prompts_file), "sks", "dog", 42, "photos")
    assert plan.prompts == tuple(
        f"a sks dog {place}"
        for place in ("in the sun", "at noon", "in rain", "in a storm")
        for _ in range(2)
    )
    assert plan.class_texts[4] == "a dog in rain"
    assert len({request.seed for request in plan.requests}) == 8
    assert evaluate.main([*options, "--format", "json"]) == 0
    _, _, own = json.loads(capsys.readouterr().out)
    assert own["protocol"] == "weather" and own["n_images"] == 8
    assert own["groups"].keys() == {"dry", "wet"}


def test_a_file_and_two_entries_ship_a_protocol_with_the_package(
    prompts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_path = make_plan(str(prompts_file), "sks", "dog", 42, "photos")
    facts = tmp_path / "facts"
    shutil.copytree(Path(str(prompts.FACTS)), facts)
    shutil.move(prompts_file, facts)
    monkeypatch.setattr(prompts, "FACTS", facts)
    monkeypatch.setattr(prompts, "PROMPT_SETS", (*prompts.PROMPT_SETS, "weather"))
    monkeypatch.setitem(protocols.SETS, "weather", ("weather", "weather"))
    monkeypatch.setattr(protocols, "PROTOCOLS", (protocols.PROBES, *protocols.SETS))
    assert protocols.protocol_name("weather") == "weather"
    assert make_plan("weather", "sks", "dog", 42, "photos") == by_path


# To add a probe prompt.


def test_a_probe_prompt_is_an_entry_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(probe_requests("sks", "dog", 42))
    facts = tmp_path / "facts"
    shutil.copytree(Path(str(prompts.FACTS)), facts)
    file = facts / "probes.yaml"
    content = yaml.safe_load(file.read_text())
    content["prompts"]["weather"] = "A {identifier} {class} in the rain."
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    monkeypatch.setattr(prompts, "FACTS", facts)

    after = dict(probe_requests("sks", "dog", 42))
    assert list(after) == [*before, "weather"]
    assert after["weather"].prompt == "A sks dog in the rain."
    assert {label: after[label] for label in before} == before, "the others stay as they were"
    plan = make_plan("probes", "sks", "dog", 42, "photos")
    assert plan.requests == tuple(after.values())
    assert (plan.labels[-1], plan.kinds[-1], plan.class_texts[-1]) == (
        "weather",
        "weather",
        "A dog in the rain.",
    )
