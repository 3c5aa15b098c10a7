"""`generate.py` on a finished run of the tiny random base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dreambooth_pl import cli_generate
from dreambooth_pl.adapter_sources import read_source
from dreambooth_pl.sampling import read_png_metadata, save_png


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_images_settings_grid_and_reproduction(make_run, tmp_path, capsys) -> None:
    run, out = make_run(), tmp_path / "out"
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a {class} in the snow\n\n")
    command = [str(run), "--prompt", "a {identifier} {class}", "--prompts", str(prompts)]
    command += ["--num-images", "2", "--seed", "7", "--scheduler", "euler-a", "--steps", "3"]
    command += ["--out", str(out), "--negative", "blur"]
    assert cli_generate.main(command) == 0
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

    before = image.read_bytes()
    assert cli_generate.main(["--reproduce", str(image)]) == 0
    assert "identical" in capsys.readouterr().out
    again = image.with_name(f"{image.stem}_reproduced.png")
    assert np.array_equal(pixels(again), pixels(image))
    assert image.read_bytes() == before

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
