import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler, StableDiffusionPipeline
from transformers import CLIPTextConfig, CLIPTextModel

from dreambooth_pl.adapters import AdapterSettings, add_adapters
from dreambooth_pl.bases.clip_tokenizer import write_clip_tokenizer
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.errors import UserError

PROMPTS = ["A sks dog in red t-shorts.", "", "a cat"]


def test_base_describes_itself(tiny_base_dir):
    base = load_base(str(tiny_base_dir))
    assert (base.vae_scale_factor, base.resolution) == (4, 32)
    assert base.objective.prediction == "epsilon"
    assert list(base.adaptable) == ["unet", "text_encoder"]
    scheduler = PNDMScheduler.from_config(base.scheduler_config)
    assert torch.equal(scheduler.alphas_cumprod, base.objective.alphas_cumprod)
    for module in base.modules.values():
        assert not module.training
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in module.parameters())


def test_v_prediction_is_recognised(tiny_v_prediction_base_dir):
    assert load_base(str(tiny_v_prediction_base_dir)).objective.prediction == "v"


@pytest.mark.parametrize("length", [20, 40, 77])
def test_encode_prompts_equals_the_diffusers_pipeline(tiny_base_dir, tmp_path, length):
    folder = tmp_path / "base"
    shutil.copytree(tiny_base_dir, folder)
    write_clip_tokenizer(folder / "tokenizer", length).save_pretrained(folder / "tokenizer")
    config = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    config.max_position_embeddings = length
    torch.manual_seed(0)
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")

    base = load_base(str(folder))
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
        ours = base.encode_prompts(PROMPTS, "cpu")
    assert ours.hidden_states.shape == (3, length, 16)
    assert torch.equal(ours.hidden_states, expected)
    assert ours.added == {}


def test_attention_mask_is_used_where_the_text_encoder_asks_for_it(tiny_base_dir):
    base = load_base(str(tiny_base_dir))
    without = base.encode_prompts(PROMPTS).hidden_states
    base.text_encoders[0].config.use_attention_mask = True
    pipeline = base.pipeline(PNDMScheduler.from_config(base.scheduler_config))
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
    ours = base.encode_prompts(PROMPTS).hidden_states
    assert torch.equal(ours, expected)
    assert not torch.equal(ours, without)


def test_truncation_names_the_dropped_words_and_equals_diffusers(tiny_base_dir):
    base = load_base(str(tiny_base_dir))
    prompt = " ".join(["dog"] * 18 + ["castle", "meadow"])
    with pytest.warns(UserWarning, match="dropped: 'castle meadow'"):
        ours = base.encode_prompts([prompt])
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base_dir, safety_checker=None)
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt([prompt], "cpu", 1, False)
    assert torch.equal(ours.hidden_states, expected)


def test_select_takes_rows(tiny_base_dir):
    conditioning = load_base(str(tiny_base_dir)).encode_prompts(PROMPTS)
    rows = conditioning.select(torch.tensor([2, 0, 2])).hidden_states
    assert torch.equal(rows[0], conditioning.hidden_states[2])
    assert torch.equal(rows[1], conditioning.hidden_states[0])
    assert torch.equal(rows[2], rows[0])


def test_encode_images_gives_the_scaled_moments_of_the_vae(tiny_base_dir):
    base = load_base(str(tiny_base_dir))
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, std = base.encode_images(pixels)
    assert mean.shape == std.shape == (2, 4, 8, 8)
    # as in the pipeline: sample with a generator, then scale
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        latents = base.vae.encode(pixels).latent_dist.sample(rng) * base.vae.config.scaling_factor
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(mean + std * noise, latents)
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        base.encode_images(pixels * 255)


def test_pipeline_generates_with_the_live_networks(tiny_base_dir):
    base = load_base(str(tiny_base_dir))
    scheduler = DDIMScheduler.from_config(base.scheduler_config)
    pipeline = base.pipeline(scheduler)
    assert pipeline.unet is base.denoiser and pipeline.vae is base.vae
    loaded = StableDiffusionPipeline.from_pretrained(tiny_base_dir, safety_checker=None)
    loaded.scheduler = scheduler
    images = []
    for pipe in (pipeline, loaded):
        pipe.set_progress_bar_config(disable=True)
        rng = torch.Generator().manual_seed(1)
        options = {"num_inference_steps": 2, "generator": rng, "output_type": "np"}
        images.append(torch.from_numpy(pipe("a sks dog", height=32, width=32, **options).images))
    assert torch.equal(*images)


def test_fingerprint_ignores_adapters_and_file_precision(tiny_base_dir, tmp_path):
    base = load_base(str(tiny_base_dir))
    before = base.fingerprint
    add_adapters(base, AdapterSettings(rank=2), train_text_encoder=True, seed=0)
    assert base.fingerprint == before

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base_dir, safety_checker=None)
    pipeline.to(torch.float16).save_pretrained(tmp_path / "half")
    half = load_base(str(tmp_path / "half"))
    assert half.fingerprint == before
    assert all(p.dtype == torch.float32 for m in half.modules.values() for p in m.parameters())


def test_fingerprint_sees_weights_and_schedule(tiny_base_dir, tiny_v_prediction_base_dir, tmp_path):
    before = load_base(str(tiny_base_dir)).fingerprint
    assert load_base(str(tiny_v_prediction_base_dir)).fingerprint != before
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base_dir, safety_checker=None)
    pipeline.unet.conv_out.bias.data += 0.1
    pipeline.save_pretrained(tmp_path / "other")
    assert load_base(str(tmp_path / "other")).fingerprint != before


def test_weight_files_with_a_variant_suffix(tiny_base_dir, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base_dir, safety_checker=None)
    pipeline.to(torch.float16).save_pretrained(tmp_path / "base", variant="fp16")
    with pytest.raises(UserError, match=r"model\.variant"):
        load_base(str(tmp_path / "base"))
    spec = BaseSpec(str(tmp_path / "base"), variant="fp16")
    assert load_base(spec).denoiser.dtype == torch.float32


def test_unknown_bases_are_explained(tiny_base_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for path in ("data/absent", "./absent/base", str(tmp_path / "absent"), "absent"):
        with pytest.raises(UserError, match="there is no folder"):
            load_base(path)
    with pytest.raises(UserError, match="no model_index.json"):
        load_base("data")
    with pytest.raises(UserError, match="neither a folder .* nor a hub id that can be reached"):
        load_base("nobody-at-all/no-such-base")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_base("model.safetensors")


def test_other_families_and_incomplete_folders_are_refused(tiny_base_dir, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(tiny_base_dir, folder)
    shutil.rmtree(folder / "unet")
    with pytest.raises(UserError, match="'unet' of .* cannot be loaded"):
        load_base(str(folder))
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "FluxPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="is a FluxPipeline; only"):
        load_base(str(folder))
    (folder / "model_index.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        load_base(str(folder))


def test_loading_leaves_the_global_random_state_alone(tiny_base_dir):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    load_base(str(tiny_base_dir))
    assert torch.equal(torch.get_rng_state(), before)
