"""Training on each family, in half precision, checkpointed, accumulated, with other optimisers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from lightning.pytorch.callbacks import ModelCheckpoint
from training import SETTINGS, DrawnData, Losses, fit, new_module

from dreambooth_pl.adapters import (
    AdapterSettings,
    adapter_state_dict,
    check_trainable_set,
    trainable_parameters,
)
from dreambooth_pl.errors import UserError
from dreambooth_pl.randomness import generator
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.module import DreamBooth
from dreambooth_pl.training.optimizers import describe_optimizer

FAMILIES = ["tiny_base_dir", "tiny_sd2_base_dir", "tiny_xl_base_dir"]


def adapters(module: DreamBooth) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in adapter_state_dict(module.base_model).items()}


def assert_same(first: dict, second: dict, **tolerance: float) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], msg=name, **tolerance)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_half_frozen_weights_train_float32_adapters(family, precision, tmp_path, request) -> None:
    folder = request.getfixturevalue(family)
    module = new_module(folder, frozen_dtype="bfloat16", train_text_encoder=True)
    frozen = {n: p.clone() for n, p in module.named_parameters() if not p.requires_grad}
    before, losses = adapters(module), Losses()
    trainer = fit(module, DrawnData(batch_size=2), tmp_path, losses, steps=2, precision=precision)

    assert check_trainable_set(module.base_model, SETTINGS, True) == sum(
        value.numel() for value in before.values()
    )
    assert all(torch.isfinite(torch.tensor(losses.values))) and len(losses.values) == 2
    for name, parameter in module.named_parameters():
        if ".lora_" in name:
            assert parameter.dtype == torch.float32, name
        else:
            expected = torch.float32 if name.startswith("vae.") else torch.bfloat16
            assert parameter.dtype == expected, name
            assert torch.equal(parameter, frozen[name]), name
    states = trainer.optimizers[0].state.values()
    assert {state["exp_avg"].dtype for state in states} == {torch.float32}
    changed = {
        n.split(".")[0] for n, v in adapters(module).items() if not torch.equal(v, before[n])
    }
    assert changed == set(module.base_model.adaptable)

    settings = SamplingSettings(num_inference_steps=2, batch_size=1)
    (image,) = generate(module.base_model, [ImageRequest("a sks dog", 1)], settings)
    assert len({*image.getdata()}) > 10  # not black, nor any one colour


def test_autocast_alone_trains_near_float32(tiny_base_dir: Path, tmp_path: Path) -> None:
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        recorded = Losses()
        fit(
            new_module(tiny_base_dir), DrawnData(), tmp_path, recorded, steps=2, precision=precision
        )
        losses[precision] = recorded.values
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.05)
    assert losses["bf16-mixed"] != losses["32-true"]


def test_a_step_on_xl_is_the_loss_by_hand_with_diffusers(tiny_xl_base_dir, tmp_path) -> None:
    losses, data = Losses(), DrawnData(batch_size=1, prior=False, steps=1)
    fit(new_module(tiny_xl_base_dir, seed=3), data, tmp_path, losses, steps=1)

    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_xl_base_dir, add_watermarker=False)
    rng = generator(3, "sample", "instance", 0)
    timestep = torch.randint(1000, (1,), generator=rng)
    noise, posterior = torch.randn((2, 1, 4, 8, 8), generator=rng)
    view = data.views[0]
    sizes = ((32, 32), (0, 0), (32, 32))
    with torch.no_grad():
        states, _, pooled, _ = pipeline.encode_prompt(
            view.prompt, device="cpu", do_classifier_free_guidance=False
        )
        time_ids = pipeline._get_add_time_ids(*sizes, torch.float32, 24)
        moments = pipeline.vae.encode(view.pixels(32)[None]).latent_dist
        latents = moments.mean + moments.std * posterior
        latents = latents * pipeline.vae.config.scaling_factor
        scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        prediction = pipeline.unet(
            scheduler.add_noise(latents, noise, timestep),
            timestep,
            encoder_hidden_states=states,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
        ).sample
    expected = (prediction - noise).square().mean().item()
    assert losses.values == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize("family", ["tiny_base_dir", "tiny_xl_base_dir"])
def test_gradient_checkpointing_changes_nothing(family, tmp_path, request) -> None:
    results = []
    for checkpointing in (False, True):
        module = new_module(
            request.getfixturevalue(family),
            lora=AdapterSettings(rank=2, dropout=0.3),
            train_text_encoder=True,
            gradient_checkpointing=checkpointing,
        )
        fit(module, DrawnData(batch_size=1), tmp_path, steps=2)
        results.append(adapters(module))
        assert module.unet.is_gradient_checkpointing == checkpointing
    assert_same(*results)


def test_attention_is_the_fused_one(tiny_xl_base_dir: Path) -> None:
    module = new_module(tiny_xl_base_dir)
    assert {type(p) for p in module.unet.attn_processors.values()} == {AttnProcessor2_0}
    for text_encoder in module.base_model.text_encoders:
        assert text_encoder.config._attn_implementation == "sdpa"


def test_accumulated_batches_are_one_larger_batch(tiny_base_dir: Path, tmp_path: Path) -> None:
    results = []
    for batch_size, accumulated in ((4, 1), (2, 2), (1, 4)):
        data = DrawnData(batch_size=batch_size, steps=2 * accumulated)
        module = new_module(tiny_base_dir, min_snr_gamma=5.0)
        trainer = fit(module, data, tmp_path, steps=2, accumulate_grad_batches=accumulated)
        assert trainer.global_step == 2
        results.append(adapters(module))
    # Adam divides by the gradient's size, which makes rounding of tiny gradients visible
    assert_same(results[0], results[1], rtol=1e-3, atol=1e-5)
    assert_same(results[0], results[2], rtol=1e-3, atol=1e-5)


def momentum(**more: float) -> partial:
    return partial(torch.optim.Adamax, weight_decay=0.1, **more)


def test_other_optimisers_keep_the_groups_own_rates(tiny_xl_base_dir: Path) -> None:
    module = new_module(tiny_xl_base_dir, optimizer=momentum(), train_text_encoder=True)
    optimizer = module.configure_optimizers()
    assert type(optimizer) is torch.optim.Adamax
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {"unet": 3e-4, "text_encoder": 1e-4, "text_encoder_2": 1e-4}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}
    groups = {group["name"]: group["params"] for group in optimizer.param_groups}
    for name, parameters in trainable_parameters(module.base_model).items():
        assert {id(p) for p in groups[name]} == {id(p) for p in parameters.values()}


def test_resuming_another_optimiser_is_exact(tiny_base_dir: Path, tmp_path: Path) -> None:
    whole = new_module(tiny_base_dir, optimizer=momentum())
    fit(whole, DrawnData(), tmp_path)
    saver = ModelCheckpoint(tmp_path, filename="part", every_n_train_steps=2)
    fit(new_module(tiny_base_dir, optimizer=momentum()), DrawnData(), tmp_path, saver, steps=2)
    checkpoint = tmp_path / "part.ckpt"
    resumed = new_module(tiny_base_dir, optimizer=momentum())
    fit(resumed, DrawnData(), tmp_path, ckpt_path=checkpoint)
    assert_same(adapters(whole), adapters(resumed), rtol=0, atol=0)
    for other in (None, momentum(eps=1e-3)):
        with pytest.raises(UserError, match=r"model\.optimizer is .* was .*Adamax"):
            fit(
                new_module(tiny_base_dir, optimizer=other),
                DrawnData(),
                tmp_path,
                ckpt_path=checkpoint,
            )


def test_an_optimiser_that_cannot_be_made_is_told_at_once() -> None:
    with pytest.raises(UserError, match=r"model\.optimizer: Invalid momentum value"):
        describe_optimizer(partial(torch.optim.SGD, momentum=-1.0))


def test_prodigy_trains(tiny_base_dir: Path, tmp_path: Path) -> None:
    prodigyopt = pytest.importorskip("prodigyopt")
    rates = {"learning_rate": 1.0, "text_encoder_learning_rate": 1.0}
    module = new_module(tiny_base_dir, optimizer=prodigyopt.Prodigy, **rates)
    before = adapters(module)
    fit(module, DrawnData(), tmp_path)
    assert any(not torch.equal(value, before[name]) for name, value in adapters(module).items())
