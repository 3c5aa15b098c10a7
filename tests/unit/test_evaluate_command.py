"""`evaluate.py` from its options to what it prints and writes, on a tiny random base."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dreambooth_pl.commands import evaluate as cli_evaluate
from dreambooth_pl.evaluation.record import read_sets
from dreambooth_pl.evaluation.results import row_of
from dreambooth_pl.files.png_metadata import read_png_metadata

MakeRun = Callable[..., Path]
SCORES_FILE = ("dino", "clip_i", "clip_t", "pres", "drift", "div", "copy")


@pytest.fixture()
def evaluate(capsys: pytest.CaptureFixture) -> Callable[..., list[dict]]:
    """Run the command and return the rows that it prints as JSON."""

    def run(*options: object, status: int = 0) -> list[dict]:
        words = [*map(str, options), "--device", "cpu", "--format", "json"]
        words += [] if "--protocol" in words else ["--protocol", "probes"]
        assert cli_evaluate.main(words) == status, capsys.readouterr().err
        found = json.loads(capsys.readouterr().out)
        return found if isinstance(found, list) else found["rows"]

    return run


@pytest.fixture()
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "trial.yaml"
    path.write_text(
        "name: trial\nimages_per_prompt: 2\nprompts:\n"
        '  place: ["a {identifier} {class} at sea"]\n  colour: ["a blue {identifier} {class}"]\n'
    )
    return path


def test_a_folder_of_images_scores_as_the_run_that_made_them(
    make_run: MakeRun,
    photo_dir: Path,
    prompts: Path,
    tmp_path: Path,
    evaluate: Callable,
    capsys: pytest.CaptureFixture,
) -> None:
    folder, out = make_run(), tmp_path / "saved"
    rows = evaluate(folder, "--protocol", prompts, "--class-images", 2, "--save", out)
    assert [row["run"] for row in rows] == ["real photos", "base", "sks/version_0"]
    assert all(rows[2][name]["mean"] is not None for name in SCORES_FILE)
    encoders = ["--photos", photo_dir, "--config", folder / "config.yaml"]
    for images in (folder / "evaluation" / "trial", out / "sks-version_0"):
        again = evaluate("--images", images, *encoders, "--prompts", prompts)
        assert [row["run"] for row in again] == ["real photos", "base", str(images)]
        for row, expected in zip(again, rows, strict=True):
            assert row | {"run": expected["run"]} == expected
    tuned = folder / "evaluation" / "trial" / "tuned"
    alone = evaluate("--images", tuned, *encoders)
    assert alone[-1]["dino"] == rows[2]["dino"] and alone[-1]["clip_t"] == rows[2]["clip_t"]
    assert "pres" not in alone[-1]

    # As another tool would write them: only names, and the prompts' file.
    plain = tmp_path / "plain"
    plain.mkdir()
    for number, path in enumerate(sorted(tuned.glob("*.png"))):
        with Image.open(path) as image:
            image.save(plain / f"{number // 2:02d}_{number % 2}.png")
    by_name = evaluate("--images", plain, *encoders, "--prompts", prompts)
    assert by_name[-1]["clip_t"] == rows[2]["clip_t"] and by_name[-1]["div"] == rows[2]["div"]
    for path in plain.glob("01_*.png"):
        path.unlink()
    words = ["--images", plain, *encoders, "--prompts", prompts]
    assert cli_evaluate.main([*map(str, words)]) == 1
    assert "no image of prompt 1, 'a blue sks dog'" in capsys.readouterr().err


def test_autocast_draws_anew_and_says_so_in_the_images(
    make_run: MakeRun, prompts: Path, evaluate: Callable
) -> None:
    folder = make_run()
    options = [folder, "--protocol", prompts, "--class-images", 0]
    exact = evaluate(*options)
    fast = evaluate(*options, "--autocast", "bfloat16")
    assert [row["run"] for row in fast] == [row["run"] for row in exact]
    assert fast[-1]["dino"] != exact[-1]["dino"]
    for path in folder.glob("evaluation/trial/*/*.png"):
        assert read_png_metadata(path)["autocast"] == "bfloat16"
    assert evaluate(*options) == exact


def test_save_keeps_all_that_the_table_is_made_of(
    make_run: MakeRun, prompts: Path, tmp_path: Path, evaluate: Callable
) -> None:
    out = tmp_path / "out"
    options = ["--protocol", prompts, "--lora-scale", 0.5, 1, "--class-images", 2, "--save", out]
    rows = evaluate(make_run(), *options)
    names = ["sks/version_0, scale 0.5", "sks/version_0, scale 1"]
    assert [row["run"] for row in rows[2:]] == names
    assert rows[2]["dino"] != rows[3]["dino"]
    sets = read_sets(out)
    index = json.loads((out / "scores.json").read_text())["lines"]
    again = [row_of("", "", [sets[name] for name in entry["sets"]]) for entry in index]
    assert [row.scores["dino"].as_dict() for row in again] == [row["dino"] for row in rows]
    assert json.loads((out / "table.json").read_text()) == rows
    table = list(csv.DictReader(io.StringIO((out / "table.csv").read_text())))
    assert [row["run"] for row in table] == [row["run"] for row in rows]
    assert r"\begin{tabular}" in (out / "table.tex").read_text()
    assert "| base |" in (out / "table.md").read_text()
    with Image.open(out / "fidelity.png") as plot:
        assert plot.width > 300
    run = tmp_path / "logs/sks/version_0"
    again = evaluate(
        *("--images", run / "evaluation/trial/scale_0.5", "--config", run / "config.yaml"),
        *("--prompts", prompts),
    )
    assert [row["dino"] for row in again] == [row["dino"] for row in rows[:3]]
    assert again[2]["drift"] == rows[2]["drift"]
    kept = out / "sks-version_0-scale-0.5"
    assert (
        len(list((kept / "tuned").glob("*.png"))) == len(list((kept / "base").glob("*.png"))) == 4
    )
    assert (kept / "tuned.png").is_file() and (kept / "class_tuned.png").is_file()


def test_a_broken_run_does_not_stop_the_others(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for number in range(4):
        make_run(f"sks/version_{number}")
    logs = tmp_path / "logs"
    weights = "lora/pytorch_lora_weights.safetensors"
    (logs / "sks/version_1" / weights).write_bytes(b"?")
    (logs / "sks/version_2" / "config.yaml").write_text("a: b")
    options = ["--logs", str(logs), "--device", "cpu", "--format", "json", "--class-images", "0"]
    options += ["--protocol", "probes"]
    assert cli_evaluate.main(options) == 1
    captured = capsys.readouterr()
    names = [row["run"] for row in json.loads(captured.out)]
    assert names == ["real photos", "base", "sks/version_0", "sks/version_3"]
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert "version_1" in "".join(errors) and "version_2" in "".join(errors)


def test_runs_of_several_subjects_are_averaged(
    make_run: MakeRun, photo_dir: Path, tmp_path: Path, evaluate: Callable
) -> None:
    other = tmp_path / "other_dog"
    other.mkdir()
    for name in ("00.png", "03.png"):
        shutil.copy(photo_dir / name, other)
    runs = [make_run("sks/version_0"), make_run("sks/version_1", instance_dir=str(other))]
    rows = evaluate(*runs, "--class-images", 2)
    means, own = rows[:3], rows[3:]
    kinds = ["real photos", "base", "sks"]
    assert [row["run"] for row in means] == [f"{kind} (mean of 2 subjects)" for kind in kinds]
    assert len(own) == 6
    for place, mean in enumerate(means):
        for name in ("dino", "clip_i"):
            expected = (own[place][name]["mean"] + own[place + 3][name]["mean"]) / 2
            assert mean[name]["mean"] == pytest.approx(expected, abs=1e-6)
    expected = (own[2]["pres"]["mean"] + own[5]["pres"]["mean"]) / 2
    assert means[2]["pres"]["mean"] == pytest.approx(expected, abs=1e-6)


def test_ctrl_c_ends_without_a_traceback(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli_evaluate, "score_runs", interrupted)
    assert cli_evaluate.main([str(make_run()), "--device", "cpu"]) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


def test_two_methods_are_compared_in_pairs(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first, second = make_run(), make_run("hta/version_0", identifier="hta")
    options = ["--compare", str(first), str(second), "--device", "cpu", "--class-images", "2"]
    options += ["--protocol", "probes"]
    assert cli_evaluate.main([*options, "--format", "csv", "--paper"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    by_name = {row["run"]: row for row in rows}
    a, b = by_name["sks/version_0"], by_name["hta/version_0"]
    difference = by_name["sks/version_0 - hta/version_0"]
    for name in ("dino", "clip_t", "pres"):
        assert float(difference[name]) == pytest.approx(float(a[name]) - float(b[name]), abs=1e-6)
        assert float(difference[f"{name}_low"]) <= float(difference[name])
    assert any(row["protocol"].startswith("paper") for row in rows)


def test_a_lora_file_from_elsewhere(make_run: MakeRun, tmp_path: Path, evaluate: Callable) -> None:
    folder = make_run()
    foreign = tmp_path / "downloads" / "friend.safetensors"
    foreign.parent.mkdir()
    shutil.copy(folder / "lora" / "pytorch_lora_weights.safetensors", foreign)
    options = ["--class-images", 0]
    rows = evaluate(foreign, "--config", folder / "config.yaml", *options)
    own = evaluate(folder, *options)
    assert rows[2] | {"run": "sks/version_0"} == own[2]
    assert rows[2]["run"] == "friend"
    assert (foreign.parent / "friend_evaluation" / "probes" / "scores.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "probe"], "neither a protocol"),
        (["--prompts", "x.yaml"], "--prompts belongs to --images"),
        (["--images", "x", "RUN"], "leave out RUN"),
        (["--images", "x", "--autocast", "bfloat16"], "and --autocast"),
        (["--images", "x"], "needs --photos"),
        (["--images", "x", "--photos", "PHOTOS"], "no folder of images"),
        (["--compare", "RUN", "nowhere"], "nowhere"),
        (["RUN/config.yaml"], "--config"),
    ],
)
def test_mistakes_are_told_in_a_line(
    make_run: MakeRun,
    photo_dir: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture,
) -> None:
    folder = str(make_run())
    words = [word.replace("RUN", folder).replace("PHOTOS", str(photo_dir)) for word in options]
    if "--protocol" in words:
        words.append(folder)
    assert cli_evaluate.main([*words, "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err
    assert captured.err.startswith("error: ") and len(captured.err.splitlines()) == 1


def test_shares_make_the_images_that_one_machine_makes(
    make_run: MakeRun, prompts: Path, evaluate: Callable, capsys: pytest.CaptureFixture
) -> None:
    folder = make_run()
    options = [folder, "--protocol", prompts, "--class-images", 2]
    made = []
    for share in ("1/3", "2/3", "3/3"):
        words = [*map(str, options), "--share", share, "--device", "cpu"]
        assert cli_evaluate.main(words) == 0 and not capsys.readouterr().out
        made.append(len(list(folder.glob("evaluation/trial/*/*.png"))))
    assert made == [6, 10, 12]  # of 4 + 4 and 2 + 2 images
    before = {path: path.stat().st_mtime_ns for path in folder.glob("evaluation/trial/*/*.png")}
    rows = evaluate(*options)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    shared = {path: path.read_bytes() for path in before}
    shutil.rmtree(folder / "evaluation")
    words = [*map(str, options), "--share", "1/1", "--device", "cpu"]
    assert cli_evaluate.main(words) == 0
    assert {path: path.read_bytes() for path in before} == shared
    capsys.readouterr()
    assert evaluate(*options) == rows
    assert cli_evaluate.main([*words, "--save", "there"]) == 1
    assert "--share generates images" in capsys.readouterr().err
