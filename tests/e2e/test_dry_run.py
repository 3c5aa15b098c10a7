"""`train.py fit --dry-run`: the whole of a run's checks, and nothing written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from test_user_errors import CASES, surroundings  # noqa: F401

from dreambooth_pl.commands import train

LATE = [
    "too few class images",
    "no encoder",
    "optimiser that refuses",
    "unwritable output",
    "target nobody has",
    "accelerator that is not there",
    "empty photo folder",
]
"""Mistakes that are found when the config has been read."""


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with the files' contents."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def dry_run(fit, *more: str, **keys) -> int:
    return train.main([*fit.arguments(**keys), "--dry-run", *more])


def test_it_reports_and_writes_nothing(fit, capfd) -> None:
    (fit.photos / "05.jpg").write_bytes(b"no picture")
    turned = Image.new("RGB", (60, 40), "red")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(fit.photos / "06.jpg", exif=exif)
    before = tree(fit.cwd.parent)
    assert dry_run(fit, model__lora__rank=2, data__cache_dir="cache") == 0
    out = capfd.readouterr().out
    assert tree(fit.cwd.parent) == before
    assert "6 photos used" in out
    assert re.search(r"fixed +06.jpg: .*turned", out) and re.search(r"left out +05.jpg: ", out)
    assert "class images: 3, 0 of them there, 3 to generate, in data/class_images/dog-" in out
    assert "steps: 6\n" in out
    assert re.search(r"memory: about [\d.]+ [MG]B at most, on cpu", out)
    assert re.search(r"time: about \d+ s, by [678] steps just now", out)
    assert "run folder: lightning_logs/default/version_0\n" in out
    assert out.endswith("Nothing was written.\n")


def test_programs_read_what_the_run_then_does(fit, capfd) -> None:
    keys = {"model__lora__rank": 2, "probe__every_n_steps": 0}
    assert fit.main(**keys, data__num_class_images=2) == 0
    capfd.readouterr()
    before = tree(fit.cwd)
    assert dry_run(fit, "json", **keys, model__train_text_encoder="true") == 0
    report = json.loads(capfd.readouterr().out)
    assert tree(fit.cwd) == before
    assert report["photos"]["used"] == ["00.png", "01.png", "02.jpg", "03.png", "04.jpg"]
    assert report["photos"]["refused"] == [] and report["first_step"] == 0
    images = report["class_images"]
    assert (images["wanted"], images["there"], images["to_generate"]) == (3, 2, 1)
    assert {one["component"]: one["rank"] for one in report["trains"]} == {
        "unet": 2,
        "text_encoder": 2,
    }
    seconds = report["seconds"]
    parts = [seconds[name] for name in ("class_images", "encoding", "training", "probes")]
    assert seconds["total"] == pytest.approx(sum(parts)) and seconds["probes"] == 0
    assert all(part > 0 for part in parts[:3])
    memory = report["memory"]
    assert memory["expected"] >= memory["measured"] > 0 < memory["available"]

    command = fit.run(**keys, model__train_text_encoder="true")
    assert report["run_folder"] == str(command.run_folder)
    assert (
        report["class_images"]["folder"]
        == str(next(fit.cwd.glob("data/class_images/*")))[len(str(fit.cwd)) + 1 :]
    )
    weights = torch.load(command.run_folder / "checkpoints" / "last.ckpt", weights_only=True)[
        "state_dict"
    ]
    for one in report["trains"]:
        own = [w for name, w in weights.items() if name.startswith(f"{one['component']}.")]
        assert one["parameters"] == sum(weight.numel() for weight in own)


@pytest.mark.parametrize("case", LATE)
def test_a_mistake_is_told_as_by_a_run(fit, surroundings, capfd, case) -> None:  # noqa: F811
    keys, _ = CASES[case]
    before = tree(surroundings)
    assert dry_run(fit, **keys) == 1
    told = capfd.readouterr()
    assert tree(surroundings) == before
    assert fit.main(**keys) == 1
    assert told.out == ""
    message = told.err[told.err.index("error: ") :]
    assert capfd.readouterr().err.endswith(message)


def test_a_resumed_run_is_named_with_its_step(finished, capfd) -> None:
    before = tree(Path.cwd())
    resume = ["fit", "--resume", str(finished.run), "--dry-run"]
    assert train.main([*resume, "--trainer.max_steps", "9"]) == 0
    out = capfd.readouterr().out
    assert "steps: 9, going on from step 6\n" in out
    assert f"run folder: {finished.run}\n" in out
    assert "3 of them there, 0 to generate" in out
    assert train.main(resume) == 0
    assert "steps: all 6 are done; only what is missing" in capfd.readouterr().out
    assert train.main([*resume, "--data.batch_size", "2"]) == 1
    assert "data.batch_size is 2, was 1" in capfd.readouterr().err
    assert tree(Path.cwd()) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fit", "--dry-run", "xml"], "--dry-run: 'xml' is not one of text, json."),
        (["fit", "--dry-run=yaml"], "--dry-run: 'yaml' is not one of text, json."),
        (["test", "--dry-run"], "--dry-run belongs to fit, not to test."),
        (["fit", "--config", "own.yaml"], "dry_run stands in a config file"),
    ],
)
def test_where_it_may_stand(words, told, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("dry_run: json\n")
    assert train.main(words) == 1
    assert told in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "own.yaml"]
