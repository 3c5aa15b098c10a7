"""What the studio's forms ask for is what the commands understand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dreambooth_pl.commands import evaluate_options, export, generate_options, identifiers
from dreambooth_pl.commands.train import main as train
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.dotted_keys import flatten
from dreambooth_pl.studio.jobs import commands
from dreambooth_pl.studio.jobs.commands import FINAL, ImageForm
from dreambooth_pl.studio.jobs.generate_in_turn import THEN
from dreambooth_pl.studio.presets import (
    config_files,
    name_of_run,
    read_value,
    training_config,
    write_training_config,
)
from dreambooth_pl.studio.setting_keys import setting_keys
from dreambooth_pl.studio.subjects import EXAMPLE, Subjects
from dreambooth_pl.studio.views.charts import Line, chart
from dreambooth_pl.studio.views.run_views import RunView, find_run_views, named_run
from dreambooth_pl.studio.workspace import Workspace

FORM = ImageForm("sks/version_0", FINAL, "-a 'b' {class}", "--bad", 7, 3, 9, 2.5, 0.4, 1.2, True)


@pytest.fixture()
def run(tmp_path: Path) -> RunView:
    folder = tmp_path / "lightning_logs/sks/version_0"
    for part in ("lora", "checkpoints", "probes/step_000000", "probes/step_000010"):
        (folder / part).mkdir(parents=True)
    (folder / "lora/pytorch_lora_weights.safetensors").write_bytes(b"")
    (folder / "checkpoints/best.ckpt").write_bytes(b"")
    (folder / "config.yaml").write_text("trainer:\n  max_steps: 20\n")
    for step in (0, 10):
        Image.new("RGB", (8, 8)).save(folder / f"probes/step_{step:06d}/00_a_1.png")
    (folder / "metrics.csv").write_text(
        "fidelity/dino,step,train/loss,validation/score\n"
        "0.1,0,,\n,0,,0.0\n,4,0.5,\n0.4,10,,\n,10,,0.7\n0.3,20,,\n,20,,0.6\n,20,0.4,,,\nhalf a"
    )
    return named_run(tmp_path / "lightning_logs", "sks/version_0")


def test_images_are_asked_for_with_all_of_the_forms_values(run: RunView, tmp_path: Path) -> None:
    _, module, *words = commands.generate_command(FORM, run, tmp_path / "out")
    middle = words.index(THEN)
    parser = generate_options.build_parser()
    tuned, base = parser.parse_args(words[:middle]), parser.parse_args(words[middle + 1 :])
    assert tuned.adapters == [run.folder] and tuned.prompt == [FORM.prompt]
    assert (tuned.negative_prompt, tuned.seed, tuned.num_images) == ("--bad", 7, 3)
    assert (tuned.num_inference_steps, tuned.guidance_scale) == (9, 2.5)
    assert (tuned.lora_scale_unet, tuned.lora_scale_text_encoder) == (0.4, 1.2)
    assert (base.lora_scale_unet, base.lora_scale_text_encoder) == (0, 0)
    assert tuned.out != base.out and base.seed == tuned.seed
    alone = commands.generate_command(replace(FORM, beside_base=False), run, tmp_path)
    assert THEN not in alone
    best = commands.generate_command(replace(FORM, checkpoint="best.ckpt"), run, tmp_path)
    assert best[2] == str(run.folder / "checkpoints/best.ckpt")
    with pytest.raises(UserError, match="no checkpoint"):
        commands.generate_command(replace(FORM, checkpoint="../best.ckpt"), run, tmp_path)


def test_other_commands_are_understood(run: RunView, tmp_path: Path) -> None:
    parse = evaluate_options.build_parser().parse_args
    scaled = parse(commands.evaluate_command([run], "probes", [0.5, 1], False, tmp_path)[1:])
    assert scaled.runs == [run.folder] and scaled.lora_scale == [0.5, 1]
    paired = parse(commands.evaluate_command([run, run], "probes", [], True, tmp_path)[1:])
    assert paired.compare == [run.folder, run.folder] and paired.save == tmp_path
    with pytest.raises(UserError, match="exactly two"):
        commands.evaluate_command([run], "probes", [], True, tmp_path)
    for form in ("diffusers", "kohya", "peft", "merged"):
        words, _ = commands.export_commands(run, form, True, tmp_path)
        options = export.build_parser().parse_args(words[2:])
        assert options.format == form and options.single_file == (form == "merged")
    words = commands.identifier_command("dog", "zwx", "data/miniature", tmp_path)
    assert identifiers.build_parser().parse_args(words[2:]).identifiers == ["zwx"]
    words = commands.reproduce_command(tmp_path / "a.png", run, tmp_path)
    options = generate_options.build_parser().parse_args(words[1:])
    generate_options.check_only_reproduces(options)


def test_training_gets_preset_subject_and_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    workspace = Workspace(tmp_path)
    workspace.make()
    subject = Subjects(workspace).get(EXAMPLE)
    changes = {"model.lora.rank": 3, "data.crop": "random", "seed_everything": 5}
    config = training_config(workspace, subject, "miniature", "quick", "my/base", changes)
    own = write_training_config(tmp_path, subject.name, config)
    assert name_of_run("miniature", "quick", subject) == "miniature-quick-sks_dog"
    words = commands.train_command([*config_files("miniature", "quick"), own])
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit):
        train([*words[1:], "--print_config"])
    parsed = flatten(yaml.safe_load(capsys.readouterr().out))
    assert parsed.items() >= changes.items()
    assert parsed["trainer.max_steps"] == 400 and parsed["model.base"] == "my/base"
    assert Path(parsed["data.instance_dir"]) == subject.photos
    assert Path(parsed["fidelity.dino"].removeprefix("local-dir:")).is_dir()  # not below tmp_path


def test_keys_come_from_the_settings_themselves() -> None:
    golden = Path(__file__).parents[1] / "golden/fit_options.txt"
    keys = {key.key: key for key in setting_keys()}
    assert {f"--{key}" for key in keys} <= set(golden.read_text().split())
    assert keys["model.lora.rank"].kind == "whole" and "From 1 to" in keys["model.lora.rank"].help
    assert keys["data.crop"].choices == ("center", "random")
    assert keys["model.min_snr_gamma"].optional and keys["data.horizontal_flip"].kind == "flag"
    assert len(keys) > 40 and not any(key.endswith("_dir") for key in keys)


@pytest.mark.parametrize(
    "text, value",
    [
        ("3", 3),
        ("3e-4", 3e-4),
        ("true", True),
        ("null", None),
        ("center", "center"),
        ("a: 1", {"a": 1}),
    ],
)
def test_values_are_read_as_in_a_config_file(text: str, value: object) -> None:
    assert read_value(text) == value


def test_a_run_is_read_while_it_is_written(run: RunView, tmp_path: Path) -> None:
    assert run.finished and run.steps == 20 and run.checkpoints() == ["best.ckpt"]
    assert run.curve("fidelity/dino") == [(0, 0.1), (10, 0.4), (20, 0.3)]
    assert run.curve("train/loss")[0] == (4, 0.5)
    assert run.best_step() == 10
    assert [step for step, _ in run.probes()] == [0, 10]
    assert [one.name for one in find_run_views(tmp_path / "lightning_logs")] == ["sks/version_0"]
    for name in ("../sks/version_0", str(run.folder), "", None):
        with pytest.raises(UserError):
            named_run(tmp_path / "lightning_logs", name)


def test_a_chart_shows_its_lines_and_says_their_values() -> None:
    html = chart(
        "A <b>", [Line("x", [(0, 0.0), (10, 1.0)]), Line("f", [(0, 0.5)], "floor")], 10, "best"
    )
    assert "A &lt;b&gt;" in html and "x 1; f 0.5; best 10" in html
    assert html.count("<polyline") == 2 and chart("none", [Line("x", [])]) == ""
    assert "nan" not in chart("flat", [Line("x", [(0, 2.0)])])
