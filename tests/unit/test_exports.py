"""Each export is read by its real reader and draws our picture; the files are as their readers say.

Adapters are on UNet and text encoders, rank 4 and alpha 8, at the scales 0.4 and 1.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers.loaders import single_file_utils as converters
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dreambooth_pl.adapters import (
    METADATA_KEY,
    AdapterSettings,
    adapter_state_dict,
    add_adapters,
    load_adapters,
    remove_adapters,
    save_adapters,
)
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.errors import UserError
from dreambooth_pl.export.format import ExportOptions
from dreambooth_pl.export.origin import Origin
from dreambooth_pl.export.original_layout import original_weights
from dreambooth_pl.export.write import write_export
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings

ALL = {"target_modules": "attention_ff_conv", "text_encoder_target_modules": "attention_ff"}
LORA = AdapterSettings(rank=4, alpha=8.0, **ALL)
PROMPT, SEED, STEPS = "a sks dog in the snow", 7, 2
FAMILIES = ("sd15", "sd21", "sdxl")
each_family = pytest.mark.parametrize("family", FAMILIES)
each_scale = pytest.mark.parametrize("scale", [0.4, 1.0])


@pytest.fixture(scope="module")
def folders(tiny_base_dir, tiny_sd2_base_dir, tiny_xl_base_dir) -> dict[str, Path]:
    return {"sd15": tiny_base_dir, "sd21": tiny_sd2_base_dir, "sdxl": tiny_xl_base_dir}


@pytest.fixture(scope="module")
def load(folders):
    return lru_cache(lambda family: load_base(str(folders[family])))


@pytest.fixture()
def adapted(load) -> Iterator:
    used = []

    def make(family: str, kind: str = "lora", settings: AdapterSettings = LORA) -> Base:
        base = load(family)
        used.append(base)
        remove_adapters(base)
        add_adapters(base, settings, train_text_encoder=True, seed=0, kind=kind)
        rng = torch.Generator().manual_seed(2)
        for tensor in adapter_state_dict(base).values():
            tensor.add_(torch.randn(tensor.shape, generator=rng) * 0.15)
        return base

    yield make
    for base in used:
        remove_adapters(base)


def origin(base: Base, name: str = "my-dog") -> Origin:
    return Origin(name, base.name, "sks", "dog")


def sampling(scale: float) -> SamplingSettings:
    return SamplingSettings(
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        scheduler="ddim",
        lora_scale_unet=scale,
        lora_scale_text_encoder=scale,
        batch_size=1,
    )


def ours(base: Base, scale: float) -> np.ndarray:
    (image,) = generate(base, [ImageRequest(PROMPT, SEED)], sampling(scale))
    return np.asarray(image, dtype=np.int16)


@lru_cache
def loaded_pipeline(name: str, folder: str) -> diffusers.DiffusionPipeline:
    pipeline = getattr(diffusers, name).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def plain_pipeline(base: Base) -> diffusers.DiffusionPipeline:
    """The base as diffusers alone loads it, fresh but for the tokenizers, which load slowly."""
    pipeline = loaded_pipeline(base.rules.pipeline_class, base.name)
    return copy.deepcopy(pipeline, {id(t): t for t in tokenizers(base).values()})


def tokenizers(base: Base) -> dict:
    components = loaded_pipeline(base.rules.pipeline_class, base.name).components
    return {name: part for name, part in components.items() if name.startswith("tokenizer")}


def theirs(pipeline: diffusers.DiffusionPipeline, base: Base) -> np.ndarray:
    pipeline.scheduler = base.objective.sampler(sampling(1.0).scheduler)
    image = pipeline(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(SEED),
        width=base.resolution,
        height=base.resolution,
    ).images[0]
    return np.asarray(image, dtype=np.int16)


def assert_same(image: np.ndarray, other: np.ndarray) -> None:
    assert np.abs(image - other).max() <= 2


def set_scale(pipeline: diffusers.DiffusionPipeline, scale: float) -> None:
    """What a user of diffusers does."""
    (name,) = pipeline.get_active_adapters()
    pipeline.set_adapters(name, scale)


@each_family
@pytest.mark.parametrize("case", ["lora", "rslora", "dora"])
def test_diffusers_reads_its_layout(adapted, tmp_path, family, case):
    names = {"rslora": {"use_rslora": True}, "dora": {"use_dora": True}}
    settings = AdapterSettings(rank=4, alpha=8.0, **ALL, **names.get(case, {}))
    base = adapted(family, settings=settings)
    write_export(base, settings, tmp_path / "out", origin(base), ExportOptions("diffusers"))
    pipeline = plain_pipeline(base)
    untuned = theirs(pipeline, base)
    pipeline.load_lora_weights(tmp_path / "out")
    for scale in (0.4, 1.0):
        set_scale(pipeline, scale)
        wanted = ours(base, scale)
        assert_same(theirs(pipeline, base), wanted)
    assert np.abs(wanted - untuned).max() > 20
    layer = next(m for m in pipeline.unet.modules() if isinstance(m, LoraLayer))
    assert (layer.r["default_0"], layer.lora_alpha["default_0"]) == (4, 8.0)


@each_family
@pytest.mark.parametrize("case", ["lora", "rslora"])
def test_diffusers_reads_kohyas_layout(adapted, tmp_path, family, case):
    settings = AdapterSettings(rank=4, alpha=8.0, **ALL, use_rslora=case == "rslora")
    base = adapted(family, settings=settings)
    (path,) = write_export(base, settings, tmp_path / "out", origin(base), ExportOptions("kohya"))
    assert path == tmp_path / "out" / "my-dog.safetensors"
    pipeline = plain_pipeline(base)
    pipeline.load_lora_weights(path)
    for scale in (0.4, 1.0):
        set_scale(pipeline, scale)
        assert_same(theirs(pipeline, base), ours(base, scale))


# kohya's and LyCORIS's naming rules, layer by layer: what their trainers write for these layers.
KOHYA_NAMES = {
    "sd15": {
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": (
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
        ),
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0": (
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0"
        ),
        "unet.up_blocks.0.attentions.1.transformer_blocks.0.ff.net.0.proj": (
            "lora_unet_up_blocks_0_attentions_1_transformer_blocks_0_ff_net_0_proj"
        ),
        "unet.down_blocks.1.attentions.0.proj_in": "lora_unet_down_blocks_1_attentions_0_proj_in",
        "unet.down_blocks.0.resnets.0.conv1": "lora_unet_down_blocks_0_resnets_0_conv1",
        "unet.down_blocks.0.downsamplers.0.conv": "lora_unet_down_blocks_0_downsamplers_0_conv",
        "text_encoder.encoder.layers.1.self_attn.out_proj": (
            "lora_te_text_model_encoder_layers_1_self_attn_out_proj"
        ),
        "text_encoder.encoder.layers.0.mlp.fc1": "lora_te_text_model_encoder_layers_0_mlp_fc1",
    },
    "sd21": {
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v": (
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_v"
        ),
        "text_encoder.encoder.layers.0.self_attn.q_proj": (
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
        ),
    },
    "sdxl": {
        "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q": (
            "lora_unet_input_blocks_3_1_transformer_blocks_1_attn1_to_q"
        ),
        "unet.down_blocks.0.resnets.0.conv1": "lora_unet_input_blocks_1_0_in_layers_2",
        "unet.down_blocks.0.downsamplers.0.conv": "lora_unet_input_blocks_2_0_op",
        "unet.mid_block.attentions.0.proj_in": "lora_unet_middle_block_1_proj_in",
        "unet.mid_block.resnets.1.time_emb_proj": "lora_unet_middle_block_2_emb_layers_1",
        "unet.up_blocks.0.attentions.1.transformer_blocks.0.ff.net.2": (
            "lora_unet_output_blocks_1_1_transformer_blocks_0_ff_net_2"
        ),
        "unet.up_blocks.0.upsamplers.0.conv": "lora_unet_output_blocks_1_2_conv",
        "unet.up_blocks.1.resnets.0.conv_shortcut": "lora_unet_output_blocks_2_0_skip_connection",
        "text_encoder.encoder.layers.0.mlp.fc2": "lora_te1_text_model_encoder_layers_0_mlp_fc2",
        "text_encoder_2.text_model.encoder.layers.1.self_attn.k_proj": (
            "lora_te2_text_model_encoder_layers_1_self_attn_k_proj"
        ),
    },
}


@each_family
def test_kohyas_names_shapes_and_header(adapted, tmp_path, family):
    base = adapted(family)
    (path,) = write_export(base, LORA, tmp_path / "out", origin(base), ExportOptions("kohya"))
    weights, state = load_file(path), adapter_state_dict(base)
    layers = {key.split(".")[0] for key in weights}
    assert len(weights) == 3 * len(layers), "down, up and alpha each"
    assert len(layers) == len(state) / 2
    for layer, name in KOHYA_NAMES[family].items():
        found = [
            key
            for key in state
            if key.replace("text_model.", "").startswith(
                layer.replace("text_model.", "") + ".lora_"
            )
        ]
        down, up = sorted(found)
        assert torch.equal(weights[f"{name}.lora_down.weight"], state[down]), layer
        assert torch.equal(weights[f"{name}.lora_up.weight"], state[up]), layer
        assert weights[f"{name}.alpha"].shape == ()
        assert weights[f"{name}.alpha"] == 8.0
    with safe_open(path, "pt") as file:
        header = file.metadata()
    version = {"sd15": "sd_v1", "sd21": "sd_v2_v", "sdxl": "sdxl_base_v1-0"}[family]
    assert header["ss_base_model_version"] == version
    assert (header["ss_network_dim"], header["ss_network_alpha"]) == ("4", "8.0")
    assert header["ss_network_module"] == "networks.lora"
    assert header["ss_v2"] == str(family == "sd21")
    assert header["modelspec.trigger_phrase"] == "sks dog"
    assert header["modelspec.prediction_type"] == ("v" if family == "sd21" else "epsilon")
    assert header["modelspec.architecture"].endswith("/lora")
    assert all(isinstance(value, str) for value in header.values())


@each_family
def test_peft_reads_its_layout(adapted, tmp_path, family):
    base = adapted(family)
    paths = write_export(base, LORA, tmp_path / "out", origin(base), ExportOptions("peft"))
    assert [path.name for path in paths] == sorted(base.adaptable)
    pipeline = plain_pipeline(base)
    for path in paths:
        model = PeftModel.from_pretrained(getattr(pipeline, path.name), path)
        setattr(pipeline, path.name, model.base_model.model)
    for scale in (0.4, 1.0):
        for path in paths:
            for layer in getattr(pipeline, path.name).modules():
                if isinstance(layer, LoraLayer):
                    layer.set_scale("default", scale)
        assert_same(theirs(pipeline, base), ours(base, scale))


@pytest.mark.parametrize("kind", ["lokr", "loha", "oft"])
def test_peft_reads_the_other_kinds(adapted, tmp_path, kind):
    places = {"target_modules": "attention_ff", "text_encoder_target_modules": "attention_ff"}
    settings = AdapterSettings(rank=4, alpha=8.0, **(places if kind == "oft" else ALL))
    base = adapted("sd15", kind, settings)
    paths = write_export(base, settings, tmp_path / "out", origin(base), ExportOptions("peft"))
    pipeline = plain_pipeline(base)
    for path in paths:
        model = PeftModel.from_pretrained(getattr(pipeline, path.name), path)
        setattr(pipeline, path.name, model.base_model.model)
    assert_same(theirs(pipeline, base), ours(base, 1.0))


def test_diffusers_unet_reads_our_lokr_file(adapted, tmp_path):
    """The pipeline refuses LoKr; the network itself takes it."""
    settings = AdapterSettings(rank=4, alpha=8.0)
    base = adapted("sd15", "lokr", settings)
    path = save_adapters(base, settings, tmp_path)
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()[METADATA_KEY])
    pipeline = plain_pipeline(base)
    with pytest.raises(ValueError, match="lora"):
        pipeline.load_lora_weights(path)
    pipeline.unet.load_lora_adapter(load_file(path), prefix="unet", metadata=metadata)
    unet_alone = replace(sampling(1.0), lora_scale_text_encoder=0.0)
    (image,) = generate(base, [ImageRequest(PROMPT, SEED)], unet_alone)
    assert_same(theirs(pipeline, base), np.asarray(image, dtype=np.int16))


@each_family
@each_scale
def test_merged_folder_draws_the_same(adapted, tmp_path, family, scale):
    base = adapted(family)
    wanted = ours(base, scale)
    options = ExportOptions("merged", unet_scale=scale, text_encoder_scale=scale)
    write_export(base, LORA, tmp_path / "out", origin(base), options)
    pipeline = getattr(diffusers, base.rules.pipeline_class).from_pretrained(
        tmp_path / "out", **tokenizers(base)
    )
    pipeline.set_progress_bar_config(disable=True)
    assert_same(theirs(pipeline, base), wanted)
    load_base_weights_again(base)


def load_base_weights_again(base: Base) -> None:
    """A merge has changed the weights of a base that other tests share: put them back."""
    plain = loaded_pipeline(base.rules.pipeline_class, base.name).components
    for name, module in base.modules.items():
        module.load_state_dict(plain[name].state_dict())


@each_family
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_merged_single_file_draws_the_same(adapted, tmp_path, family, kind):
    base = adapted(family, kind, LORA if kind == "lora" else AdapterSettings())
    scale = 0.4 if kind == "lora" else 0.5
    wanted = ours(base, scale)
    options = ExportOptions("merged", True, unet_scale=scale, text_encoder_scale=scale)
    (path,) = write_export(base, LORA, tmp_path / "out", origin(base), options)
    # Tiny networks have narrower heads than any released version: that a config must say.
    pipeline = getattr(diffusers, base.rules.pipeline_class).from_single_file(
        path, config=base.name, local_files_only=True, **tokenizers(base)
    )
    pipeline.set_progress_bar_config(disable=True)
    assert_same(theirs(pipeline, base), wanted)
    load_base_weights_again(base)


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_original_layout_is_what_diffusers_converts_back(load, family):
    base = load(family)
    weights = original_weights(base)
    unet = converters.convert_ldm_unet_checkpoint(dict(weights), dict(base.denoiser.config))
    vae = converters.convert_ldm_vae_checkpoint(dict(weights), dict(base.vae.config))
    for converted, module in ((unet, base.denoiser), (vae, base.vae)):
        state = dict(module.named_parameters())
        assert converted.keys() == state.keys()
        assert all(torch.equal(converted[name], state[name]) for name in state)


@each_family
@pytest.mark.parametrize("case", ["lora", "dora", "lokr", "loha"])
def test_kohya_files_come_back_exactly(adapted, tmp_path, family, case):
    kind = "lora" if case == "dora" else case
    settings = AdapterSettings(rank=2, alpha=3.0, **ALL, use_dora=case == "dora")
    base = adapted(family, kind, settings)
    wanted = {scale: ours(base, scale) for scale in (0.4, 1.0)}
    (path,) = write_export(base, settings, tmp_path / "out", origin(base), ExportOptions("kohya"))
    remove_adapters(base)
    load_adapters(base, path)
    for scale, image in wanted.items():
        assert_same(ours(base, scale), image)


@each_family
def test_a_diffusers_file_without_settings_is_read_at_alpha_equal_to_rank(
    adapted, tmp_path, family
):
    settings = AdapterSettings(rank=4, alpha=4.0, **ALL)
    base = adapted(family, settings=settings)
    wanted = ours(base, 0.4)
    (path,) = write_export(
        base, settings, tmp_path / "out", origin(base), ExportOptions("diffusers")
    )
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(path), bare, {"format": "pt"})
    remove_adapters(base)
    read = load_adapters(base, bare)
    assert (read.rank, read.alpha) == (4, 4.0)
    assert_same(ours(base, 0.4), wanted)


def test_layers_with_ranks_of_their_own_keep_them(adapted, tmp_path):
    base = adapted("sd15")
    (path,) = write_export(base, LORA, tmp_path / "out", origin(base), ExportOptions("kohya"))
    weights = load_file(path)
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj"
    weights[f"{name}.lora_down.weight"] = weights[f"{name}.lora_down.weight"][:1].contiguous()
    weights[f"{name}.lora_up.weight"] = weights[f"{name}.lora_up.weight"][:, :1].contiguous()
    weights[f"{name}.alpha"] = torch.tensor(0.5)
    save_file(weights, path)
    remove_adapters(base)
    read = load_adapters(base, path)
    assert (read.rank, read.alpha) == (4, 8.0)
    layer = base.denoiser.mid_block.attentions[0].transformer_blocks[0].ff.net[0].proj
    assert (layer.r["default"], layer.scaling["default"]) == (1, 0.5)
    wanted = ours(base, 0.4)
    pipeline = plain_pipeline(base)
    pipeline.load_lora_weights(path)
    set_scale(pipeline, 0.4)
    assert_same(theirs(pipeline, base), wanted)
    write_export(base, read, tmp_path / "again", origin(base), ExportOptions("diffusers"))
    load_adapters(base, tmp_path / "again")
    assert_same(ours(base, 0.4), wanted)


def test_files_of_another_family_are_refused(adapted, load, tmp_path):
    base = adapted("sdxl")
    (path,) = write_export(base, LORA, tmp_path / "out", origin(base), ExportOptions("kohya"))
    other = load("sd15")
    with pytest.raises(UserError, match="does not fit the base"):
        load_adapters(other, path)
    assert adapter_state_dict(other) == {}


@pytest.mark.parametrize(
    ("kind", "form", "message"),
    [
        ("oft", "kohya", "peft or merged"),
        ("full", "peft", "as merged"),
        ("loha", "diffusers", "oh"),
    ],
)
def test_what_a_format_does_not_hold_is_told(adapted, tmp_path, kind, form, message):
    base = adapted("sd15", kind, AdapterSettings(rank=4))
    with pytest.raises(UserError, match=message):
        write_export(base, LORA, tmp_path / "out", origin(base), ExportOptions(form))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_or_left_half_written(adapted, tmp_path, monkeypatch):
    base = adapted("sd15")
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="nothing is overwritten"):
        write_export(base, LORA, tmp_path / "there", origin(base), ExportOptions("kohya"))
    missing = tmp_path / "sheet.png"
    broken = Origin("x", base.name, "", "", {"a": 1}, tmp_path)
    monkeypatch.setattr(Origin, "probe_sheet", property(lambda _: missing))
    with pytest.raises(UserError, match="cannot be written"):
        write_export(base, LORA, tmp_path / "new", broken, ExportOptions("kohya"))
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    Image.new("RGB", (8, 8)).save(missing)
    write_export(base, LORA, tmp_path / "new", broken, ExportOptions("kohya"))
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "x.safetensors",
        "README.md",
        "probes.png",
    }


def test_half_refuses_weights_that_float16_cannot_hold(load, tmp_path):
    base = copy.deepcopy(load("sd15"))
    add_adapters(base, LORA, train_text_encoder=True, seed=0)
    base.denoiser.conv_out.bias.data[1] = 70_000.0
    options = ExportOptions("merged", half=True)
    with pytest.raises(UserError, match=r"--half: the weights unet.conv_out.bias are too large"):
        write_export(base, LORA, tmp_path / "out", origin(base), options)
    assert list(tmp_path.iterdir()) == []
