"""The identifier finder: its list, its images and distances, and the input it refuses."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from dreambooth_pl.bases.load import load_base
from dreambooth_pl.commands.identifiers import main
from dreambooth_pl.files.png_metadata import read_png_metadata
from dreambooth_pl.identifiers.trial import save_trials, try_identifiers
from dreambooth_pl.metrics.encoders import EncoderSettings, load_encoders
from dreambooth_pl.prompts import IDENTIFIERS
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest, image_seed
from dreambooth_pl.sampling.settings import SamplingSettings

SETTINGS = SamplingSettings(num_inference_steps=2, batch_size=2)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_list_begins_with_the_named_words(tiny_base_dir: Path, capsys) -> None:
    arguments = ["--class", "dog", "--base", str(tiny_base_dir), "--count", "5", "--format", "csv"]
    assert main([*arguments, "--identifiers", "zwx", "sks", "lun"]) == 0
    rows = read(capsys.readouterr().out)
    names = [row["identifier"] for row in rows]
    assert names[: len(IDENTIFIERS) + 2] == [*IDENTIFIERS, "zwx", "lun"]
    assert len(names) == len(set(names)) == len(IDENTIFIERS) + 2 + 5
    of = {row["identifier"]: row for row in rows}
    assert (of["sks"]["token id"], of["hta"]["token id"]) == ("48136", "49384")
    assert of["zwx"]["rarer tokens"] == "2 tokens"


def test_distances_equal_a_loop_over_paired_images(tiny_base_dir: Path, tmp_path: Path) -> None:
    base = load_base(str(tiny_base_dir))
    clip, dino = (f"local-dir:{tiny_base_dir / name}" for name in ("clip", "dino"))
    encoders = load_encoders(EncoderSettings(clip=clip, dino=dino))
    plain, *others = try_identifiers(base, encoders, ["sks", "hta"], "dog", SETTINGS, count=2)
    assert (plain.identifier, plain.prompt, plain.dino) == (None, "a dog", 0)
    assert {trial.prompt for trial in others} == {"a sks dog", "a hta dog"}
    assert [trial.dino for trial in others] == sorted(trial.dino for trial in others)

    seeds = [image_seed(0, "identifiers", n) for n in range(2)]
    for trial in others:
        expected_images = generate(base, [ImageRequest(trial.prompt, s) for s in seeds], SETTINGS)
        assert [image.tobytes() for image in expected_images] == [i.tobytes() for i in trial.images]
        for name, encoder in (("dino", encoders.dino), ("clip", encoders.clip)):
            expected = 0.0
            for mine, its in zip(trial.images, plain.images, strict=True):
                a, b = encoder.encode_images([mine])[0], encoder.encode_images([its])[0]
                expected += (1 - torch.nn.functional.cosine_similarity(a, b, dim=0).item()) / 2
            assert getattr(trial, name) == pytest.approx(expected, abs=1e-5)
            assert expected > 1e-5, "the identifier changes the image"

    sheet = save_trials([plain, *others], base, SETTINGS, tmp_path / "new" / "folder")
    with Image.open(sheet) as image:
        assert image.height > 3 * 128, "a row per prompt, enlarged"
    names = [
        f"{n:02d}_{trial.prompt.replace(' ', '_')}" for n, trial in enumerate([plain, *others])
    ]
    files = sorted(path.name for path in sheet.parent.glob("0*.png"))
    assert files == [f"{name}_{n}.png" for name in names for n in (0, 1)]
    (path,) = sheet.parent.glob("*_a_sks_dog_1.png")
    metadata = read_png_metadata(path)
    assert (metadata["prompt"], metadata["seed"]) == ("a sks dog", seeds[1])


def test_command_generates_and_orders_by_distance(
    tiny_base_dir: Path, tmp_path: Path, capsys
) -> None:
    arguments = ["--class", "dog", "--base", str(tiny_base_dir), "--count", "0", "--format", "csv"]
    arguments += ["--identifiers", "../x"]  # a sign that is none of a file's name
    assert main([*arguments, "--draw", str(tmp_path / "out"), "--images", "1"]) == 0
    rows = read(capsys.readouterr().out)
    assert {row["identifier"] for row in rows} == {*IDENTIFIERS, "../x"}
    assert all(0 <= float(row[name]) <= 2 for row in rows for name in ("DINO", "CLIP"))
    assert [row["DINO"] for row in rows] == sorted(row["DINO"] for row in rows)
    assert (tmp_path / "out" / "identifiers.png").is_file()
    assert len(list((tmp_path / "out").glob("0*.png"))) == len(IDENTIFIERS) + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base", "no/such/base"], "--base: there is no folder"),
        (["--identifiers", "two words"], "one word without spaces"),
        (["--count", "-1"], "--count: -1 is below 0"),
        (["--images", "0"], "--images: 0 is below 1"),
        (["--class", " "], "--class: is empty"),
        (["--draw", "FILE"], "is a file"),
        (["--draw", "DIR", "--device", "nonsense"], "--device nonsense is not there"),
        (["--draw", "DIR", "--dino", "nonsense"], "--dino: timm has no model"),
        (["--draw", "DIR", "--clip-pretrained", "openai"], "goes with --clip"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], message: str, tiny_base_dir: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "file").write_text("")
    paths = {"FILE": str(tmp_path / "file"), "DIR": str(tmp_path / "drawn")}
    start = ["--class", "dog", "--base", str(tiny_base_dir), "--count", "1"]
    assert main([*start, *(paths.get(word, word) for word in arguments)]) == 1
    written = capsys.readouterr()
    assert written.err.startswith("error: ") and written.err.count("\n") == 1
    assert message in written.err
    assert not written.out and not (tmp_path / "drawn").exists()
