"""Evaluation of runs on a tiny random base, against images drawn and pairs compared by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import leave_unfinished
from PIL import Image

from dreambooth_pl.adapters import load_adapters
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.commands import evaluate as cli_evaluate
from dreambooth_pl.data.photos import read_photo
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.evaluate_runs import score_runs
from dreambooth_pl.evaluation.record import read_sets
from dreambooth_pl.evaluation.results import Row, row_of
from dreambooth_pl.evaluation.run_images import generate_images
from dreambooth_pl.files.png_metadata import read_png_metadata, save_png
from dreambooth_pl.metrics.encoders import ClipEncoder, DinoEncoder
from dreambooth_pl.reporting.tables import to_json
from dreambooth_pl.runs.finished import Run, read_run
from dreambooth_pl.sampling import batch_size as throughput
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest, image_seed, probe_requests
from dreambooth_pl.sampling.settings import SamplingSettings

SAMPLING = SamplingSettings(
    num_inference_steps=2,
    guidance_scale=2.0,
    lora_scale_unet=1.0,
    lora_scale_text_encoder=1.0,
    batch_size=4,
)
N_PROBES = 8

MakeRun = Callable[..., Path]


def evaluate(runs: Sequence[Run], *arguments: Any, **options: Any) -> list[Row]:
    """The rows of what `score_runs` finds."""
    return [result.row for result in score_runs(runs, *arguments, **options)]


def mean_cosine(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    return sum(float(a.double() @ b.double()) for a, b in pairs) / len(pairs)


def test_rows_equal_images_drawn_and_compared_by_hand(
    make_run: MakeRun, photo_dir: Path, tiny_base_dir: Path, tiny_clip: str, tiny_dino: str
) -> None:
    folder = make_run()
    ceiling, floor, run = evaluate([read_run(folder)], class_images=0)
    assert [row.run for row in (ceiling, floor, run)] == ["real photos", "base", "sks/version_0"]
    assert [row.n_images for row in (ceiling, floor, run)] == [5, N_PROBES, N_PROBES]

    dino, clip = DinoEncoder(tiny_dino), ClipEncoder(tiny_clip)
    photos = [read_photo(path) for path in sorted(photo_dir.iterdir())]
    real, real_clip = dino.encode_images(photos), clip.encode_images(photos)
    others = [(a, b) for i, a in enumerate(real) for j, b in enumerate(real) if i != j]
    assert ceiling.scores["dino"].mean == pytest.approx(mean_cosine(others), abs=1e-6)
    assert "clip_t" not in ceiling.scores

    texts = clip.encode_texts(
        ["A dog"] * 4
        + [
            "A dog in red t-shorts.",
            "A dog in the style of van gogh.",
            "A dog in the forest.",
            "A dog driving car.",
        ]
    )
    requests = [request for _, request in probe_requests("sks", "dog", 42)]
    base = load_base(str(tiny_base_dir))
    untuned = list(generate(base, requests, SAMPLING))
    load_adapters(base, folder / "lora")
    tuned = list(generate(base, requests, SAMPLING))
    for row, images in ((floor, untuned), (run, tuned)):
        features, features_clip = dino.encode_images(images), clip.encode_images(images)
        all_pairs = [(g, r) for g in features for r in real]
        assert row.scores["dino"].mean == pytest.approx(mean_cosine(all_pairs), abs=1e-6)
        all_pairs = [(g, r) for g in features_clip for r in real_clip]
        assert row.scores["clip_i"].mean == pytest.approx(mean_cosine(all_pairs), abs=1e-6)
        own_text = list(zip(features_clip, texts, strict=True))
        assert row.scores["clip_t"].mean == pytest.approx(mean_cosine(own_text), abs=1e-6)
        found = row.scores["dino"]
        assert found.low <= found.mean <= found.high
    assert run.scores["dino"].mean != floor.scores["dino"].mean
    assert run.scores["clip_t_identifier"].mean != run.scores["clip_t"].mean


def test_what_was_drawn_and_scored_is_kept(make_run: MakeRun) -> None:
    folder = make_run()
    _, floor, run = evaluate([read_run(folder)], class_images=0)
    kept = folder / "evaluation" / "probes"
    record = json.loads((kept / "scores.json").read_text())
    for name, row in (("tuned", run), ("base", floor)):
        entries = record["images"][name]
        mean = sum(entry["dino"] for entry in entries) / N_PROBES
        assert mean == pytest.approx(row.scores["dino"].mean, abs=1e-6), (
            "the table follows from the record"
        )
        assert len(list((kept / name).glob("*.png"))) == N_PROBES
        with Image.open(kept / f"{name}.png") as sheet:
            assert sheet.width > 4 * 128
    first = sorted((kept / "tuned").glob("*.png"))[0]
    metadata = read_png_metadata(first)
    assert metadata["prompt"] == "A sks dog"
    assert metadata["seed"] == record["images"]["tuned"][0]["seed"]
    assert metadata["adapter_sha256"] == record["adapter_sha256"] is not None
    assert not [path for path in kept.rglob(".*")], "something was left half-written"


def test_verified_images_are_taken_over_and_others_drawn_again(make_run: MakeRun) -> None:
    folder = make_run()
    rows = evaluate([read_run(folder)], class_images=0)
    images = sorted((folder / "evaluation" / "probes" / "tuned").glob("*.png"))
    before = [path.read_bytes() for path in images]

    # Changed pixels under true metadata; a file cut short; another seed; one gone.
    save_png(Image.new("RGB", (32, 32), "red"), images[0], read_png_metadata(images[0]))
    images[1].write_bytes(before[1][: len(before[1]) // 2])
    with Image.open(images[2]) as file:
        image = file.convert("RGB")
    save_png(image, images[2], read_png_metadata(images[2]) | {"seed": 1})
    images[3].unlink()
    untouched = images[4].stat().st_mtime_ns

    assert evaluate([read_run(folder)], class_images=0) == rows
    assert [path.read_bytes() for path in images] == before
    assert images[4].stat().st_mtime_ns == untouched, "a good image was drawn again"


def test_another_adapter_or_sampler_reuses_nothing(make_run: MakeRun) -> None:
    folder, other = make_run(), make_run("hta/version_0", identifier="hta")
    rows = evaluate([read_run(folder)], class_images=0)
    shutil.copy(other / "lora" / "pytorch_lora_weights.safetensors", folder / "lora")
    changed = evaluate([read_run(folder)], class_images=0)
    assert changed[1] == rows[1], "the base does not depend on the adapter"
    assert changed[2] != rows[2]
    run = read_run(folder)
    fewer = replace(run, sampling=replace(run.sampling, num_inference_steps=1))
    assert evaluate([fewer], class_images=0)[1] != rows[1]


class Interruption(Exception):
    """Stands for a user's Ctrl-C."""


class InterruptingReporter:
    """Shows nothing and interrupts after so many batches."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[InterruptingReporter]:
        yield self

    def update(self, done: int, total: int) -> None:
        self.batches -= 1
        if self.batches == 0:
            raise Interruption


def test_an_interrupted_evaluation_goes_on_to_the_same_table(make_run: MakeRun) -> None:
    folder = make_run()
    expected = evaluate([read_run(folder)], class_images=0)
    shutil.rmtree(folder / "evaluation")
    with pytest.raises(Interruption):  # the base has two batches; then in the second of the run's
        evaluate([read_run(folder)], class_images=0, reporter=InterruptingReporter(batches=4))
    kept = sorted((folder / "evaluation" / "probes").rglob("*.png"))
    assert len(kept) == N_PROBES + SAMPLING.batch_size
    times = [path.stat().st_mtime_ns for path in kept]
    assert evaluate([read_run(folder)], class_images=0) == expected
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_an_interrupted_evaluation_goes_on_at_the_batch_size_it_began_with(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "trial.yaml"
    prompts.write_text('images_per_prompt: 5\nprompts: ["a {identifier} {class} at sea"]\n')
    run = read_run(make_run())
    measured = {3: 1.0}  # what the machine likes: then another size, as after a move
    monkeypatch.setattr(throughput, "measure_rates", lambda *_: dict(measured))
    for name in ("one", "other"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        if name == "one":
            expected = evaluate([run], str(prompts), class_images=2)
            shutil.rmtree(run.folder / "evaluation")
            with pytest.raises(
                Interruption
            ):  # 2 batches of 5 images, 1 of the class; 1 of the run's
                evaluate(
                    [run], str(prompts), class_images=2, reporter=InterruptingReporter(batches=4)
                )
            left = leave_unfinished(run.folder / "evaluation/trial/tuned/0000_at-sea-1.png")
            measured = {5: 1.0}
    assert evaluate([run], str(prompts), class_images=2) == expected
    images = sorted((run.folder / "evaluation" / "trial" / "tuned").glob("*.png"))
    assert [read_png_metadata(path)["batch_size"] for path in images] == [3] * 5
    assert not left.exists()


def test_ranks_draw_what_one_process_would(make_run: MakeRun) -> None:
    run = read_run(make_run())
    rows = evaluate([run], class_images=3)
    folder = run.folder / "evaluation" / "probes"
    whole = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*/*.png")}
    shutil.rmtree(run.folder / "evaluation")
    for rank in (1, 0):
        generate_images([run], class_images=3, shard=(rank, 2))
    drawn = {path: path.stat().st_mtime_ns for path in folder.rglob("*/*.png")}
    assert {path.relative_to(folder): path.read_bytes() for path in drawn} == whole
    assert evaluate([run], class_images=3) == rows
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn, "an image was drawn again"


def test_the_table_follows_from_the_tensors_on_disk(make_run: MakeRun) -> None:
    run = read_run(make_run())
    rows = evaluate([run], class_images=3)
    sets = read_sets(run.folder / "evaluation" / "probes")
    names = {"real_photos": "real photos", "base": "base", "tuned": "sks/version_0"}
    again = [row_of(name, "probes", [sets[key]]) for key, name in names.items()]
    assert again == rows
    assert sets["tuned"].scores["dino"].shape == (5, 4)


def test_class_images_compare_with_the_base_on_the_same_seeds(
    make_run: MakeRun, photo_dir: Path, tiny_base_dir: Path, tiny_dino: str
) -> None:
    folder = make_run()
    _, floor, row = evaluate([read_run(folder)], class_images=3)
    dino, base = DinoEncoder(tiny_dino), load_base(str(tiny_base_dir))
    real = dino.encode_images([read_photo(path) for path in sorted(photo_dir.iterdir())])
    requests = [ImageRequest("a dog", image_seed(42, "class image", k)) for k in range(3)]
    untuned = dino.encode_images(list(generate(base, requests, SAMPLING)))
    load_adapters(base, folder / "lora")
    tuned = dino.encode_images(list(generate(base, requests, SAMPLING)))
    pres, pres_base = (
        mean_cosine([(image, photo) for image in images for photo in real])
        for images in (tuned, untuned)
    )
    assert row.scores["pres"].mean == pytest.approx(pres, abs=1e-6)
    assert (
        floor.scores["pres"].mean
        == row.scores["pres_base"].mean
        == pytest.approx(pres_base, abs=1e-6)
    )
    assert row.scores["pres_change"].mean == pytest.approx(pres - pres_base, abs=1e-6)
    pairs = list(zip(tuned, untuned, strict=True))
    assert row.scores["drift"].mean == pytest.approx(1 - mean_cosine(pairs), abs=1e-6)


def test_runs_of_one_group_share_ceiling_and_floor(make_run: MakeRun) -> None:
    same = [read_run(make_run(f"sks/version_{n}")) for n in (0, 1)]
    other = read_run(make_run("hta/version_0", identifier="hta"))
    rows = evaluate([*same, other], class_images=0)
    names = ["real photos", "base", "sks/version_0", "sks/version_1", "hta/version_0"]
    assert [row.run for row in rows] == names
    assert rows[1].n_images == 2 * N_PROBES, "the floor covers both identifiers' prompts, once each"
    alone = [evaluate([run], class_images=0)[1].scores["dino"].mean for run in (same[0], other)]
    assert rows[1].scores["dino"].mean == pytest.approx(sum(alone) / 2, abs=1e-6)
    for run in (*same, other):
        assert len(list((run.folder / "evaluation/probes/base").glob("*.png"))) == N_PROBES


def test_groups_are_told_apart(make_run: MakeRun, photo_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(photo_dir, tmp_path / "cat_photos")
    runs = [
        read_run(make_run()),
        read_run(make_run("cat/version_0", instance_dir=str(tmp_path / "cat_photos"))),
    ]
    assert [row.run for row in evaluate(runs, class_images=0)] == [
        "real photos (photos)",
        "base (photos)",
        "sks/version_0",
        "real photos (cat_photos)",
        "base (cat_photos)",
        "cat/version_0",
    ]


def test_one_photo_has_no_ceiling_but_the_rest(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "one" / "a.png")
    rows = evaluate([read_run(make_run(instance_dir=str(tmp_path / "one")))])
    assert "dino" not in rows[0].scores and rows[0].n_images == 1
    assert "dino" in rows[2].scores
    assert json.loads(to_json(rows))[0]["dino"] is None


def test_errors_name_the_run(make_run: MakeRun, tmp_path: Path) -> None:
    run = read_run(make_run(instance_dir=str(tmp_path / "gone")))
    with pytest.raises(UserError, match=r"sks/version_0.*gone"):
        evaluate([run], class_images=0)


def test_command_finds_all_runs_and_prints_json(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    make_run("sks/version_10")
    make_run("sks/version_2")
    options = ["--protocol", "probes", "--logs", str(tmp_path / "logs"), "--device", "cpu"]
    assert cli_evaluate.main([*options, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    names = ["real photos", "base", "sks/version_2", "sks/version_10"]
    assert [row["run"] for row in rows] == names
    for row in rows[1:]:
        assert row["protocol"] == "probes" and row["n_images"] == N_PROBES
        for score in ("dino", "clip_i", "clip_t"):
            assert set(row[score]) == {"mean", "low", "high"}
    assert cli_evaluate.main([str(tmp_path / "logs/sks/version_2"), *options]) == 0
    table = capsys.readouterr().out
    assert "real photos" in table and "version_10" not in table


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "no run folder"),
        (lambda folder: (folder / "config.yaml").unlink(), "no config.yaml"),
        (lambda folder: (folder / "config.yaml").write_text("a: [b"), "not valid YAML"),
        (lambda folder: (folder / "config.yaml").write_text("a: b"), "no key model.base"),
        (lambda folder: shutil.rmtree(folder / "lora"), "not come to the end"),
        (
            lambda folder: (folder / "lora/pytorch_lora_weights.safetensors").write_bytes(b"?"),
            "safetensors",
        ),
    ],
)
def test_command_tells_mistakes(
    make_run: MakeRun, damage: Callable, message: str, capsys: pytest.CaptureFixture
) -> None:
    folder = make_run()
    damage(folder)
    assert cli_evaluate.main([str(folder), "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and message in captured.err
    assert "Traceback" not in captured.err


def test_command_without_runs_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert cli_evaluate.main(["--logs", str(tmp_path / "nowhere")]) == 1
    error = capsys.readouterr().err
    assert "no finished run" in error and "train.py fit" in error
    assert len(error.splitlines()) == 1


def test_unknown_device_is_told(make_run: MakeRun, capsys: pytest.CaptureFixture) -> None:
    assert cli_evaluate.main([str(make_run()), "--device", "abacus"]) == 1
    assert "--device abacus" in capsys.readouterr().err
