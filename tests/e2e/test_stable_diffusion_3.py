"""Stable Diffusion 3, random and tiny: training, images and files against its own pipeline."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from dreambooth_pl.adapters import WEIGHTS_NAME, load_adapters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.clip_tokenizer import write_clip_tokenizer
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.commands import train as cli
from dreambooth_pl.commands.evaluate import main as evaluate
from dreambooth_pl.commands.export import main as export
from dreambooth_pl.commands.generate import main as generate_command
from dreambooth_pl.errors import UserError
from dreambooth_pl.randomness import generator
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings

PROMPTS = ["A sks dog in red t-shorts.", "", "a cat"]
SETTINGS = SamplingSettings(num_inference_steps=3, batch_size=1)
LENGTH = 20  # of both CLIP tokenizers
T5_WIDTH = 48


def t5_tokenizer() -> T5TokenizerFast:
    """A tokenizer of T5's kind: letters and a few words, the end marked by </s>."""
    words = [("▁a", -1.0), ("▁dog", -1.0), ("▁sks", -1.5)]
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    tokenizer = Tokenizer(models.Unigram([*special, *letters, *words], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return T5TokenizerFast(tokenizer_object=tokenizer, extra_ids=0, model_max_length=512)


def clip(width: int) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=width,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            projection_dim=width,
            bos_token_id=49406,
            eos_token_id=49407,
        )
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_base_dir: Path) -> Path:
    """A random base of Stable Diffusion 3's shape: 32 px, VAE factor 4, patches of 2."""
    folder = tmp_path_factory.mktemp("bases") / "tiny_3"
    tokenizers = {n: write_clip_tokenizer(folder / n, LENGTH) for n in ("tokenizer", "tokenizer_2")}
    torch.manual_seed(0)
    StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=T5_WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=16 + 24,
            pos_embed_max_size=8,
        ),
        vae=AutoencoderKL(
            block_out_channels=(8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=4,
            sample_size=32,
            shift_factor=0.0609,
            scaling_factor=1.5305,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=clip(16),
        text_encoder_2=clip(24),
        text_encoder_3=T5EncoderModel(
            T5Config(vocab_size=40, d_model=T5_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        ),
        tokenizer_3=t5_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        **tokenizers,
    ).save_pretrained(folder)
    for encoder in ("clip", "dino"):
        shutil.copytree(tiny_base_dir / encoder, folder / encoder)
    return folder


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return load_base(str(folder))


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableDiffusion3Pipeline:
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_it_describes_itself(base: Base) -> None:
    assert (base.family, base.objective.prediction) == ("stable-diffusion-3", "flow")
    assert list(base.adaptable) == ["transformer", "text_encoder", "text_encoder_2"]
    assert list(base.modules)[-1] == "text_encoder_3"
    assert (base.resolution, base.pixel_multiple, base.vae_scale_factor) == (32, 8, 4)


def test_encoded_prompts_are_the_pipelines(base: Base, pipeline) -> None:
    with torch.no_grad():
        states, _, pooled, _ = pipeline.encode_prompt(
            PROMPTS, None, None, device="cpu", do_classifier_free_guidance=False
        )
        ours = base.encode_prompts(PROMPTS, "cpu")
    assert ours.hidden_states.shape == (3, LENGTH + 256, T5_WIDTH)
    assert torch.equal(ours.hidden_states, states)
    assert torch.equal(ours.added["pooled_projections"], pooled)


@pytest.mark.parametrize("negative", ["", "blurred"])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_the_image_is_the_pipelines_own(base: Base, pipeline, negative, guidance) -> None:
    settings = replace(SETTINGS, scheduler="euler", negative_prompt=negative, batch_size=2)
    requests = [ImageRequest("a sks dog", 1), ImageRequest("a cat", 2)]
    images = generate(base, requests, replace(settings, guidance_scale=guidance))
    for request, image in zip(requests, images, strict=True):
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


def test_a_sampler_of_other_objectives_is_refused(base: Base) -> None:
    settings = replace(SETTINGS, scheduler="ddim")
    with pytest.raises(UserError, match="sampling.scheduler: 'ddim' does not fit this base"):
        list(generate(base, [ImageRequest("a cat", 2)], settings))


@pytest.fixture()
def fit(fit, folder: Path):
    """`train.py fit` on this base."""
    return replace(fit, base=folder)


def test_step_is_the_loss_computed_by_hand(fit, folder: Path, pipeline) -> None:
    """Velocity against the transformer's, at s = 3 u / (1 + 2 u) with u logit-normal."""
    keys = {"trainer__max_steps": 1, "model__prior_loss_weight": 0, "probe__every_n_steps": 0}
    command = fit.run(**keys)
    view = command.datamodule.views[command.datamodule.samples(1)[0]["instance_view"]]
    rng = generator(42, "sample", "instance", 0)
    u = torch.randn(1, generator=rng).sigmoid()
    s = 3 * u / (1 + 2 * u)
    noise, posterior = torch.randn((2, 1, 4, 8, 8), generator=rng)
    with torch.no_grad():
        states, _, pooled, _ = pipeline.encode_prompt(
            view.prompt, None, None, device="cpu", do_classifier_free_guidance=False
        )
        moments = pipeline.vae.encode(view.pixels(32)[None]).latent_dist
        latents = (moments.mean + moments.std * posterior - 0.0609) * 1.5305
        prediction = pipeline.transformer(
            hidden_states=(1 - s) * latents + s * noise,
            timestep=s * 1000,
            encoder_hidden_states=states,
            pooled_projections=pooled,
        ).sample
    expected = (prediction - (noise - latents)).square().mean().item()
    logged = command.trainer.logged_metrics["train/loss"].item()
    assert logged == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def run(tmp_path_factory, folder: Path, write_photos, fit_command) -> Path:
    """A finished run with text encoders, class images, probes, fidelity and validation."""
    photos = write_photos(tmp_path_factory.mktemp("sd3") / "photos")
    cwd = tmp_path_factory.mktemp("sd3")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["train.py"])
        keys = {"model__train_text_encoder": "true", "model__learning_rate": 0.01}
        keys |= {"sampling__lora_scale_unet": 1, "sampling__lora_scale_text_encoder": 1}
        keys |= {"model__min_snr_gamma": 5, "data__horizontal_flip": "true"}
        command = fit_command(cwd, folder, photos).run(**keys)
    return cwd / command.run_folder


def test_a_resumed_run_equals_the_uninterrupted_one(fit, checkpoint) -> None:
    keys = {"model__train_text_encoder": "true", "probe__every_n_steps": 0}
    whole = checkpoint(fit.run(**keys))
    half = fit.run(**keys, trainer__max_steps=3)
    last = half.run_folder / "checkpoints" / "last.ckpt"
    resumed = checkpoint(fit.run(**keys, ckpt_path=last))
    assert resumed["state_dict"].keys() == whole["state_dict"].keys()
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], tensor), name
    components = {name.split(".")[0] for name in whole["state_dict"]}
    assert components == {"transformer", "text_encoder", "text_encoder_2"}


def test_the_lora_file_is_diffusers_own(run: Path, folder: Path, base: Base) -> None:
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(run / "lora", weight_name=WEIGHTS_NAME)
    assert set(pipeline.get_list_adapters()) == {"transformer", "text_encoder", "text_encoder_2"}
    own = load_base(str(folder))
    load_adapters(own, run / "lora")
    settings = replace(SETTINGS, scheduler="euler", lora_scale_unet=1, lora_scale_text_encoder=1)
    (image,) = generate(own, [ImageRequest("a sks dog", 1)], settings)
    (untuned,) = generate(base, [ImageRequest("a sks dog", 1)], settings)
    theirs = pipeline(
        "a sks dog",
        num_inference_steps=3,
        guidance_scale=settings.guidance_scale,
        height=32,
        width=32,
        generator=torch.Generator().manual_seed(1),
    ).images[0]
    difference = np.asarray(image).astype(int) - np.asarray(theirs)
    assert np.abs(difference).max() <= 1
    assert np.abs(np.asarray(image).astype(int) - np.asarray(untuned)).max() > 5


def test_a_file_without_our_settings_is_read(run: Path, folder: Path, tmp_path: Path) -> None:
    """As diffusers' own trainer writes it: no metadata, alpha equal to the rank."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder)
    state = pipeline.lora_state_dict(run / "lora", weight_name=WEIGHTS_NAME)
    save_file(state, tmp_path / "other.safetensors")
    first, second = load_base(str(folder)), load_base(str(folder))
    load_adapters(first, run / "lora")
    load_adapters(second, tmp_path / "other.safetensors")
    settings = replace(SETTINGS, lora_scale_unet=1, lora_scale_text_encoder=1)
    images = [next(generate(b, [ImageRequest("a dog", 1)], settings)) for b in (first, second)]
    assert images[0].tobytes() == images[1].tobytes()


def test_every_command_takes_the_run(run: Path, folder: Path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(run.parents[2])
    probes = sorted((run / "probes" / "step_000006").iterdir())
    assert generate_command([f"--reproduce={probes[-1]}", f"--out={tmp_path / 'again'}"]) == 0
    assert "identical" in capsys.readouterr().out
    assert generate_command([str(run), "--prompt=a dog", f"--out={tmp_path / 'new'}"]) == 0
    assert evaluate([str(run), "--class-images=2", "--protocol=probes"]) == 0
    assert "CLIP-T" in capsys.readouterr().out
    merged = ["--format=merged", "--lora-scale-unet=1", "--lora-scale-text-encoder=1"]
    assert export([str(run), *merged, f"--out={tmp_path / 'merged'}"]) == 0
    loaded = StableDiffusion3Pipeline.from_pretrained(tmp_path / "merged")
    own = load_base(str(folder))
    load_adapters(own, run / "lora")
    with torch.no_grad():
        ours = own.encode_prompts(["a sks dog"]).hidden_states
        theirs = loaded.encode_prompt("a sks dog", None, None, device="cpu")[0]
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format=kohya"], "on Stable Diffusion 3 can be exported as diffusers or peft or merg"),
        (["--format=merged", "--single-file"], "Stable Diffusion 3 cannot be written as one file"),
    ],
)
def test_formats_that_it_lacks_are_refused(run, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(run.parents[2])
    assert export([str(run), *options, f"--out={tmp_path / 'out'}"]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_line_is_the_same(folder: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit", f"--model.base={folder}", "--print_config"])
    assert ended.value.code == 0
