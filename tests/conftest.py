"""Fixtures: a tiny random base with its metric encoders, and a folder of little drawn photos."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

# Tests are tiny: more threads cost more than they bring. And no test may reach for a model hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import dreambooth_pl  # noqa: F401  isort: skip  (mends the import of torchvision first)
import open_clip
import pytest
import timm
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dreambooth_pl.bases.clip_tokenizer import write_clip_tokenizer

TINY_RESOLUTION = 32
TINY_CONTEXT_LENGTH = 20

torch.set_num_threads(1)


def write_tiny_pipeline(folder: Path, prediction_type: str = "epsilon") -> None:
    """A random pipeline of Stable Diffusion 1's component classes: 32 px, VAE factor 4."""
    tokenizer = write_clip_tokenizer(folder / "tokenizer", TINY_CONTEXT_LENGTH)
    torch.manual_seed(0)
    vae = tiny_vae()
    unet = UNet2DConditionModel(
        sample_size=TINY_RESOLUTION // 4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=TINY_CONTEXT_LENGTH,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=49407,
        )
    )
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


def tiny_vae() -> AutoencoderKL:
    """A random VAE of factor 4."""
    return AutoencoderKL(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=TINY_RESOLUTION,
    )


def tiny_text_config(width: int, activation: str, pad_token_id: int) -> CLIPTextConfig:
    """A text encoder of two layers; it has `width` channels."""
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TINY_CONTEXT_LENGTH,
        projection_dim=width,
        hidden_act=activation,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=pad_token_id,
    )


def write_tiny_sd2_pipeline(folder: Path) -> None:
    """A random pipeline as Stable Diffusion 2.1's: OpenCLIP's text encoder, v prediction."""
    tokenizer = write_clip_tokenizer(folder / "tokenizer", TINY_CONTEXT_LENGTH, pad_token="!")
    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=tiny_vae(),
        unet=UNet2DConditionModel(
            sample_size=TINY_RESOLUTION // 4,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=[1, 2],
            use_linear_projection=True,
            upcast_attention=True,
            norm_num_groups=4,
        ),
        text_encoder=CLIPTextModel(tiny_text_config(16, "gelu", pad_token_id=0)),
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            clip_sample=False,
            set_alpha_to_one=False,
            prediction_type="v_prediction",
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def write_tiny_xl_pipeline(folder: Path) -> None:
    """A random pipeline as Stable Diffusion XL's: two text encoders, micro-conditioning."""
    tokenizers = {
        name: write_clip_tokenizer(folder / name, TINY_CONTEXT_LENGTH, pad_token)
        for name, pad_token in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!"))
    }
    torch.manual_seed(0)
    StableDiffusionXLPipeline(
        vae=tiny_vae(),
        unet=UNet2DConditionModel(
            sample_size=TINY_RESOLUTION // 4,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=[1, 2],
            cross_attention_dim=16 + 24,
            attention_head_dim=[1, 2],
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
            norm_num_groups=4,
        ),
        text_encoder=CLIPTextModel(tiny_text_config(16, "quick_gelu", pad_token_id=49407)),
        text_encoder_2=CLIPTextModelWithProjection(tiny_text_config(24, "gelu", pad_token_id=0)),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        add_watermarker=False,
        **tokenizers,
    ).save_pretrained(folder)


def write_tiny_clip(folder: Path) -> None:
    """A random CLIP that open_clip loads by `local-dir:`."""
    folder.mkdir(parents=True, exist_ok=True)
    model_config = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": TINY_CONTEXT_LENGTH,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    preprocess = {
        "size": [32, 32],
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": model_config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2))
    torch.manual_seed(1)
    model = open_clip.CLIP(**model_config)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")


def write_tiny_dino(folder: Path) -> None:
    """A random vision transformer that timm loads by `local-dir:`."""
    folder.mkdir(parents=True, exist_ok=True)
    model_args = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    config = {
        "architecture": "vit_small_patch16_224",
        "num_classes": 0,
        "num_features": 24,
        "model_args": model_args,
        "pretrained_cfg": {
            "tag": "tiny",
            "input_size": [3, 32, 32],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "num_classes": 0,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    torch.manual_seed(2)
    model = timm.create_model("vit_small_patch16_224", num_classes=0, **model_args)
    save_file(model.state_dict(), folder / "model.safetensors")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden/ anew, then compare"
    )


@pytest.fixture(scope="session", autouse=True)
def _answered_interrupt() -> Iterator[None]:
    """Answer SIGINT even where the tests run in the background, whose shell lets it be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written anew."""
    return request.config.getoption("--update-golden")


@pytest.fixture(scope="session")
def tiny_base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with random weights; `clip/` and `dino/` encoders lie inside it."""
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    write_tiny_pipeline(folder)
    write_tiny_clip(folder / "clip")
    write_tiny_dino(folder / "dino")
    return folder


@pytest.fixture(scope="session")
def tiny_v_prediction_base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like `tiny_base_dir`, with v prediction and without encoders."""
    folder = tmp_path_factory.mktemp("bases") / "tiny_v"
    write_tiny_pipeline(folder, prediction_type="v_prediction")
    return folder


@pytest.fixture(scope="session")
def tiny_sd2_base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random base of Stable Diffusion 2.1's shape, v prediction included."""
    folder = tmp_path_factory.mktemp("bases") / "tiny_sd2"
    write_tiny_sd2_pipeline(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_xl_base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random base of Stable Diffusion XL's shape."""
    folder = tmp_path_factory.mktemp("bases") / "tiny_xl"
    write_tiny_xl_pipeline(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tiny_base_dir: Path) -> str:
    """The tiny CLIP's name for open_clip."""
    return f"local-dir:{tiny_base_dir / 'clip'}"


@pytest.fixture(scope="session")
def tiny_dino(tiny_base_dir: Path) -> str:
    """The tiny vision transformer's name for timm."""
    return f"local-dir:{tiny_base_dir / 'dino'}"


def draw_photo(index: int, size: tuple[int, int]) -> Image.Image:
    """A brown creature on a coloured ground; position and colours vary with `index`."""
    width, height = size
    image = Image.new("RGB", size, (60 + 30 * index, 180 - 20 * index, 90 + 25 * index))
    draw = ImageDraw.Draw(image)
    left, top = width * (0.15 + 0.04 * index), height * 0.3
    draw.ellipse((left, top, left + width * 0.5, top + height * 0.5), fill=(150, 100, 60))
    draw.ellipse((left, top, left + width * 0.2, top + height * 0.2), fill=(240, 230, 210))
    return image


@pytest.fixture()
def photo_dir(tmp_path: Path) -> Path:
    """Five drawn photos: three PNG, two JPEG; square, wide and tall."""
    return _write_photos(tmp_path / "photos")


@pytest.fixture(scope="session")
def write_photos() -> Callable[[Path], Path]:
    """Write the photos of `photo_dir` into a new folder, for what outlives a test."""
    return _write_photos


def _write_photos(folder: Path) -> Path:
    folder.mkdir()
    names = ("00.png", "01.png", "02.jpg", "03.png", "04.jpg")
    sizes = ((40, 40), (64, 48), (48, 64), (40, 40), (56, 40))
    for index, (name, size) in enumerate(zip(names, sizes, strict=True)):
        draw_photo(index, size).save(folder / name)
    return folder
