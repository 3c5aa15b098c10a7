"""The embedded base is what its model card says, read by the real readers."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from dreambooth_pl.bases.load import load_base
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings

FOLDER = Path(__file__).parents[2] / "data" / "miniature"


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(FOLDER)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_component_classes_are_stable_diffusions():
    index = json.loads((FOLDER / "model_index.json").read_text())
    classes = {k: v[1] for k, v in index.items() if isinstance(v, list) and v[1]}
    assert classes == {
        "vae": "AutoencoderKL",
        "unet": "UNet2DConditionModel",
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
        "scheduler": "DDPMScheduler",
    }


def test_it_is_small_and_half_precision():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 64_000_000
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert len(weights) == 5
    for path in weights:
        with safe_open(path, framework="pt") as file:
            kinds = {file.get_tensor(k).dtype for k in file.keys()}  # noqa: SIM118
        assert {k for k in kinds if k.is_floating_point} == {torch.float16}


def test_shapes(pipeline):
    assert len(pipeline.tokenizer) == 49408
    assert pipeline.vae.config.latent_channels == 4
    assert pipeline.unet.config.sample_size == 16
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"


def test_the_pipeline_and_the_project_generate_the_same_image(pipeline):
    """The image has 128 pixels a side."""
    base = load_base(str(FOLDER))
    settings = SamplingSettings(num_inference_steps=3, scheduler="ddim", batch_size=1)
    (ours,) = generate(base, [ImageRequest("a dog in the forest", 7)], settings)
    from diffusers import DDIMScheduler

    pipeline.scheduler = DDIMScheduler.from_config(
        {**pipeline.scheduler.config, "clip_sample": False}
    )
    theirs = pipeline(
        "a dog in the forest",
        num_inference_steps=3,
        guidance_scale=settings.guidance_scale,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    assert ours.size == theirs.size == (128, 128)
    difference = torch.tensor(list(ours.tobytes())) - torch.tensor(list(theirs.tobytes()))
    assert difference.abs().max() <= 2


def test_the_text_encoder_is_the_clips_text_tower(pipeline):
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{FOLDER / 'clip'}")
    model.eval()
    tokens = pipeline.tokenizer(["a sks dog in the snow"], return_tensors="pt").input_ids
    padded = torch.nn.functional.pad(tokens, (0, 40 - tokens.shape[1]))
    with torch.no_grad():
        end = pipeline.text_encoder(tokens).last_hidden_state[:, -1]
        assert torch.allclose(end @ model.text_projection, model.encode_text(padded), atol=2e-3)


def test_dino_loads_and_needs_no_head():
    model = timm.create_model(f"local-dir:{FOLDER / 'dino'}", pretrained=True, num_classes=0).eval()
    assert model(torch.zeros(2, 3, 128, 128)).shape == (2, 192)
    assert model.pretrained_cfg["mean"] == model.pretrained_cfg["std"]
