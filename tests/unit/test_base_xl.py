"""Stable Diffusion XL: conditioning and images equal those of the diffusers pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline
from PIL import Image

from dreambooth_pl.adapters import (
    AdapterSettings,
    adapter_scale,
    add_adapters,
    trainable_parameters,
)
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.conditioning import MicroConditioning
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.data.views import View
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.view_cache import ViewCache

PROMPTS = ["A sks dog in red t-shorts.", "", "a cat"]
SETTINGS = SamplingSettings(num_inference_steps=3, batch_size=1)


@pytest.fixture(scope="module")
def pipeline(tiny_xl_base_dir: Path) -> StableDiffusionXLPipeline:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_xl_base_dir, add_watermarker=False)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def base(tiny_xl_base_dir: Path) -> Base:
    return load_base(str(tiny_xl_base_dir))


def test_it_describes_itself(base: Base) -> None:
    assert (base.family, base.objective.prediction) == ("stable-diffusion-xl", "epsilon")
    assert list(base.adaptable) == ["unet", "text_encoder", "text_encoder_2"]
    assert (base.resolution, base.zeros_for_empty_prompt) == (32, True)


def test_encoded_prompts_equal_those_of_the_pipeline(base: Base, pipeline) -> None:
    with torch.no_grad():
        states, _, pooled, _ = pipeline.encode_prompt(
            PROMPTS, device="cpu", do_classifier_free_guidance=False
        )
        ours = base.encode_prompts(PROMPTS, "cpu")
    assert ours.hidden_states.shape == (3, 20, 16 + 24)
    assert torch.equal(ours.hidden_states, states)
    assert torch.equal(ours.added["text_embeds"], pooled)


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("negative", ["", "blurred"])
def test_negative_prompts_equal_those_of_the_pipeline(
    base: Base, pipeline, negative, zeros
) -> None:
    base = replace(base, zeros_for_empty_prompt=zeros)
    pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    with torch.no_grad():
        _, states, _, pooled = pipeline.encode_prompt(
            "a dog", device="cpu", negative_prompt=negative or None
        )
        ours = base.encode_negative(negative)
    pipeline.register_to_config(force_zeros_for_empty_prompt=True)
    assert torch.equal(ours.hidden_states, states)
    assert torch.equal(ours.added["text_embeds"], pooled)
    assert states.any() == (negative != "" or not zeros)


def test_a_folder_may_say_that_empty_prompts_are_encoded(tiny_xl_base_dir, tmp_path) -> None:
    loaded = StableDiffusionXLPipeline.from_pretrained(tiny_xl_base_dir, add_watermarker=False)
    loaded.register_to_config(force_zeros_for_empty_prompt=False)
    loaded.save_pretrained(tmp_path / "base")
    assert not load_base(str(tmp_path / "base")).zeros_for_empty_prompt


def test_time_ids_equal_those_of_the_pipeline(base: Base, pipeline) -> None:
    pictures = [
        MicroConditioning((300, 401), (0, 7), (32, 48)),
        MicroConditioning.whole((32, 32)),
    ]
    ours = base.micro_conditioning(pictures)["time_ids"]
    for picture, row in zip(pictures, ours, strict=True):
        parts = picture.original_size, picture.crop_top_left, picture.target_size
        theirs = pipeline._get_add_time_ids(
            *parts, dtype=torch.float32, text_encoder_projection_dim=24
        )
        assert torch.equal(row[None], theirs)


@pytest.mark.parametrize("negative", ["", "blurred"])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_images_equal_those_of_the_pipeline(base: Base, pipeline, negative, guidance) -> None:
    settings = replace(SETTINGS, negative_prompt=negative, guidance_scale=guidance, batch_size=2)
    requests = [ImageRequest("a sks dog", 1), ImageRequest("a cat", 2)]
    for request, image in zip(requests, generate(base, requests, settings), strict=True):
        theirs = pipeline(
            request.prompt,
            negative_prompt=negative or None,
            num_inference_steps=3,
            guidance_scale=guidance,
            height=32,
            width=32,
            generator=torch.Generator().manual_seed(request.seed),
        ).images[0]
        difference = np.asarray(image).astype(int) - np.asarray(theirs)
        assert np.abs(difference).max() <= 1  # another batch size: rounding


def test_adapters_of_each_part_change_the_image_with_their_scales(tiny_xl_base_dir: Path) -> None:
    base = load_base(str(tiny_xl_base_dir))
    add_adapters(base, AdapterSettings(rank=2, alpha=4), train_text_encoder=True, seed=0)
    rng = torch.Generator().manual_seed(5)

    def image_bytes(unet: float, text_encoder: float) -> bytes:
        settings = replace(SETTINGS, lora_scale_unet=unet, lora_scale_text_encoder=text_encoder)
        (image,) = generate(base, [ImageRequest("a sks dog", 1)], settings)
        return image.tobytes()

    untuned = image_bytes(1.0, 1.0)
    images = [untuned]
    for component in ("text_encoder", "text_encoder_2", "unet"):
        for name, parameter in trainable_parameters(base)[component].items():
            if "lora_B" in name:
                parameter.data.normal_(generator=rng)
        if component != "unet":
            with torch.no_grad(), adapter_scale(base, 1.0, 0.0):
                off = base.encode_prompts(["a sks dog"]).hidden_states
            with torch.no_grad(), adapter_scale(base, 1.0, 1.0):
                on = base.encode_prompts(["a sks dog"]).hidden_states
            assert not torch.equal(on, off)
        images.append(image_bytes(1.0, 1.0))
    assert image_bytes(0.0, 0.0) == untuned
    assert len(set(images) | {image_bytes(0.4, 1.0), image_bytes(1.0, 0.4)}) == 6


@pytest.fixture()
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture()
def class_image(tmp_path: Path) -> View:
    """The view of a generated class image, which is neither scaled nor cropped."""
    Image.new("RGB", (32, 32)).save(tmp_path / "class.png")
    return View(tmp_path / "class.png", "a dog")


def test_views_have_micro_conditioning_in_training(
    base: Base, photo: Path, class_image: View
) -> None:
    views = [
        View(photo, "a sks dog"),  # 48 x 64, scaled to 32 x 43: 11 too wide
        View(photo, "a sks dog", flip=True, centering=(1.0, 0.5)),
        View(photo, "a sks dog", size=(24, 40)),  # scaled to 30 x 40: 6 too high
        class_image,
    ]
    cache = ViewCache(base, views, 32)
    cache.encode_prompts()
    conditioning = cache.conditioning(torch.tensor([3, 0, 1, 2]))
    expected = [
        [32, 32, 0, 0, 32, 32],
        [48, 64, 0, 6, 32, 32],
        [48, 64, 0, 0, 32, 32],
        [48, 64, 3, 0, 24, 40],
    ]
    assert conditioning.added["time_ids"].tolist() == expected
    with torch.no_grad():
        prompts = base.encode_prompts(["a dog", "a sks dog", "a sks dog", "a sks dog"])
    torch.testing.assert_close(conditioning.hidden_states, prompts.hidden_states)
    torch.testing.assert_close(conditioning.added["text_embeds"], prompts.added["text_embeds"])


def test_dropped_captions_are_zeros_and_keep_micro_conditioning(
    base: Base, photo: Path, class_image: View
) -> None:
    views = [View(photo, "a sks dog"), class_image]
    for encoded in (False, True):
        cache = ViewCache(base, views, 32, empty_prompt=True)
        if encoded:
            cache.encode_prompts()
        with torch.no_grad():
            conditioning = cache.conditioning(torch.tensor([0, 1]), torch.tensor([1, 0]))
        assert not conditioning.hidden_states[0].any()
        assert not conditioning.added["text_embeds"][0].any()
        assert conditioning.hidden_states[1].any() and conditioning.added["text_embeds"][1].any()
        assert conditioning.added["time_ids"][0].tolist() == [48, 64, 0, 6, 32, 32]
