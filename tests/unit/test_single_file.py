"""A single-file base generates the same images as the diffusers folder of the same model.

The tests convert to the original layout with tables of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dreambooth_pl.bases.clip_tokenizer import write_clip_tokenizer
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.single_file import predicts_noise
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.errors import UserError
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings

LENGTH = 20  # tokens of a prompt
State = dict[str, Tensor]


def rename(state: State, prefix: str, rules: list[tuple[str, str | Callable]]) -> State:
    """Rename each tensor by the first rule whose pattern matches its whole name."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            if re.fullmatch(pattern, name):
                renamed[prefix + re.sub(pattern, replacement, name)] = value
                break
        else:
            raise AssertionError(f"no rule for {name}")
    return renamed


def original_unet(state: State, layers: int) -> State:
    inner = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    step = layers + 1
    attention_above = {n for n in range(9) if f"up_blocks.{n}.attentions.0.norm.weight" in state}

    def down(m: re.Match) -> str:
        return f"input_blocks.{1 + int(m[1]) * step + int(m[2])}"

    def up(m: re.Match) -> str:
        return f"output_blocks.{int(m[1]) * step + int(m[2])}"

    def upsampler(m: re.Match) -> str:
        place = 2 if int(m[1]) in attention_above else 1
        return f"output_blocks.{int(m[1]) * step + layers}.{place}.conv.{m[2]}"

    rules: list[tuple[str, str | Callable]] = [
        (r"conv_in\.(\w+)", r"input_blocks.0.0.\1"),
        (r"time_embedding\.linear_1\.(\w+)", r"time_embed.0.\1"),
        (r"time_embedding\.linear_2\.(\w+)", r"time_embed.2.\1"),
        (r"add_embedding\.linear_1\.(\w+)", r"label_emb.0.0.\1"),
        (r"add_embedding\.linear_2\.(\w+)", r"label_emb.0.2.\1"),
        (r"conv_norm_out\.(\w+)", r"out.0.\1"),
        (r"conv_out\.(\w+)", r"out.2.\1"),
        (
            r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(\w+)",
            lambda m: f"input_blocks.{(int(m[1]) + 1) * step}.0.op.{m[2]}",
        ),
        (r"up_blocks\.(\d)\.upsamplers\.0\.conv\.(\w+)", upsampler),
        (
            r"down_blocks\.(\d)\.resnets\.(\d)\.(\w+)\.(\w+)",
            lambda m: f"{down(m)}.0.{inner[m[3]]}.{m[4]}",
        ),
        (r"down_blocks\.(\d)\.attentions\.(\d)\.(.+)", lambda m: f"{down(m)}.1.{m[3]}"),
        (
            r"up_blocks\.(\d)\.resnets\.(\d)\.(\w+)\.(\w+)",
            lambda m: f"{up(m)}.0.{inner[m[3]]}.{m[4]}",
        ),
        (r"up_blocks\.(\d)\.attentions\.(\d)\.(.+)", lambda m: f"{up(m)}.1.{m[3]}"),
        (
            r"mid_block\.resnets\.(\d)\.(\w+)\.(\w+)",
            lambda m: f"middle_block.{2 * int(m[1])}.{inner[m[2]]}.{m[3]}",
        ),
        (r"mid_block\.attentions\.0\.(.+)", r"middle_block.1.\1"),
    ]
    return rename(state, "model.diffusion_model.", rules)


def original_vae(state: State, levels: int) -> State:
    attention = {
        "group_norm": "norm",
        "to_q": "q",
        "to_k": "k",
        "to_v": "v",
        "to_out.0": "proj_out",
    }

    def resnet(rest: str) -> str:
        return rest.replace("conv_shortcut", "nin_shortcut")

    rules: list[tuple[str, str | Callable]] = [
        (
            r"encoder\.down_blocks\.(\d)\.resnets\.(\d)\.(.+)",
            lambda m: f"encoder.down.{m[1]}.block.{m[2]}.{resnet(m[3])}",
        ),
        (
            r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.(.+)",
            r"encoder.down.\1.downsample.\2",
        ),
        (
            r"decoder\.up_blocks\.(\d)\.resnets\.(\d)\.(.+)",
            lambda m: f"decoder.up.{levels - 1 - int(m[1])}.block.{m[2]}.{resnet(m[3])}",
        ),
        (
            r"decoder\.up_blocks\.(\d)\.upsamplers\.0\.(.+)",
            lambda m: f"decoder.up.{levels - 1 - int(m[1])}.upsample.{m[2]}",
        ),
        (
            r"(encoder|decoder)\.mid_block\.resnets\.(\d)\.(.+)",
            lambda m: f"{m[1]}.mid.block_{int(m[2]) + 1}.{m[3]}",
        ),
        (
            r"(encoder|decoder)\.mid_block\.attentions\.0\.(.+)\.(\w+)",
            lambda m: f"{m[1]}.mid.attn_1.{attention[m[2]]}.{m[3]}",
        ),
        (r"(encoder|decoder)\.conv_norm_out\.(\w+)", r"\1.norm_out.\2"),
        (r"((?:encoder|decoder)\.conv_(?:in|out)\.\w+|(?:post_)?quant_conv\.\w+)", r"\1"),
    ]
    renamed = rename(state, "first_stage_model.", rules)
    for name, value in renamed.items():
        if ".attn_1." in name and name.endswith("weight") and value.ndim == 2:
            renamed[name] = value[:, :, None, None]  # 1 x 1 convolutions in the original
    return renamed


def original_clip(state: State, prefix: str) -> State:
    return {f"{prefix}text_model.{n.removeprefix('text_model.')}": v for n, v in state.items()}


def original_open_clip(state: State, prefix: str) -> State:
    state = {name.removeprefix("text_model."): value for name, value in state.items()}
    whole = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    inner = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    renamed = {prefix + new: state[old] for old, new in whole.items()}
    if "text_projection.weight" in state:
        renamed[f"{prefix}text_projection"] = state["text_projection.weight"].T
    for name, value in state.items():
        match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if match is None:
            continue
        block = f"{prefix}transformer.resblocks.{match[1]}."
        if match[2] in inner:
            renamed[f"{block}{inner[match[2]]}.{match[3]}"] = value
        elif match[2] == "self_attn.q_proj":
            parts = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            renamed[f"{block}attn.in_proj_{match[3]}"] = torch.cat(parts)
    return renamed


def text_config(width: int, layers: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=LENGTH,
        projection_dim=width,
        hidden_act=activation,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407 if activation == "quick_gelu" else 0,
    )


def schedule(prediction_type: str = "epsilon") -> dict:
    return {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
        "prediction_type": prediction_type,
    }


def narrow_vae(scaling_factor: float) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
        scaling_factor=scaling_factor,
    )


def write_sd(folder: Path, version: int, prediction_type: str) -> tuple[DiffusionPipeline, State]:
    """Return a narrow Stable Diffusion 1 or 2 and its weights in the original layout."""
    open_clip = version == 2
    text_encoder = CLIPTextModel(text_config(64, 2, "gelu" if open_clip else "quick_gelu"))
    pipeline = StableDiffusionPipeline(
        vae=narrow_vae(0.18215),
        unet=UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(64, 128),
            layers_per_block=2,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=64,
            attention_head_dim=[1, 2] if open_clip else 8,
            use_linear_projection=open_clip,
            upcast_attention=open_clip,
        ),
        text_encoder=text_encoder,
        tokenizer=write_clip_tokenizer(
            folder / "tokenizer", LENGTH, "!" if open_clip else "<|endoftext|>"
        ),
        scheduler=DDIMScheduler(
            set_alpha_to_one=False, clip_sample=False, **schedule(prediction_type)
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    state = original_unet(pipeline.unet.state_dict(), 2)
    state |= original_vae(pipeline.vae.state_dict(), 2)
    clip = text_encoder.state_dict()
    if open_clip:
        prefix = "cond_stage_model.model."
        state |= original_open_clip(clip, prefix)
        last = {n: v for n, v in state.items() if ".resblocks.1." in n}
        # the original has one more layer, whose states are not used
        state |= {n.replace("blocks.1.", "blocks.2."): v.clone() for n, v in last.items()}
        state[f"{prefix}text_projection"] = torch.zeros(64, 64)
        state[f"{prefix}logit_scale"] = torch.zeros(())
    else:
        state |= original_clip(clip, "cond_stage_model.transformer.")
        state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(9)
    return pipeline, state


def write_xl(folder: Path) -> tuple[DiffusionPipeline, State]:
    """Return a narrow Stable Diffusion XL and its weights in the original layout."""
    pipeline = StableDiffusionXLPipeline(
        vae=narrow_vae(0.13025),
        unet=UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(64, 128),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=[1, 2],
            cross_attention_dim=64 + 128,
            attention_head_dim=[1, 2],
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 128,
        ),
        text_encoder=CLIPTextModel(text_config(64, 2, "quick_gelu")),
        text_encoder_2=CLIPTextModelWithProjection(text_config(128, 2, "gelu")),
        tokenizer=write_clip_tokenizer(folder / "tokenizer", LENGTH),
        tokenizer_2=write_clip_tokenizer(folder / "tokenizer_2", LENGTH, "!"),
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", **schedule()),
        add_watermarker=False,
    )
    state = original_unet(pipeline.unet.state_dict(), 1)
    state |= original_vae(pipeline.vae.state_dict(), 2)
    first = pipeline.text_encoder.state_dict()
    state |= original_clip(first, "conditioner.embedders.0.transformer.")
    second = pipeline.text_encoder_2.state_dict()
    return pipeline, state | original_open_clip(second, "conditioner.embedders.1.model.")


WRITERS = {
    "sd1": lambda folder: write_sd(folder, 1, "epsilon"),
    "sd2": lambda folder: write_sd(folder, 2, "v_prediction"),
    "sdxl": write_xl,
}


def save_checkpoint(state: State, path: Path, metadata: dict[str, str] | None = None) -> Path:
    contiguous = {name: value.detach().clone().contiguous() for name, value in state.items()}
    save_file(contiguous, path, metadata)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Folder and file of one random model, by version."""
    found = {}
    for version, write in WRITERS.items():
        folder = tmp_path_factory.mktemp(version)
        torch.manual_seed(3)
        pipeline, state = write(folder)
        pipeline.save_pretrained(folder)
        if version != "sdxl":  # as in the published folders: each sampler has its own default
            config = json.loads((folder / "scheduler/scheduler_config.json").read_text())
            del config["timestep_spacing"]
            (folder / "scheduler/scheduler_config.json").write_text(json.dumps(config))
        found[version] = (folder, save_checkpoint(state, folder / "one.safetensors"))
    return found


@pytest.mark.parametrize("version", WRITERS)
def test_file_and_folder_generate_the_same_images(models, version: str) -> None:
    folder, file = models[version]
    bases = [load_base(str(folder)), load_base(str(file))]
    assert bases[0].fingerprint == bases[1].fingerprint
    assert bases[0].objective.prediction == bases[1].objective.prediction
    for settings in (
        SamplingSettings(num_inference_steps=2, batch_size=1, resolution=32),
        SamplingSettings(num_inference_steps=2, batch_size=1, resolution=32, scheduler="euler"),
    ):
        requests = [ImageRequest("a sks dog", 1)]
        ours, theirs = (next(generate(base, requests, settings)).tobytes() for base in bases)
        assert ours == theirs
    assert (
        bases[1].resolution // bases[1].vae_scale_factor * 2
        == {
            "sd1": 512,
            "sd2": 768,  # v prediction
            "sdxl": 1024,
        }[version]
    )


@pytest.mark.parametrize(
    ("metadata", "more", "beside", "expected"),
    [
        ({"modelspec.prediction_type": "epsilon"}, [], None, "epsilon"),
        ({"modelspec.prediction_type": "v"}, [], None, "v_prediction"),
        (None, ["v_pred"], None, "v_prediction"),
        (None, [], "model: {params: {parameterization: v}}", "v_prediction"),
        (None, [], "model: {params: {linear_start: 0.00085}}", "epsilon"),
        (None, [], "some: [other, yaml]", "v_prediction"),  # a random UNet does not predict noise
    ],
)
def test_prediction_type_of_a_checkpoint(
    models, tmp_path, metadata, more, beside, expected
) -> None:
    state = load_file(models["sd2"][1]) | {name: torch.zeros(()) for name in more}
    file = save_checkpoint(state, tmp_path / "model.safetensors", metadata)
    if beside:
        file.with_suffix(".yaml").write_text(beside)
    assert load_base(str(file)).scheduler_config["prediction_type"] == expected


def test_noise_prediction_is_recognised_from_the_output_for_pure_noise(models) -> None:
    assert predicts_noise(load_base("data/miniature").denoiser)
    assert not predicts_noise(load_base(str(models["sd2"][0])).denoiser)


def test_half_precision_files_load_as_stored_or_as_float32(models, tmp_path) -> None:
    folder, file = models["sdxl"]
    half = {name: value.half() for name, value in load_file(file).items()}
    path = str(save_checkpoint(half, tmp_path / "half.safetensors"))
    for frozen_dtype in ("float32", "float16", "bfloat16"):
        base = load_base(BaseSpec(path, frozen_dtype=frozen_dtype))
        assert base.fingerprint == load_base(str(folder)).fingerprint
        expected = getattr(torch, frozen_dtype)
        assert {p.dtype for m in base.adaptable.values() for p in m.parameters()} == {expected}
        assert {p.dtype for p in base.vae.parameters()} == {torch.float32}


def test_files_that_are_no_base_are_explained(models, tmp_path) -> None:
    whole = load_file(models["sd1"][1])

    def refused(state: State, match: str) -> None:
        path = save_checkpoint(state, tmp_path / "model.safetensors")
        with pytest.raises(UserError, match=match) as caught:
            load_base(str(path))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    first = "model.diffusion_model.input_blocks.0.0.weight"
    refused({"lora_unet_mid_block.lora_down.weight": torch.zeros(1)}, "is a LoRA")
    refused({"unet.mid_block.to_q.lora_A.weight": torch.zeros(1)}, "is a LoRA")
    refused({"encoder.weight": torch.zeros(1)}, "holds no Stable Diffusion UNet")
    refused(whole | {first: torch.zeros(64, 9, 3, 3)}, "is for inpainting")
    refused({n: v for n, v in whole.items() if not n.startswith("first_")}, "holds no VAE")
    refused({n: v for n, v in whole.items() if not n.startswith("cond_")}, "without the text")
    absent = "model.diffusion_model.output_blocks.0.0.in_layers.2.weight"
    refused({n: v for n, v in whole.items() if n != absent}, "lacks|cannot be read")

    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no tensors here")
    with pytest.raises(UserError, match="not a readable safetensors file .* download complete"):
        load_base(str(broken))
    pickled = tmp_path / "old.ckpt"
    pickled.touch()
    with pytest.raises(UserError, match="no .safetensors file.*run any code"):
        load_base(str(pickled))
    with pytest.raises(UserError, match="there is no"):
        load_base(str(tmp_path / "absent.safetensors"))
