"""Numbers among the options of the commands and in files of prompts lie in bounds as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth_pl.commands import evaluate_options, export, generate_options, identifiers
from dreambooth_pl.commands import generate as cli_generate
from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import prompt_set

GENERATE = [
    (["--num-images", "1000000000"], "--num-images: 1000000000 is too many; it must be from 1"),
    (["--seed", str(2**63)], "--seed: 9223372036854775808 is too large"),
    (["--guidance", "nan"], "--guidance: sampling.guidance_scale: nan is not between 0 and 100"),
    (["--guidance", "inf"], "--guidance: "),
    (["--steps", "1000000"], "--steps: sampling.num_inference_steps: 1000000 is too many"),
    (["--batch-size", "-3"], "--batch-size: sampling.batch_size: -3 is too small"),
    (["--resolution", "100000"], "--resolution: sampling.resolution: 100000 is too large"),
    (["--lora-scale-text-encoder", "nan"], "--lora-scale-text-encoder: "),
    (["--weights", "nan"], "--weights: nan is not between -10 and 10"),
    (["--negative", "blur", "--guidance", "-1"], "--guidance: "),
]


@pytest.mark.parametrize(("options", "message"), GENERATE, ids=str)
def test_generate_names_the_option(make_run, tmp_path, capsys, options, message) -> None:
    out = tmp_path / "out"
    assert cli_generate.main([str(make_run()), "--out", str(out), *options]) == 1
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not out.exists()


def test_many_prompts_with_many_images_are_too_many(make_run, tmp_path, capsys) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"a dog on hill {n}" for n in range(11)))
    command = [str(make_run()), "--prompts", str(prompts), "--num-images", "10000"]
    assert cli_generate.main(command) == 1
    assert "10000 images of each of 11 prompts are more than 100000" in capsys.readouterr().err


def test_a_large_seed_is_taken(make_run) -> None:
    options = generate_options.build_parser().parse_args(
        [str(make_run()), "--seed", "6958252186108282"]
    )
    assert generate_options.read_plan(options).requests[0].seed == 6958252186108282


def test_a_negative_prompt_without_guidance_is_told(make_run, tmp_path, capsys) -> None:
    command = [str(make_run()), "--num-images", "1", "--steps", "1", "--out", str(tmp_path / "out")]
    assert cli_generate.main([*command, "--negative", "blur", "--guidance", "1"]) == 0
    assert "--negative: the negative prompt has no effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parser", "options", "message"),
    [
        (evaluate_options, ["--lora-scale", "nan"], "nan is not between 0 and 10"),
        (evaluate_options, ["--lora-scale", "x"], "'x' is no number from 0 to 10"),
        (evaluate_options, ["--class-images", "-1"], "-1 is too small; it must be from 0"),
        (evaluate_options, ["--class-images", "1000000000"], "1000000000 is too many"),
        (
            export,
            ["run", "--format", "merged", "--out", "o", "--lora-scale-unet", "inf"],
            "inf is not between 0 and 10",
        ),
    ],
)
def test_parsers_tell_the_bounds(capsys, parser, options, message) -> None:
    with pytest.raises(SystemExit):
        parser.build_parser().parse_args(options)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--count", "--images", "--batch-size", "--seed"])
@pytest.mark.parametrize("value", ["-1", str(10**30)])
def test_identifiers_name_the_option(capsys, option, value) -> None:
    assert identifiers.main(["--class", "dog", option, value]) == 1
    assert f"error: {option}: {value} is" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["1000000000", "0", "true", "2.5", ".nan", "many"])
def test_a_file_of_prompts_names_its_count(tmp_path: Path, count: str) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(f"images_per_prompt: {count}\nprompts: ['a {{class}}']\n")
    with pytest.raises(UserError, match=r"prompts\.yaml: images_per_prompt: .* from 1 to 1000"):
        prompt_set(path)
