"""Generation: images as from the diffusers pipeline, and no lasting changes of any state."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from dreambooth_pl.adapters import AdapterSettings, add_adapters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.objectives import DiscreteSchedule, FlowMatching
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.png_metadata import read_png_metadata, save_png
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.image_metadata import image_metadata
from dreambooth_pl.sampling.requests import ImageRequest, probe_requests
from dreambooth_pl.sampling.settings import SCHEDULERS, SamplingSettings

SETTINGS = SamplingSettings(num_inference_steps=3, batch_size=3)
REQUESTS = [ImageRequest(f"A sks dog {where}", 2**62 + i) for i, where in enumerate("abcb")]


@pytest.fixture(scope="module")
def base(tiny_base_dir: Path) -> Base:
    """A base with adapters in UNet and text encoder that change its images."""
    base = load_base(str(tiny_base_dir))
    add_adapters(base, AdapterSettings(rank=2, alpha=4), train_text_encoder=True, seed=0)
    rng = torch.Generator().manual_seed(5)
    for module in base.adaptable.values():
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                parameter.data = torch.randn(parameter.shape, generator=rng)
    return base


def image_bytes(
    base: Base, requests: list[ImageRequest], settings: SamplingSettings
) -> list[bytes]:
    return [image.tobytes() for image in generate(base, requests, settings)]


def test_images_equal_those_of_the_diffusers_pipeline(tiny_base_dir: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base_dir, safety_checker=None)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    base = load_base(str(tiny_base_dir))
    settings = replace(SETTINGS, negative_prompt="blurred")
    for request, image in zip(REQUESTS, generate(base, REQUESTS, settings), strict=True):
        theirs = pipeline(
            request.prompt,
            negative_prompt="blurred",
            num_inference_steps=3,
            guidance_scale=6.4,
            generator=torch.Generator().manual_seed(request.seed),
        ).images[0]
        assert (image.mode, image.size) == ("RGB", (32, 32))
        difference = np.asarray(image).astype(int) - np.asarray(theirs)
        assert np.abs(difference).max() <= 1  # another batch size: rounding


def test_scales_apply_to_the_adapters(base: Base, tiny_base_dir: Path) -> None:
    untuned = image_bytes(load_base(str(tiny_base_dir)), REQUESTS[:1], SETTINGS)[0]
    scales = [(0.0, 0.0), (0.4, 0.0), (0.0, 0.4), (0.4, 0.4), (1.0, 1.0)]
    images = []
    for unet, text_encoder in scales:
        settings = replace(SETTINGS, lora_scale_unet=unet, lora_scale_text_encoder=text_encoder)
        images += image_bytes(base, REQUESTS[:1], settings)
    assert images[0] == untuned
    assert len(set(images)) == len(scales)


def test_bits_do_not_depend_on_the_rest_of_the_batch(base: Base) -> None:
    together = image_bytes(base, REQUESTS, SETTINGS)
    assert len(set(together)) == 4  # also the two images with the same prompt
    assert image_bytes(base, REQUESTS[::-1], SETTINGS)[::-1] == together
    assert [image_bytes(base, [request], SETTINGS)[0] for request in REQUESTS] == together
    other_batch_size = generate(base, REQUESTS, replace(SETTINGS, batch_size=2))
    for ours, image in zip(together, other_batch_size, strict=True):
        a, b = (np.frombuffer(raw, np.uint8).astype(int) for raw in (ours, image.tobytes()))
        assert np.abs(a - b).max() <= 1


def snapshot(base: Base) -> dict[str, object]:
    state: dict[str, object] = {
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
        "grad": torch.is_grad_enabled(),
    }
    for component, network in base.modules.items():
        for name, module in network.named_modules():
            scaling = dict(getattr(module, "scaling", {}))
            state[f"{component}.{name}"] = (module.training, scaling)
        for name, p in (*network.named_parameters(), *network.named_buffers()):
            value = (id(p), p.dtype, p.device, p.requires_grad, p._version, p.grad is None)
            state[f"{component}.{name} tensor"] = (*value, p.detach().double().sum().item())
    return state


@pytest.mark.parametrize("scheduler", DiscreteSchedule.samplers)
def test_generation_restores_all_state(base: Base, scheduler: str) -> None:
    base.denoiser.train()
    base.denoiser.mid_block.eval()
    base.text_encoders[0].train()
    before = snapshot(base)
    settings = replace(SETTINGS, scheduler=scheduler, num_inference_steps=4)
    images = generate(base, REQUESTS, settings)
    first = next(images)
    assert snapshot(base) == before  # also between images
    rest = list(images)
    assert snapshot(base) == before
    assert len({image.tobytes() for image in (first, *rest)}) == 4

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(generate(base, REQUESTS, settings, interrupt))
    assert snapshot(base) == before
    base.denoiser.eval()
    base.text_encoders[0].eval()


def test_a_failure_during_generation_restores_all_state(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.denoiser.train()
    before = snapshot(base)

    def fail(*args: object, **kwargs: object) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(base.vae, "decode", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(generate(base, REQUESTS, SETTINGS))
    monkeypatch.undo()
    assert snapshot(base) == before
    base.denoiser.eval()


def test_dropout_and_autocast_of_the_caller_have_no_effect(base: Base) -> None:
    plain = image_bytes(base, REQUESTS[:2], SETTINGS)
    base.denoiser.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert image_bytes(base, REQUESTS[:2], SETTINGS) == plain
    base.denoiser.eval()


def test_autocast_denoises_in_bfloat16_and_decodes_in_float32(tiny_base_dir: Path) -> None:
    base = load_base(str(tiny_base_dir))
    settings = replace(SETTINGS, autocast="bfloat16", batch_size=1, num_inference_steps=1)
    pipeline = base.pipeline(base.objective.sampler(settings.scheduler))
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    plain, negative = base.encode_prompts(["a dog"]), base.encode_prompts([""])
    (image,) = generate(base, [ImageRequest("a dog", 5)], settings)

    # the same single step of denoising by hand
    pipeline.scheduler.set_timesteps(1)
    (timestep,) = pipeline.scheduler.timesteps
    states = torch.cat([negative.hidden_states, plain.hidden_states])
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            predicted = base.denoiser(noise.expand(2, -1, -1, -1), timestep, states).sample
        assert predicted.dtype == torch.bfloat16
        without, of_prompt = predicted.float().chunk(2)
        guided = without + settings.guidance_scale * (of_prompt - without)
        latents = pipeline.scheduler.step(guided, timestep, noise).prev_sample
        decoded = base.decode_latents(latents)[0]
    by_hand = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(image).astype(int) - by_hand).max() <= 1

    exact = next(generate(base, [ImageRequest("a dog", 5)], replace(settings, autocast=None)))
    assert exact.tobytes() != image.tobytes()
    assert image_metadata(base, REQUESTS[0], settings)["autocast"] == "bfloat16"
    assert not base.denoiser._forward_hooks


def test_progress_counts_images(base: Base) -> None:
    seen: list[tuple[int, int]] = []
    images = generate(base, REQUESTS, SETTINGS, lambda done, total: seen.append((done, total)))
    assert seen == []
    assert len(list(images)) == 4
    assert seen == [(3, 4), (4, 4)]
    assert list(generate(base, [], SETTINGS)) == []


def test_other_resolutions(base: Base) -> None:
    (image,) = generate(base, REQUESTS[:1], replace(SETTINGS, resolution=48))
    assert image.size == (48, 48)


@pytest.mark.parametrize(("value", "problem"), [(float("nan"), "not finite"), (-50.0, "black")])
def test_broken_images_are_refused(tiny_base_dir: Path, value: float, problem: str) -> None:
    base = load_base(str(tiny_base_dir))
    base.vae.decoder.conv_out.bias.data[:] = value
    with pytest.raises(UserError, match=f"A sks dog a.*{problem}"):
        list(generate(base, REQUESTS, SETTINGS))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"scheduler": "dpm"}, "scheduler"),
        ({"resolution": 20}, "resolution"),
    ],
)
def test_mistakes_name_the_key(settings: dict[str, object], key: str) -> None:
    with pytest.raises(UserError, match=f"sampling.{key}"):
        SamplingSettings(**settings)


def test_probes_have_the_same_noise_for_all_identifiers() -> None:
    ours, theirs = probe_requests("sks", "dog", 42), probe_requests("oue", "cat", 42)
    assert [label for label, _ in ours] == [
        *("first_1", "first_2", "first_3", "first_4", "clothing", "style", "place", "action")
    ]
    assert [r.prompt for _, r in ours[:5]] == ["A sks dog"] * 4 + ["A sks dog in red t-shorts."]
    assert theirs[6][1].prompt == "A oue cat in the forest."
    seeds = [request.seed for _, request in ours]
    assert seeds == [request.seed for _, request in theirs]
    assert len(set(seeds)) == 8
    assert not set(seeds) & {request.seed for _, request in probe_requests("sks", "dog", 43)}


def test_an_image_is_generated_again_from_its_file(base: Base, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    request = ImageRequest("Ein süßer Hund 犬", 12345678901234567)
    (image,) = generate(base, [request], SETTINGS)
    save_png(image, path, image_metadata(base, request, SETTINGS, step=300))
    assert [p.name for p in tmp_path.iterdir()] == ["image.png"]
    read = read_png_metadata(path)
    assert (read["step"], read["base_fingerprint"]) == (300, base.fingerprint)
    with Image.open(path) as file:  # as other programs read it
        assert file.text["prompt"] == request.prompt
        assert file.text["guidance_scale"] == "6.4"
    settings = SamplingSettings(
        num_inference_steps=read["steps"],
        **{
            key: read[key]
            for key in (
                *("guidance_scale", "scheduler", "negative_prompt", "resolution", "batch_size"),
                *("lora_scale_unet", "lora_scale_text_encoder"),
            )
        },
    )
    neighbours = [REQUESTS[0], ImageRequest(read["prompt"], read["seed"])]
    assert image_bytes(base, neighbours, settings)[1] == Image.open(path).tobytes()


def test_files_without_settings(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("no picture")
    for name in ("plain.png", "text.png", "gone.png"):
        with pytest.raises(UserError, match=name):
            read_png_metadata(tmp_path / name)


def test_every_scheduler_of_the_settings_fits_some_objective() -> None:
    of_objectives = {*DiscreteSchedule.samplers, *FlowMatching.samplers}
    assert of_objectives == set(SCHEDULERS)
