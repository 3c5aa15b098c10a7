"""Values of wrong types in what others wrote: each is refused by file and key."""

from __future__ import annotations

import copy
import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dreambooth_pl.adapters import METADATA_KEY, adapter_state_dict, load_adapters, remove_adapters
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.png_metadata import save_png
from dreambooth_pl.runs.adapter_source import read_source
from dreambooth_pl.runs.checkpoint_adapters import fresh_adapters
from dreambooth_pl.runs.finished import read_run
from dreambooth_pl.runs.reproduction import read_recorded

TEXT = [None, 42, 1.5, True, [], ["sks"], {}, {"a": {"b": 1}}, "nul\0", "\ud800", "x" * 200_000]
NAME = [*TEXT, "", "x" * 300]
NUMBER = [None, "8", "many", True, [], [1], {}, {"a": 1}, math.nan, math.inf, -math.inf, -1e30]
NUMBER += [10**9, 10**400, -1]
FLAG = [None, 1, 0.0, "true", [], {}, math.nan]
CHOICE = [42, 1.5, True, [], {}, "pickle", ""]
LIST = [42, 1.5, True, [1], [None], [["a"]], {"a": 1}]
MISSING = object()
config_load = lru_cache(load_base)


def without(values: list, *fine: Any) -> list:
    """The values but for those that are fine for a key after all."""
    return [value for value in values if not any(value is one for one in fine)]


CONFIG_VALUES = {
    "model.base": [*NAME, MISSING],
    "model.revision": without(NAME, None),
    "model.variant": without(NAME, None),
    "model.frozen_dtype": [*CHOICE, None],
    "data.instance_dir": [*NAME, MISSING],
    "data.identifier": [*TEXT, MISSING],
    "data.class_noun": [*TEXT, MISSING],
    "seed_everything": [*without(NUMBER, 10**9), 1.5, MISSING],
    "model": [None, 42, "x", [], MISSING],
    "sampling": [None, 42, "x", [], MISSING],
    "fidelity": [None, 42, "x", [], MISSING],
    "sampling.num_inference_steps": [*NUMBER, 1.5],
    "sampling.guidance_scale": NUMBER,
    "sampling.scheduler": [*CHOICE, None],
    "sampling.lora_scale_unet": NUMBER,
    "sampling.lora_scale_text_encoder": NUMBER,
    "sampling.negative_prompt": TEXT,
    "sampling.batch_size": [*NUMBER, 1.5],
    "sampling.resolution": [*without(NUMBER, None), 1.5, 33],
    "sampling.autocast": without(CHOICE, None),
    "fidelity.clip": without(TEXT, "x"),
    "fidelity.clip_pretrained": without(TEXT, None),
    "fidelity.dino": TEXT,
}
PNG_VALUES = {
    "prompt": [*TEXT, MISSING],
    "seed": [*without(NUMBER, 10**9), 1.5, MISSING],
    "base": [*NAME, MISSING],
    "base_revision": without(NAME, None),
    "base_variant": without(NAME, None),
    "base_fingerprint": [*TEXT, MISSING],
    "frozen_dtype": [*CHOICE, None],
    "adapter_weights_sha256": [*without(TEXT, None), MISSING],
    "pixels_sha256": TEXT,
    "step": without(NUMBER, None, 10**9),
    "adapters": [*LIST, {}, [{}], [{"file": "x"}], [{"file": 1, "weight": 1}]]
    + [[{"file": "x", "weight": value}] for value in without(NUMBER, -1)],
    "steps": [*NUMBER, MISSING],
    "guidance_scale": NUMBER,
    "scheduler": [*CHOICE, None],
    "lora_scale_unet": NUMBER,
    "lora_scale_text_encoder": NUMBER,
    "negative_prompt": TEXT,
    "resolution": [*without(NUMBER, None), 33],
    "batch_size": NUMBER,
    "autocast": CHOICE,
}
HEADER_VALUES = {
    "unet.r": [*NUMBER, 1.5, 3, 0, MISSING],
    "unet.lora_alpha": [*NUMBER, 0, MISSING],
    "unet.lora_dropout": [*NUMBER, 1, MISSING],
    "unet.target_modules": [*LIST, None, ["nowhere"], [], MISSING],
    "unet.use_rslora": FLAG,
    "unet.use_dora": [*FLAG, True],
    "unet.rank_pattern": [None, 1, [], "x", {"a": None}, {"a": 10**9}, {"a": "4"}, {"a": 7}],
    "unet.alpha_pattern": [None, 1, [], "x", {"a": None}, {"a": -1}, {"a": math.nan}],
    "text_encoder.r": NUMBER,
}
START_VALUES = {
    "model.lora": [None, 42, "x", [], MISSING],
    "model.lora.rank": [*NUMBER, 1.5, 0],
    "model.lora.alpha": NUMBER,
    "model.lora.target_modules": LIST,
    "model.lora.use_dora": FLAG,
    "model.adapter": [*CHOICE, None],
    "model.train_text_encoder": [*FLAG, MISSING],
    "seed_everything": [*without(NUMBER, 10**9), MISSING],
}


def cases(values: dict[str, list]) -> list:
    return [
        pytest.param(key, value, id=f"{key}-{number}")
        for key, own in values.items()
        for number, value in enumerate(own)
    ]


def changed(mapping: dict, key: str, value: Any) -> dict:
    """A copy of nested mappings with another value under a dotted key."""
    mapping = copy.deepcopy(mapping)
    *groups, last = key.split(".")
    inner = mapping
    for group in groups:
        inner = inner[group]
    if value is MISSING:
        inner.pop(last, None)
    else:
        inner[last] = value
    return mapping


@pytest.mark.parametrize(("key", "value"), cases(CONFIG_VALUES))
def test_a_runs_config(make_run, key: str, value: Any) -> None:
    run = make_run()
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(changed(config, key, value)), encoding="utf-8")
    with pytest.raises(UserError, match="config.yaml") as told:
        read_run(run)
    is_yaml = "not valid YAML" in str(told.value)  # numbers and characters that YAML cannot hold
    assert key in str(told.value) or is_yaml
    assert len(str(told.value)) < 600


RECORDED = {
    "prompt": "a sks dog",
    "seed": 7,
    "base": "base",
    "base_fingerprint": "0123",
    "adapter_weights_sha256": None,
    "negative_prompt": "",
    "steps": 2,
    "guidance_scale": 3.0,
    "scheduler": "ddim",
    "lora_scale_unet": 1.0,
    "lora_scale_text_encoder": 1,
    "resolution": 32,
    "batch_size": 1,
    "autocast": None,
    "adapters": [{"file": "x.safetensors", "weight": 1}],
}


def test_sound_metadata_pass(tmp_path: Path) -> None:
    save_png(Image.new("RGB", (8, 8)), tmp_path / "image.png", RECORDED)
    recorded = read_recorded(tmp_path / "image.png")
    assert (recorded.request.seed, recorded.settings.num_inference_steps) == (7, 2)


@pytest.mark.parametrize(("key", "value"), cases(PNG_VALUES))
def test_an_images_metadata(tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "image.png"
    text = json.dumps(changed(RECORDED, key, value))
    save_with_text(path, text)
    with pytest.raises(UserError, match=r"image\.png") as told:
        read_recorded(path)
    assert key in str(told.value)
    assert len(str(told.value)) < 400


@pytest.mark.parametrize("text", ["[]", "null", "42", "{", "[" * 100_000, '"x"', "1" * 5000])
def test_metadata_that_are_no_keys(tmp_path: Path, text: str) -> None:
    save_with_text(tmp_path / "image.png", text)
    with pytest.raises(UserError, match=r"image\.png"):
        read_recorded(tmp_path / "image.png")


def save_with_text(path: Path, text: str) -> None:
    chunks = PngInfo()
    chunks.add_itxt("dreambooth_pl", text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=chunks)


@pytest.fixture(scope="module")
def base(tiny_base_dir: Path):
    return config_load(str(tiny_base_dir))


@pytest.mark.parametrize(("key", "value"), cases(HEADER_VALUES))
def test_an_adapter_files_header(base, adapters, tmp_path: Path, key: str, value: Any) -> None:
    original = adapters["sks"] / "pytorch_lora_weights.safetensors"
    with safe_open(original, "pt") as file:
        metadata = json.loads(file.metadata()[METADATA_KEY])
    metadata = {k: v for k, v in metadata.items() if k != key}
    if value is not MISSING:
        metadata[key] = value
    refused(base, tmp_path, load_file(original), {METADATA_KEY: json.dumps(metadata)})


@pytest.mark.parametrize("text", ["[]", "null ", "42", "{", "[" * 100_000, '"x"', "1" * 5000])
def test_a_header_that_is_no_mapping(base, adapters, tmp_path: Path, text: str) -> None:
    weights = load_file(adapters["sks"] / "pytorch_lora_weights.safetensors")
    refused(base, tmp_path, weights, {METADATA_KEY: text})


@pytest.mark.parametrize("text", ["vae", "unet nowhere", "../..", "\0", "unet"])
def test_networks_that_are_not_there(base, adapters, tmp_path: Path, text: str) -> None:
    weights = load_file(adapters["sks"] / "pytorch_lora_weights.safetensors")
    refused(base, tmp_path, weights, {"dreambooth_pl.tuned": text})


LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
DOWN, UP = torch.zeros(2, 32), torch.zeros(32, 2)


@pytest.mark.parametrize(
    ("down", "up", "alpha"),
    [
        (torch.zeros(10**9, 0), torch.zeros(0, 10**9), torch.tensor(1.0)),
        (torch.zeros(0, 32), torch.zeros(32, 0), torch.tensor(1.0)),
        (torch.tensor(1.0), torch.tensor(1.0), torch.tensor(1.0)),
        (torch.zeros(3000, 32), torch.zeros(32, 3000), torch.tensor(1.0)),
        (DOWN, torch.zeros(32, 3), torch.tensor(1.0)),
        (DOWN, torch.zeros(31, 2), torch.tensor(1.0)),
        (DOWN, UP, torch.tensor(math.nan)),
        (DOWN, UP, torch.tensor(-1.0)),
        (DOWN, UP, torch.tensor(math.inf)),
        (DOWN, UP, torch.zeros(3)),
        (DOWN, UP, torch.zeros(0)),
    ],
)
def test_tensors_in_kohyas_layout(base, tmp_path: Path, down, up, alpha) -> None:
    parts = {"lora_down.weight": down, "lora_up.weight": up, "alpha": alpha}
    weights = {f"{LAYER}.{part}": tensor for part, tensor in parts.items()}
    refused(base, tmp_path, weights, {"ss_network_dim": "10**9"})


def refused(base, folder: Path, weights: dict, header: dict[str, str]) -> None:
    path = folder / "hostile.safetensors"
    save_file(weights, path, header)
    with pytest.raises(UserError, match=r"hostile\.safetensors") as told:
        load_adapters(base, path)
    assert len(str(told.value)) < 900
    assert adapter_state_dict(base) == {}


@pytest.mark.parametrize(("key", "value"), cases(START_VALUES))
def test_the_config_in_a_checkpoint(base, key: str, value: Any) -> None:
    config = {
        "seed_everything": 1,
        "model": {"lora": {"rank": 2}, "adapter": "lora", "train_text_encoder": False},
    }
    remove_adapters(base)
    with pytest.raises(UserError, match=r"last\.ckpt") as told:
        fresh_adapters(base, changed(config, key, value), "last.ckpt")
    assert key in str(told.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("dreambooth_pl.lora_scale_unet", value) for value in ("", "x", "nan", "1e9", "-1")),
        ("dreambooth_pl.identifier", "x" * 2000),
        ("dreambooth_pl.class_noun", "a\0"),
        ("dreambooth_pl.base", "a\0"),
        ("ss_sd_model_name", "x" * 300),
    ],
)
def test_the_header_of_an_export(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "hostile.safetensors"
    save_file({"a": torch.zeros(1)}, path, {key: value})
    with pytest.raises(UserError, match=rf"hostile\.safetensors: {key}: "):
        read_source(path)
