"""Adapter files in other tools' layouts: read where their layers are known, else told by key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dreambooth_pl.adapters import (
    AdapterSettings,
    adapted_layers,
    adapter_state_dict,
    add_adapters,
    load_adapters,
    remove_adapters,
)
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.ldm_names import UNetNames
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.errors import UserError
from dreambooth_pl.export.format import ExportOptions
from dreambooth_pl.export.origin import Origin
from dreambooth_pl.export.write import write_export
from dreambooth_pl.runs.adapter_source import read_source

load = lru_cache(load_base)
ALL = {"target_modules": "attention_ff_conv", "text_encoder_target_modules": "attention_ff"}
LORA = AdapterSettings(rank=2, alpha=3.0, **ALL)


@pytest.fixture()
def base(tiny_base_dir: Path) -> Iterator[Base]:
    base = load(str(tiny_base_dir))
    yield base
    remove_adapters(base)


@pytest.fixture()
def exported(base: Base, tmp_path: Path) -> Callable[..., Path]:
    """Export random adapters in a format and return the folder."""

    def export(form: str, settings: AdapterSettings = LORA, kind: str = "lora") -> Path:
        remove_adapters(base)
        add_adapters(base, settings, train_text_encoder=True, seed=0, kind=kind)
        rng = torch.Generator().manual_seed(2)
        for tensor in adapter_state_dict(base).values():
            tensor.add_(torch.randn(tensor.shape, generator=rng) * 0.1)
        out = tmp_path / form
        write_export(base, settings, out, Origin("x", base.name, "", ""), ExportOptions(form))
        return out

    return export


def updates(base: Base) -> dict[tuple[str, str], torch.Tensor]:
    return {(c, n): layer.get_delta_weight("default") for c, n, layer in adapted_layers(base)}


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[key], other[key], atol=1e-6) for key in one)


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "lokr", "loha", "oft"])
def test_our_peft_folders(base, exported, kind: str) -> None:
    settings = AdapterSettings(
        rank=2,
        alpha=3.0,
        target_modules=["to_q", "to_out.0"],
        use_dora=kind == "dora",
        use_rslora=kind == "rslora",
    )
    out = exported("peft", settings, kind if kind in ("lokr", "loha", "oft") else "lora")
    before = {name: t.clone() for name, t in adapter_state_dict(base).items()}
    assert read_source(out).base_spec.base == base.name
    remove_adapters(base)
    read = load_adapters(base, out)
    after = adapter_state_dict(base)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (read.rank, read.use_dora, read.use_rslora) == (2, kind == "dora", kind == "rslora")
    for place in (out / "unet", out / "unet/adapter_model.safetensors"):
        load_adapters(base, read_source(place).file)
        assert {name.split(".")[0] for name in adapter_state_dict(base)} == {"unet"}


def test_peft_folders_that_are_changed(base, exported) -> None:
    out = exported("peft")
    config = out / "unet/adapter_config.json"
    text = config.read_text()
    for old, new in (('"r": 2', '"r": 1000000000'), ('"r": 2', '"r": "2"'), ("{", "[")):
        config.write_text(text.replace(old, new, 1))
        with pytest.raises(UserError, match=r"adapter_config\.json"):
            load_adapters(base, out)


def dotted(base: Base, folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a file in kohya's layout, under diffusers' names with dots."""
    names = {
        base.rules.kohya_names(component, layer, base.denoiser.config)[0]: f"{component}.{layer}"
        for component, layer, _ in adapted_layers(base)
    }
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    return {
        f"{names[key.partition('.')[0]]}.{key.partition('.')[2]}": tensor
        for key, tensor in weights.items()
    }


def test_names_with_dots(base, exported, tmp_path: Path) -> None:
    save_file(dotted(base, exported("kohya")), tmp_path / "dotted.safetensors")
    wanted = updates(base)
    read = load_adapters(base, tmp_path / "dotted.safetensors")
    assert (read.rank, read.alpha) == (2, 3.0)
    assert_same(updates(base), wanted)


@pytest.mark.parametrize("peft_names", [True, False])
def test_the_original_layouts_names(base, exported, tmp_path: Path, peft_names: bool) -> None:
    original, weights = UNetNames(base.denoiser.config), {}
    for key, tensor in dotted(base, exported("kohya")).items():
        if not key.startswith("unet."):
            continue
        part = next(p for p in ("lora_down.weight", "lora_up.weight", "alpha") if key.endswith(p))
        layer = original(key.removeprefix("unet.").removesuffix(f".{part}"))
        if peft_names:
            part = part.replace("lora_down", "lora_A").replace("lora_up", "lora_B")
        weights[f"diffusion_model.{layer}.{part}"] = tensor
    save_file(weights, tmp_path / "original.safetensors")
    wanted = {key: update for key, update in updates(base).items() if key[0] == "unet"}
    load_adapters(base, tmp_path / "original.safetensors")
    assert_same(updates(base), wanted)


@pytest.mark.parametrize(
    ("key", "writer"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", "kohya.* for FLUX"),
        ("lora_unet_joint_blocks_0_x_block_attn_proj.lora_down.weight", "kohya.* Diffusion 3"),
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_k.lora_down.weight", "kohya"),
        ("diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight", "ComfyUI"),
        ("base_model.model.nowhere.lora_A.weight", "PEFT"),
        ("bundle_emb.sks.string_to_param.*", "OneTrainer"),
        ("transformer.transformer_blocks.0.attn.to_q.lora_A.weight", "FLUX"),
        ("lora_transformer_single_transformer_blocks_0_attn_to_k.lora_down.weight", "FLUX"),
        ("unet.nowhere.to_q.lora_A.weight", "diffusers"),
        ("unet.nowhere.to_q.lora_down.weight", "diffusers"),
        ("some.other.key", "No known tool"),
    ],
)
def test_the_first_key_without_a_place_is_named(base, tmp_path, key: str, writer: str) -> None:
    path = tmp_path / "foreign.safetensors"
    weights = {key: torch.zeros(2, 16)}
    if "lora_down" in key or "lora_A" in key:
        other = key.replace("lora_down", "lora_up").replace("lora_A", "lora_B")
        weights[other] = torch.zeros(16, 2)
    save_file(weights, path)
    with pytest.raises(UserError) as told:
        load_adapters(base, path)
    message = str(told.value)
    assert "foreign.safetensors" in message
    assert key.rpartition(".lora")[0] in message
    assert re.search(writer, message), message
    assert adapter_state_dict(base) == {}
