"""`python -m dreambooth_pl.export` on a finished run, and LoRA files of elsewhere drawn with."""

from __future__ import annotations

import json

import pytest
import yaml
from huggingface_hub.errors import LocalTokenNotFoundError
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dreambooth_pl.commands import (
    evaluate as cli_evaluate,
)
from dreambooth_pl.commands import (
    export as cli_export,
)
from dreambooth_pl.commands import (
    generate as cli_generate,
)
from dreambooth_pl.export import hub


def test_a_run_becomes_a_kohya_file_with_its_facts(make_run, tmp_path, capsys):
    run, out = make_run(), tmp_path / "exports" / "my-dog"
    probes = run / "probes"
    probes.mkdir()
    for step in (0, 1300):
        Image.new("RGB", (8, 8), (step % 255, 0, 0)).save(probes / f"step_{step:06d}.png")
    assert cli_evaluate.main([str(run), "--class-images", "0"]) == 0
    assert cli_export.main([str(run), "--format", "kohya", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"kohya: {out / 'my-dog.safetensors'}" in said
    with safe_open(out / "my-dog.safetensors", "pt") as file:
        header = file.metadata()
    assert header["ss_seed"] == "42"
    assert json.loads(header["ss_tag_frequency"]) == {"1_sks dog": {"sks dog": 5}}
    assert (out / "probes.png").read_bytes() == (probes / "step_001300.png").read_bytes()
    card = (out / "README.md").read_text()
    for text in ("instance_prompt: a sks dog", "probes.png", "seed_everything", "ceiling", "floor"):
        assert text in card, text
    assert cli_export.main([str(run), "--format", "kohya", "--out", str(out)]) == 1
    assert "nothing is overwritten" in capsys.readouterr().err


def test_files_trained_elsewhere_are_drawn_with_and_evaluated(make_run, tmp_path, capsys):
    """A kohya file draws what the run draws; evaluate.py scores it alike, with the run's words."""
    run = make_run()
    config = yaml.safe_load((run / "config.yaml").read_text())
    base, photos = config["model"]["base"], config["data"]["instance_dir"]
    encoders = ["--clip", config["fidelity"]["clip"], "--dino", config["fidelity"]["dino"]]
    out = tmp_path / "out"
    assert cli_export.main([str(run), "--format", "kohya", "--out", str(out)]) == 0
    file = tmp_path / "elsewhere.safetensors"
    weights = load_file(out / "out.safetensors")
    save_file(weights, file)  # nothing in its header
    command = ["--prompt", "a sks dog", "--num-images", "1", "--steps", "2", "--no-grid"]
    scales = ["--lora-scale-unet", "0.4", "--lora-scale-text-encoder", "0.4", "--guidance", "2"]
    pictures = []
    for source in ([str(run)], [str(file), "--base", base]):
        folder = tmp_path / f"drawn{len(pictures)}"
        assert cli_generate.main([*source, *command, *scales, "--out", str(folder)]) == 0
        pictures.append(Image.open(next(folder.glob("*.png"))).convert("RGB").tobytes())
    difference = max(abs(a - b) for a, b in zip(*pictures, strict=True))
    assert difference <= 2

    capsys.readouterr()
    rows = []
    for source in ([str(run)], [str(file), "--config", str(run / "config.yaml")]):
        arguments = [*source, "--format", "json", "--class-images", "0"]
        assert cli_evaluate.main(arguments) == 0
        rows.append(json.loads(capsys.readouterr().out)[-1])
    assert rows[1]["run"] == "elsewhere"
    words = ["--base", base, "--photos", photos, "--class-noun", "dog", "--identifier", "sks"]
    assert cli_evaluate.main([str(file), *words, *encoders, "--class-images", "0"]) == 0
    assert "elsewhere" in capsys.readouterr().out
    assert cli_evaluate.main([str(file)]) == 1
    assert "--config" in capsys.readouterr().err
    for name in ("dino", "clip_i", "clip_t"):
        assert rows[0][name]["mean"] == pytest.approx(rows[1][name]["mean"], abs=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "kohya", "--single-file"], "only for --format merged"),
        (["--format", "peft", "--lora-scale-unet", "1"], "only for --format merged"),
        (["--format", "kohya", "--base", "nowhere/at-all/x"], "model.base"),
        (["--format", "kohya", "--push-to-hub", "me"], "OWNER/NAME"),
        (["--format", "kohya", "--push-to-hub", "me/dog"], "not logged in"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(
    make_run, tmp_path, capsys, monkeypatch, options, message
):
    def nobody(_: hub.HfApi) -> None:
        raise LocalTokenNotFoundError("Token is required")

    monkeypatch.setattr(hub.HfApi, "whoami", nobody)
    out = tmp_path / "out"
    assert cli_export.main([str(make_run()), *options, "--out", str(out)]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_an_unreachable_hub_is_told(make_run, tmp_path, capsys):
    """The tests' environment is offline."""
    command = [str(make_run()), "--format", "peft", "--out", str(tmp_path / "out")]
    assert cli_export.main([*command, "--push-to-hub", "me/dog"]) == 1
    assert "--push-to-hub: " in capsys.readouterr().err
