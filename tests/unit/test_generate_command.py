"""`generate.py` on a finished run of the tiny random base."""

from __future__ import annotations

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dreambooth_pl.bases.load import load_base
from dreambooth_pl.commands import export as cli_export
from dreambooth_pl.commands import generate as cli_generate
from dreambooth_pl.commands.generate_options import _prompts
from dreambooth_pl.files.png_metadata import read_png_metadata, save_png
from dreambooth_pl.runs import reproduction
from dreambooth_pl.runs.adapter_source import read_source


@pytest.fixture(autouse=True)
def load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load each base only once: loading takes longer than drawing."""
    load = lru_cache(load_base)
    monkeypatch.setattr(cli_generate, "load_base", load)
    monkeypatch.setattr(reproduction, "load_base", load)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_only_a_line_feed_ends_a_prompt(tmp_path) -> None:
    (tmp_path / "prompts.txt").write_text("a dog\u2028asleep\r\n\na cat\x0cawake", encoding="utf-8")
    options = argparse.Namespace(prompt=None, prompts=tmp_path / "prompts.txt")
    assert _prompts(options, "sks", "dog") == ["a dog\u2028asleep", "a cat\x0cawake"]


def test_images_settings_grid_and_reproduction(make_run, tmp_path, capsys) -> None:
    run, out = make_run(), tmp_path / "out"
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("# places\na {class} in the snow\n\n", encoding="utf-8-sig")
    command = [str(run), "--prompt", "a {identifier} {class}", "--prompts", str(prompts)]
    command += ["--num-images", "2", "--seed", "7", "--scheduler", "euler-a", "--steps", "3"]
    command += ["--out", str(out), "--negative", "blur", "--autocast", "bfloat16"]
    assert cli_generate.main(command) == 0
    assert "3 steps of euler_a, guidance 2, LoRA scale 1 (UNet)" in capsys.readouterr().err
    names = sorted(path.name for path in out.iterdir())
    assert names == [
        "0000-0003_grid.png",
        "0000_a-sks-dog_seed7.png",
        "0001_a-sks-dog_seed8.png",
        "0002_a-dog-in-the-snow_seed7.png",
        "0003_a-dog-in-the-snow_seed8.png",
    ]
    image = out / names[3]
    said = read_png_metadata(image)
    assert (said["prompt"], said["seed"], said["steps"]) == ("a dog in the snow", 7, 3)
    assert (said["scheduler"], said["negative_prompt"], said["batch_size"]) == (
        "euler_a",
        "blur",
        4,
    )
    assert said["guidance_scale"] == 2.0, "the run's own"
    assert said["autocast"] == "bfloat16"

    # on the grid each prompt is a row, its images enlarged four times, 8 pixels apart
    grid = Image.open(out / names[0])
    for number, name in enumerate(names[1:]):
        left = 8 + number % 2 * (128 + 8)
        tops = range(8, grid.height - 128) if number > 1 else [8]
        cells = (grid.crop((left, top, left + 128, top + 128)) for top in tops)
        wanted = np.kron(pixels(out / name), np.ones((4, 4, 1), dtype=np.uint8))
        assert any(np.array_equal(np.asarray(cell), wanted) for cell in cells)

    before = image.read_bytes()
    assert cli_generate.main(["--reproduce", str(image)]) == 0
    assert "identical" in capsys.readouterr().out
    again = image.with_name(f"{image.stem}_reproduced.png")
    assert np.array_equal(pixels(again), pixels(image))
    assert image.read_bytes() == before
    assert cli_generate.main(["--reproduce", str(image)]) == 0
    assert image.with_name(f"{image.stem}_reproduced_2.png").is_file()
    capsys.readouterr()

    changed = tmp_path / "changed.png"
    picture = pixels(image).copy()
    picture[0, 0, 0] ^= 64
    save_png(Image.fromarray(picture), changed, said)
    assert cli_generate.main(["--reproduce", str(changed)]) == 0
    text = capsys.readouterr().out
    assert "by at most 64 of 255" in text
    assert "was changed after it was drawn" in text

    save_png(Image.open(image), changed, said | {"base_fingerprint": "0" * 16})
    assert cli_generate.main(["--reproduce", str(changed)]) == 1
    assert "fingerprint" in capsys.readouterr().err


def test_nothing_is_overwritten(make_run, tmp_path) -> None:
    run, out = str(make_run()), tmp_path / "out"
    command = [run, "--num-images", "1", "--steps", "1", "--out", str(out)]
    for _ in range(2):
        assert cli_generate.main(command) == 0
    (out / "0017_mine.png").touch()
    assert cli_generate.main([*command, "--seed", "43", "--prompt", "?!"]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "0000_a-sks-dog_seed42.png",
        "0001_a-sks-dog_seed42.png",
        "0017_mine.png",
        "0018_image_seed43.png",
    ]
    first, second = sorted(out.iterdir())[:2]
    assert np.array_equal(pixels(first), pixels(second))


def test_two_runs_are_mixed_with_weights(make_run, tmp_path, capsys) -> None:
    runs = str(make_run()), str(make_run("hta/version_0", "hta"))

    def draw(name: str, *arguments: str) -> Path:
        out = tmp_path / name
        command = [*arguments, "--prompt", "a dog", "--num-images", "1", "--out", str(out)]
        assert cli_generate.main(command) == 0
        (image,) = out.iterdir()
        return image

    one, other = draw("one", runs[0]), draw("other", runs[1])
    mixed = draw("mixed", *runs, "--weights", "0.7", "0.6")
    assert read_png_metadata(mixed)["adapters"] == [
        {"file": f"{runs[0]}/lora/pytorch_lora_weights.safetensors", "weight": 0.7},
        {"file": f"{runs[1]}/lora/pytorch_lora_weights.safetensors", "weight": 0.6},
    ]
    # the strength of one is 0, or both are the same: then the mixture is a single adapter
    alone = draw("alone", *runs, "--weights", "1", "0")
    halves = draw("halves", runs[1], runs[1], "--weights", "0.5", "0.5")
    for image, single in ((alone, one), (halves, other)):
        assert np.abs(pixels(image).astype(int) - pixels(single)).max() <= 1
    for image in (one, other):
        assert np.abs(pixels(mixed).astype(int) - pixels(image)).max() > 10
    capsys.readouterr()
    assert cli_generate.main(["--reproduce", str(mixed)]) == 0
    assert "identical" in capsys.readouterr().out


def test_the_base_is_held_as_in_training(make_run, tmp_path, capsys) -> None:
    run, out = make_run(), tmp_path / "out"
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["frozen_dtype"] = "bfloat16"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert cli_generate.main([str(run), "--num-images", "1", "--out", str(out)]) == 0
    (image,) = out.iterdir()
    assert read_png_metadata(image)["frozen_dtype"] == "bfloat16"
    assert cli_generate.main(["--reproduce", str(image)]) == 0
    assert "identical" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "magic"], "dpm++, dpm++_karras"),
        (["--num-images", "0"], "--num-images"),
        (["--guidance", "-1"], "--guidance"),
        (["--lora-scale-unet", "-0.5"], "--lora-scale-unet"),
        (["--steps", "0"], "num_inference_steps"),
        (["--seed", "-1"], "--seed"),
        (["--weights", "1", "2"], "--weights"),
        (["--prompt", "a {noun}"], "{noun}"),
        (["--prompts", "nowhere.txt"], "nowhere.txt"),
        (["--device", "abacus"], "abacus"),
        (["--reproduce", "some.png", "--seed", "1"], "leave out the options"),
        (["--reproduce", "some.png"], "There is no image some.png"),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(
    make_run, tmp_path, capsys, options, message
) -> None:
    out = tmp_path / "out"
    assert cli_generate.main([str(make_run()), "--out", str(out), *options]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_bare_file_needs_a_base_and_words(make_run, tmp_path, capsys) -> None:
    run = make_run()
    file = tmp_path / "some.safetensors"
    file.write_bytes((run / "lora/pytorch_lora_weights.safetensors").read_bytes())
    assert read_source(run / "lora/pytorch_lora_weights.safetensors").identifier == "sks"
    assert cli_generate.main([str(file), "--prompt", "a dog"]) == 1
    assert "--base" in capsys.readouterr().err
    assert cli_generate.main([str(file), "--base", "x/y"]) == 1
    assert "--identifier" in capsys.readouterr().err
    assert cli_generate.main([str(tmp_path / "none")]) == 1
    assert "no run folder" in capsys.readouterr().err


def test_our_kohya_file_knows_words_and_strength(make_run, tmp_path, capsys) -> None:
    run, out = make_run(), tmp_path / "export"
    assert cli_export.main([str(run), "--format", "kohya", "--out", str(out)]) == 0
    (file,) = out.glob("*.safetensors")
    one, own = read_source(file), read_source(run)
    assert (one.identifier, one.class_noun, one.base_spec) == ("sks", "dog", own.base_spec)
    assert one.sampling.lora_scale_unet == own.sampling.lora_scale_unet == 1.0
    assert one.sampling.lora_scale_text_encoder == 1.0
    options = ["--num-images", "1", "--steps", "2", "--guidance", "2", "--batch-size", "1"]
    images = []
    for number, place in enumerate((run, file)):
        folder = tmp_path / f"images_{number}"
        assert cli_generate.main([str(place), *options, "--out", str(folder)]) == 0
        images += [pixels(image).astype(int) for image in folder.iterdir()]
    assert np.abs(images[0] - images[1]).max() <= 2
