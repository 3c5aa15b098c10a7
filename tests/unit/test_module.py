import cProfile
import pstats
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor
from training import STEPS, DrawnData, Losses, fit, new_module

from dreambooth_pl.adapters import AdapterSettings
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.errors import UserError
from dreambooth_pl.randomness import generator
from dreambooth_pl.training.losses import per_sample_mse
from dreambooth_pl.training.module import DreamBooth


@pytest.mark.parametrize("train_text_encoder", [False, True])
def test_only_the_adapters_change(tiny_base_dir, tmp_path, train_text_encoder):
    module = new_module(tiny_base_dir, train_text_encoder=train_text_encoder)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fit(module, DrawnData(), tmp_path)
    adapted = ("unet.", "text_encoder.") if train_text_encoder else ("unet.",)
    for name, value in module.state_dict().items():
        changed = not torch.equal(value, before[name])
        assert changed == (".lora_" in name and name.startswith(adapted)), name


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_step_is_the_loss_computed_by_hand_with_diffusers(tiny_base_dir, tmp_path, offset):
    losses = Losses()
    data = DrawnData(batch_size=2, steps=1)
    settings = {"prior_loss_weight": 0.5, "min_snr_gamma": 5.0, "noise_offset": offset, "seed": 3}
    module = new_module(tiny_base_dir, **settings)
    fit(module, data, tmp_path, losses, steps=1)

    base = load_base(str(tiny_base_dir))  # fresh adapters change nothing
    scheduler = DDPMScheduler.from_config(base.scheduler_config)
    parts = {"instance": [], "class": []}
    for index in (0, 1):
        for kind, errors in parts.items():
            view = data.views[data.sample(index)[f"{kind}_view"]]
            rng = generator(3, "sample", kind, index)
            timestep = torch.randint(1000, (1,), generator=rng)
            noise, posterior = torch.randn((2, 1, 4, 8, 8), generator=rng)
            if offset:  # of each channel, the same at all places
                noise = noise + offset * torch.randn(4, generator=rng)[None, :, None, None]
            with torch.no_grad():
                hidden = base.text_encoders[0](base.tokenize([view.prompt])[0]["input_ids"])[0]
                moments = base.vae.encode(view.pixels(32)[None]).latent_dist
                latents = (moments.mean + moments.std * posterior) * base.vae.config.scaling_factor
                noisy = scheduler.add_noise(latents, noise, timestep)
                prediction = base.denoiser(noisy, timestep, encoder_hidden_states=hidden).sample
            alpha = scheduler.alphas_cumprod[timestep]
            ratio = (alpha / (1 - alpha)).item()
            errors.append((prediction - noise).square().mean().item() * min(ratio, 5.0) / ratio)
    expected = sum(parts["instance"]) / 2 + 0.5 * sum(parts["class"]) / 2
    assert losses.values == [pytest.approx(expected, rel=1e-5)]


def test_v_prediction_base_learns_velocity(tiny_v_prediction_base_dir, tmp_path):
    losses = Losses()
    module = new_module(tiny_v_prediction_base_dir)
    fit(module, DrawnData(batch_size=1, prior=False), tmp_path, losses, steps=1)
    module = new_module(tiny_v_prediction_base_dir)
    fit(module, DrawnData(batch_size=1, prior=False), tmp_path, steps=0)
    batch = {"instance_view": torch.tensor([0]), "sample_index": torch.tensor([0])}
    with torch.no_grad():
        (x,) = module.sample(batch)
        scheduler = DDPMScheduler.from_config(module.base_model.scheduler_config)
        noisy = scheduler.add_noise(x.latents, x.noise, x.timesteps)
        prediction = module.predict(noisy, x.timesteps, x.conditioning, batch["sample_index"])
    velocity = scheduler.get_velocity(x.latents, x.noise, x.timesteps)
    expected = per_sample_mse(prediction, velocity).item()
    assert losses.values == [pytest.approx(expected, rel=1e-5)]


def test_samples_depend_on_seed_and_sample_index_only(tiny_base_dir, tmp_path):
    module = new_module(tiny_base_dir, seed=5)
    fit(module, DrawnData(), tmp_path, steps=0)

    def sample(indices: list[int], prior: bool = True) -> tuple[Tensor, Tensor]:
        batch = {"instance_view": torch.zeros_like(torch.tensor(indices))}
        batch["sample_index"] = torch.tensor(indices)
        if prior:
            batch["class_view"] = torch.full_like(batch["instance_view"], 2)
        (x,) = module.sample(batch)
        return x.noise, x.timesteps

    noise, timesteps = sample([7, 8, 9])
    torch.manual_seed(123)
    for position, index in enumerate([7, 8, 9]):
        single, timestep = sample([index])
        assert torch.equal(single, noise[[position, position + 3]])  # instance, class
        assert torch.equal(timestep, timesteps[[position, position + 3]])
    assert torch.equal(sample([7, 8, 9], prior=False)[0], noise[:3])
    assert len(set(noise[:, 0, 0, 0].tolist())) == 6
    module.settings = replace(module.settings, seed=6)
    assert not torch.equal(sample([7, 8, 9])[0], noise)


def test_timesteps_are_uniform_and_noise_is_normal(tiny_base_dir, tmp_path):
    module = new_module(tiny_base_dir)
    fit(module, DrawnData(), tmp_path, steps=0)
    batch = {"instance_view": torch.zeros(2000, dtype=torch.long)}
    (x,) = module.sample(batch | {"sample_index": torch.arange(2000)})
    noise, timesteps = x.noise, x.timesteps
    assert timesteps.min() < 10 and timesteps.max() > 990
    quarters = torch.histc(timesteps.float(), bins=4, min=0, max=1000) / 2000
    assert (quarters - 0.25).abs().max() < 0.04
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01


@pytest.mark.parametrize(("train_text_encoder", "calls"), [(False, 1), (True, STEPS)])
def test_prompts_and_photos_are_encoded_once(tiny_base_dir, tmp_path, train_text_encoder, calls):
    module = new_module(tiny_base_dir, train_text_encoder=train_text_encoder)
    prompts, photos = [], []
    text_encoder = module.base_model.text_encoders[0]
    text_encoder.register_forward_hook(lambda m, args, out: prompts.append(len(out[0])))
    module.vae.encoder.register_forward_hook(lambda m, args, out: photos.append(len(out)))
    fit(module, DrawnData(), tmp_path)
    assert prompts == [2] * calls  # the two distinct prompts, however large the batch
    assert sum(photos) == 5  # the distinct views


def test_cached_and_fresh_prompt_encodings_agree(tiny_base_dir, tmp_path):
    first, second = Losses(), Losses()
    fit(new_module(tiny_base_dir), DrawnData(), tmp_path, first, steps=1)
    fit(new_module(tiny_base_dir, train_text_encoder=True), DrawnData(), tmp_path, second, steps=1)
    assert first.values == pytest.approx(second.values, rel=1e-6)


def test_loss_falls_on_one_photo(tiny_base_dir, tmp_path):
    losses = Losses()
    module = new_module(tiny_base_dir, learning_rate=1e-2)
    fit(module, DrawnData(batch_size=8, prior=False, steps=20), tmp_path, losses, steps=20)
    assert sum(losses.values[-5:]) < 0.97 * sum(losses.values[:5])


def test_optimiser_groups_are_named_with_their_own_rates(tiny_base_dir):
    module = new_module(
        tiny_base_dir, train_text_encoder=True, learning_rate=2e-4, text_encoder_learning_rate=5e-5
    )
    groups = module.configure_optimizers().param_groups
    assert [(g["name"], g["lr"]) for g in groups] == [("unet", 2e-4), ("text_encoder", 5e-5)]
    trained = sum(len(group["params"]) for group in groups)
    assert trained == sum(p.requires_grad for p in module.parameters())


def test_logged_values(tiny_base_dir, tmp_path):
    module = new_module(tiny_base_dir, train_text_encoder=True, prior_loss_weight=0.5)
    logged = fit(module, DrawnData(), tmp_path).logged_metrics
    assert set(logged) == {
        "train/loss",
        "train/loss_instance",
        "train/loss_prior",
        "train/lr_unet",
        "train/lr_text_encoder",
        "train/grad_norm_unet",
        "train/grad_norm_text_encoder",
    }
    total = logged["train/loss_instance"] + 0.5 * logged["train/loss_prior"]
    torch.testing.assert_close(logged["train/loss"], total)
    # The last step's gradients are still there to be measured another way.
    gradients = [p.grad.flatten() for p in module.unet.parameters() if p.grad is not None]
    torch.testing.assert_close(logged["train/grad_norm_unet"], torch.cat(gradients).norm())
    assert logged["train/lr_unet"] == pytest.approx(3e-4)


def test_dropout_is_keyed_too(tiny_base_dir, tmp_path):
    runs = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        losses = Losses()
        lora = AdapterSettings(rank=4, alpha=8.0, dropout=0.5)
        module = DreamBooth(base=str(tiny_base_dir), lora=lora, learning_rate=1e-2)
        fit(module, DrawnData(), tmp_path, losses)
        runs.append(losses.values)
    assert runs[0] == runs[1]
    without = Losses()
    fit(new_module(tiny_base_dir, learning_rate=1e-2), DrawnData(), tmp_path, without)
    assert without.values[1:] != runs[0][1:]


@pytest.mark.parametrize("interrupted", [1, 2, 3])
def test_resumed_run_equals_the_uninterrupted_one(tiny_base_dir, tmp_path, interrupted):
    whole, head, tail = Losses(), Losses(), Losses()
    modules = [new_module(tiny_base_dir, train_text_encoder=True) for _ in range(3)]
    fit(modules[0], DrawnData(), tmp_path, whole)
    saver = ModelCheckpoint(tmp_path, filename="part", every_n_train_steps=interrupted)
    fit(modules[1], DrawnData(), tmp_path, head, saver, steps=interrupted)
    path = tmp_path / "part.ckpt"
    fit(modules[2], DrawnData(), tmp_path, tail, ckpt_path=path)
    assert head.values + tail.values == whole.values
    expected = modules[0].state_dict()
    resumed = modules[2].state_dict()
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


@pytest.fixture()
def checkpoint(tiny_base_dir, tmp_path):
    module = new_module(tiny_base_dir)
    saver = ModelCheckpoint(tmp_path / "saved", filename="one", every_n_train_steps=1)
    fit(module, DrawnData(steps=1), tmp_path, saver, steps=1)
    return tmp_path / "saved" / "one.ckpt"


def test_checkpoint_holds_the_adapters_only(checkpoint, tiny_base_dir):
    content = torch.load(checkpoint, weights_only=True)
    assert all(name.startswith("unet.") and ".lora_" in name for name in content["state_dict"])
    assert content["base"]["fingerprint"] == load_base(str(tiny_base_dir)).fingerprint
    assert content["settings"]["lora.rank"] == 4
    assert "hyper_parameters" not in content
    adapters = sum(tensor.numel() for tensor in content["state_dict"].values())
    states = content["optimizer_states"][0]["state"]
    assert len(states) == len(content["state_dict"])
    assert checkpoint.stat().st_size < 3 * adapters * 4 + 200_000


def test_checkpoint_of_another_base_is_refused(checkpoint, tiny_v_prediction_base_dir, tmp_path):
    module = new_module(tiny_v_prediction_base_dir)
    with pytest.raises(UserError, match="belongs to the base .*Set model.base"):
        fit(module, DrawnData(), tmp_path, ckpt_path=checkpoint)


def test_changed_settings_stop_unless_allowed(checkpoint, tiny_base_dir, tmp_path):
    module = new_module(tiny_base_dir, learning_rate=1e-3)
    with pytest.raises(UserError, match="model.learning_rate is 0.001, was 0.0003"):
        fit(module, DrawnData(), tmp_path, ckpt_path=checkpoint)
    module = new_module(tiny_base_dir, learning_rate=1e-3, allow_changed_settings=True)
    logged = fit(module, DrawnData(), tmp_path, ckpt_path=checkpoint).logged_metrics
    assert logged["train/lr_unet"] == pytest.approx(1e-3)


def test_checkpoint_from_before_a_setting_was_had_its_default(checkpoint, tiny_base_dir):
    content = torch.load(checkpoint, weights_only=True)
    for name in ("frozen_dtype", "noise_offset"):
        content["settings"].pop(name)
    new_module(tiny_base_dir).on_load_checkpoint(content)
    with pytest.raises(UserError, match=r"model\.noise_offset is 0\.1, was 0\.0"):
        new_module(tiny_base_dir, noise_offset=0.1).on_load_checkpoint(content)


def test_checkpoint_of_other_adapters_is_refused(checkpoint, tiny_base_dir, tmp_path):
    module = new_module(tiny_base_dir, train_text_encoder=True, allow_changed_settings=True)
    with pytest.raises(UserError, match="adapter weights do not fit"):
        fit(module, DrawnData(), tmp_path, ckpt_path=checkpoint)
    content = torch.load(checkpoint, weights_only=True)
    content.pop("base")
    with pytest.raises(UserError, match="not written by this project"):
        module.on_load_checkpoint(content)


def test_resolution_that_the_vae_cannot_encode_is_refused(tiny_base_dir, tmp_path):
    data = DrawnData()
    data.resolution = 30
    with pytest.raises(UserError, match="data.resolution: 30 px is no multiple of 4"):
        fit(new_module(tiny_base_dir), data, tmp_path)


def test_fit_leaves_the_global_random_state_alone(tiny_base_dir, tmp_path):
    module = new_module(tiny_base_dir)
    seen = []

    class State(Callback):
        def on_train_batch_start(self, *args) -> None:
            seen.append(torch.get_rng_state())

    fit(module, DrawnData(), tmp_path, State())
    assert len(seen) == STEPS and all(torch.equal(state, seen[0]) for state in seen)


def test_a_step_does_not_walk_through_all_modules(tiny_base_dir, tmp_path):
    profile = cProfile.Profile()

    class Profiled(Callback):
        def on_train_batch_start(self, *_) -> None:
            profile.enable()

        def on_train_batch_end(self, *_) -> None:
            profile.disable()

    fit(new_module(tiny_base_dir), DrawnData(), tmp_path, Profiled())
    calls = {name: n for (_, _, name), (_, n, *_) in pstats.Stats(profile).stats.items()}
    assert calls["training_step"] == STEPS
    # A walk visits each of the base's hundreds of modules; looking at one parameter visits five.
    assert calls.get("named_modules", 0) < 100 * STEPS
