"""A base that is not whole, or of a kind that we cannot train, is refused by name of what is wrong.

Nothing is filled in: not weights, not words, not the noise schedule.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dreambooth_pl.bases.checks.schedule import check_schedule
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.objectives import EpsilonPrediction
from dreambooth_pl.errors import UserError
from dreambooth_pl.export.merged import has_released_shape, write_single_file
from dreambooth_pl.export.origin import Origin

WEIGHTS = {
    "text_encoder": "model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder_2": "model.safetensors",
}
FAMILIES = {"sd15": "tiny_base_dir", "sd21": "tiny_sd2_base_dir", "sdxl": "tiny_xl_base_dir"}
DISCRETE = {
    "_class_name": "PNDMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


@pytest.fixture()
def copy(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Path]:
    def copy(family: str = "sd15") -> Path:
        source = request.getfixturevalue(FAMILIES[family])
        skipped = shutil.ignore_patterns("clip", "dino")
        return Path(shutil.copytree(source, tmp_path / "base", ignore=skipped))

    return copy


def change_json(path: Path, **values) -> None:
    """Set keys of a JSON file; None takes a key away."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: v for key, v in content.items() if v is not None}))


@pytest.mark.parametrize(
    ("family", "component"),
    [
        ("sd15", "text_encoder"),
        ("sd15", "unet"),
        ("sd15", "vae"),
        ("sdxl", "text_encoder_2"),
        ("sdxl", "unet"),
    ],
)
def test_a_component_that_lacks_a_tensor_is_refused(copy, capfd, family, component) -> None:
    folder = copy(family)
    file = folder / component / WEIGHTS[component]
    state = load_file(file)
    absent = sorted(name for name in state if name.endswith(".bias"))[0]
    del state[absent]
    save_file(state, file, {"format": "pt"})
    with pytest.raises(UserError, match=rf"'{component}' of .* lacks 1 of its weights") as told:
        load_base(str(folder))
    assert absent in str(told.value)
    assert "newly initialized" not in capfd.readouterr().err


def test_position_ids_may_be_there_or_not(copy) -> None:
    folder = copy()
    file = folder / "text_encoder" / WEIGHTS["text_encoder"]
    ids = {"text_model.embeddings.position_ids": torch.arange(20)[None]}
    save_file(load_file(file) | ids, file, {"format": "pt"})
    load_base(str(folder))


# ----------------------------------------------------------------- tokenizer


def test_a_tokenizer_without_vocabulary_is_refused(copy) -> None:
    folder = copy()
    for name in ("vocab.json", "merges.txt", "tokenizer.json"):
        (folder / "tokenizer" / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="'tokenizer' of"):
        load_base(str(folder))


def test_a_tokenizer_with_one_word_is_refused(copy) -> None:
    folder = copy()
    (folder / "tokenizer/tokenizer.json").unlink(missing_ok=True)
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    (folder / "tokenizer/vocab.json").write_text(json.dumps(words))
    (folder / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(UserError, match="'tokenizer' of .* its vocabulary is missing"):
        load_base(str(folder))


def test_a_tokenizer_of_another_text_encoder_is_refused(copy) -> None:
    folder = copy()
    change_json(folder / "text_encoder/config.json", vocab_size=100)
    file = folder / "text_encoder" / WEIGHTS["text_encoder"]
    state = load_file(file)
    (name,) = (name for name in state if name.endswith("token_embedding.weight"))
    save_file(state | {name: state[name][:100].clone()}, file, {"format": "pt"})
    with pytest.raises(UserError, match="knows 49408 tokens, but the text encoder only 100"):
        load_base(str(folder))


def test_without_a_length_the_text_encoders_is_taken(copy, tiny_base_dir) -> None:
    folder = copy()
    config = folder / "tokenizer/tokenizer_config.json"
    change_json(config, model_max_length=None)
    base, whole = load_base(str(folder)), load_base(str(tiny_base_dir))
    assert base.tokenizers[0].model_max_length == 20
    assert base.fingerprint == whole.fingerprint
    (tokens,), (expected,) = base.tokenize(["a sks dog"]), whole.tokenize(["a sks dog"])
    assert torch.equal(tokens["input_ids"], expected["input_ids"])
    change_json(config, model_max_length=77)
    with pytest.raises(UserError, match="model_max_length 77; the text encoder reads 20 tokens"):
        load_base(str(folder))


# ------------------------------------------------------------------ schedule


@pytest.mark.parametrize(
    "config", [DISCRETE, FLOW, DISCRETE | {"use_flow_sigmas": True, "flow_shift": 1.0}]
)
def test_a_complete_schedule_is_taken(config) -> None:
    check_schedule(config, "base")


@pytest.mark.parametrize("key", [key for key in DISCRETE if key != "_class_name"])
@pytest.mark.parametrize("value", [None, "absent"])
def test_a_key_that_is_missing_is_named(key, value) -> None:
    config = DISCRETE | {key: None}
    if value:
        del config[key]
    with pytest.raises(UserError, match=rf"scheduler of 'base' lacks {key}; .*scheduler_config"):
        check_schedule(config, "base")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "LCMScheduler"}, "LCMScheduler, that of a distilled model"),
        ({"_class_name": "TCDScheduler"}, "TCDScheduler, that of a distilled model"),
        ({"_class_name": "EDMEulerScheduler"}, "is EDMEulerScheduler; its noise schedule is not"),
        ({"_class_name": "EDMDPMSolverMultistepScheduler"}, "EDMDPMSolverMultistepScheduler"),
        ({"_class_name": "MyScheduler"}, "is MyScheduler"),
        ({"_class_name": ""}, "is of no class"),
        ({"timestep_type": "continuous"}, "continuous timesteps"),
        ({"num_train_timesteps": 0}, "num_train_timesteps: 0 is too small"),
        ({"num_train_timesteps": "1000"}, "num_train_timesteps: '1000' is no whole number"),
        ({"beta_end": float("nan")}, "beta_end: nan is not above 0"),
        ({"beta_start": -0.1}, "beta_start: -0.1 is not above 0"),
        ({"use_flow_sigmas": True}, "lacks shift"),
        (FLOW | {"shift": 0}, "shift: 0 is not above 0"),
    ],
)
def test_an_unknown_schedule_is_refused(changes, message) -> None:
    with pytest.raises(UserError, match=message):
        check_schedule(DISCRETE | changes, "base")


def test_loading_checks_the_schedule_and_means_noise_where_nothing_is_said(copy) -> None:
    folder = copy()
    config = folder / "scheduler/scheduler_config.json"
    change_json(config, prediction_type=None)
    assert type(load_base(str(folder)).objective) is EpsilonPrediction
    change_json(config, beta_end=None)
    with pytest.raises(UserError, match="lacks beta_end"):
        load_base(str(folder))


def test_a_distilled_unet_is_refused(copy) -> None:
    folder = copy()
    config = dict(UNet2DConditionModel.load_config(folder / "unet"))
    unet = UNet2DConditionModel.from_config(config | {"time_cond_proj_dim": 8})
    unet.save_pretrained(folder / "unet")
    with pytest.raises(UserError, match="is distilled: .*time_cond_proj_dim"):
        load_base(str(folder))


# --------------------------------------------------------------- single files


@pytest.fixture()
def single_file(tmp_path, request) -> Callable[..., Path]:
    def write(family: str = "sd15", name: str = "one.safetensors") -> Path:
        base = load_base(str(request.getfixturevalue(FAMILIES[family])))
        write_single_file(base, tmp_path / name, Origin("one", base.name, "sks", "dog"))
        return tmp_path / name

    return write


@pytest.mark.parametrize("family", FAMILIES)
def test_our_own_single_file_is_the_base_whatever_its_shape(request, single_file, family) -> None:
    whole = load_base(str(request.getfixturevalue(FAMILIES[family])))
    assert not has_released_shape(whole)
    again = load_base(str(single_file(family)))
    assert again.fingerprint == whole.fingerprint
    assert again.resolution == whole.resolution
    mine, theirs = (base.encode_prompts(["a sks dog"]).hidden_states for base in (again, whole))
    assert torch.equal(mine, theirs)


def test_a_name_in_capitals_is_a_single_file_as_well(single_file) -> None:
    assert load_base(str(single_file(name="ONE.SAFETENSORS"))).family == "stable-diffusion"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("edm_mean", "EDM"),
        ("edm_vpred.sigma_max", "EDM"),
        ("model.diffusion_model.time_embed.cond_proj.weight", "is distilled: .*cond_proj"),
    ],
)
def test_files_of_other_trainings_are_refused(single_file, name, message) -> None:
    path = single_file()
    save_file(load_file(path) | {name: torch.zeros(2)}, path)
    with pytest.raises(UserError, match=message):
        load_base(str(path))


def test_averaged_weights_beside_the_others_are_told_in_our_words(
    single_file, capfd, caplog
) -> None:
    path = single_file()
    state = load_file(path)
    averaged = {f"model_ema.{n}": torch.zeros(1) for n in range(101)}
    base = load_base(str(path))
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    save_file(state | averaged, path, header)
    with caplog.at_level(logging.WARNING):
        assert load_base(str(path)).fingerprint == base.fingerprint
    assert "averaged (EMA) weights" in caplog.text
    assert "extract_ema" not in caplog.text + capfd.readouterr().err
