import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, safe_open, save_file

from dreambooth_pl.adapters import (
    AdapterSettings,
    adapted_layers,
    adapter_parameters,
    adapter_scale,
    adapter_state_dict,
    add_adapters,
    check_trainable_set,
    load_adapter_state_dict,
    load_adapters,
    load_weighted_adapters,
    remove_adapters,
    save_adapters,
    trainable_parameters,
)
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.errors import UserError

SETTINGS = AdapterSettings(rank=4, alpha=8.0)


@pytest.fixture()
def base(tiny_base_dir) -> Base:
    return load_base(str(tiny_base_dir))


@pytest.fixture()
def trained(base) -> Base:
    """A base with random adapters, B included, in UNet and text encoder."""
    add_adapters(base, SETTINGS, train_text_encoder=True, seed=1)
    rng = torch.Generator().manual_seed(2)
    for tensor in adapter_state_dict(base).values():
        tensor.copy_(torch.randn(tensor.shape, generator=rng) * 0.2)
    return base


@torch.no_grad()
def unet_output(unet, hidden_states) -> torch.Tensor:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return unet(latents, torch.tensor([500]), encoder_hidden_states=hidden_states).sample


@torch.no_grad()
def outputs(base: Base) -> torch.Tensor:
    hidden_states = base.encode_prompts(["a sks dog"]).hidden_states
    return torch.cat([hidden_states.flatten(), unet_output(base.denoiser, hidden_states).flatten()])


def layers(base: Base) -> list[LoraLayer]:
    return [m for c in base.adaptable.values() for m in c.modules() if isinstance(m, LoraLayer)]


@pytest.mark.parametrize("component", ["unet", "text_encoder"])
@pytest.mark.parametrize("scale", [1.0, 0.4, 0.0])
def test_adapted_layer_computes_w_plus_scaled_b_a(trained, component, scale):
    layer = next(m for m in trained.adaptable[component].modules() if isinstance(m, LoraLayer))
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    weight, bias = layer.base_layer.weight, layer.base_layer.bias
    adapted = weight + scale * (8.0 / 4) * b @ a
    x = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(4))
    with adapter_scale(trained, denoiser=scale, text_encoder=scale):
        torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, adapted, bias))


def test_fresh_adapters_change_nothing(base):
    before = outputs(base)
    add_adapters(base, SETTINGS, train_text_encoder=True, seed=0)
    assert torch.equal(outputs(base), before)


def test_initialisation_depends_on_seed_and_layer_only(tiny_base_dir):
    states = []
    for global_seed, seed in ((0, 7), (1, 7), (0, 8)):
        torch.manual_seed(global_seed)
        base = load_base(str(tiny_base_dir))
        before = torch.get_rng_state()
        add_adapters(base, SETTINGS, train_text_encoder=seed == 7, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        states.append(adapter_state_dict(base))
    first, second, other = states
    assert all(torch.equal(first[name], second[name]) for name in first)
    names = [name for name in other if ".lora_A." in name]
    assert not any(torch.equal(first[name], other[name]) for name in names)
    # PEFT's initialisation: uniform in +-1 / sqrt(fan in)
    largest = max((first[n].abs().max() * first[n].shape[1] ** 0.5).item() for n in names)
    assert 0.9 < largest <= 1.0


def test_trainable_set_is_exactly_the_adapters(base):
    add_adapters(base, SETTINGS, train_text_encoder=False, seed=0)
    parameters = trainable_parameters(base)
    assert list(parameters) == ["unet"]
    attentions = [n for n, _ in base.denoiser.named_modules() if n.endswith((".attn1", ".attn2"))]
    assert len(parameters["unet"]) == len(attentions) * 4 * 2  # q, k, v, out; A and B
    count = sum(p.numel() for p in parameters["unet"].values())
    assert check_trainable_set(base, SETTINGS, train_text_encoder=False) == count
    with pytest.raises(RuntimeError, match="do not train"):
        check_trainable_set(base, SETTINGS, train_text_encoder=True)
    base.denoiser.conv_in.bias.requires_grad_(True)
    with pytest.raises(RuntimeError, match="not name"):
        check_trainable_set(base, SETTINGS, train_text_encoder=False)


def test_text_encoder_trains_when_asked(base):
    add_adapters(base, SETTINGS, train_text_encoder=True, seed=0)
    parameters = trainable_parameters(base)
    assert list(parameters) == ["unet", "text_encoder"]
    assert len(parameters["text_encoder"]) == 2 * 4 * 2  # layers; q, k, v, out; A and B
    loss = base.encode_prompts(["a sks dog"]).hidden_states.square().mean()
    loss.backward()
    gradients = [p.grad for n, p in parameters["text_encoder"].items() if ".lora_B." in n]
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_adapters_are_float32_on_a_half_precision_base(base):
    base.denoiser.to(torch.bfloat16)
    add_adapters(base, SETTINGS, train_text_encoder=False, seed=0)
    assert all(p.dtype == torch.float32 for p in adapter_parameters(base.denoiser).values())
    assert base.denoiser.conv_in.weight.dtype == torch.bfloat16


def test_unmatched_targets_are_refused(base):
    with pytest.raises(UserError, match="model.lora.target_modules: 'to_p' matches no layer"):
        add_adapters(base, AdapterSettings(target_modules=["to_q", "to_p"]), False, 0)
    remove_adapters(base)
    with pytest.raises(UserError, match="model.lora.text_encoder_target_modules"):
        add_adapters(base, AdapterSettings(text_encoder_target_modules=["to_q"]), True, 0)


def test_settings_out_of_range_are_refused():
    for wrong in ({"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}):
        with pytest.raises(UserError, match=f"model.lora.{next(iter(wrong))}"):
            AdapterSettings(**wrong)


def test_scale_context_is_relative_and_restores_exactly(trained):
    for layer in layers(trained):
        layer.scaling["default"] = 0.1 + 0.2  # dividing and multiplying would not restore it
    before = [dict(layer.scaling) for layer in layers(trained)]
    with pytest.raises(RuntimeError), adapter_scale(trained, denoiser=0.3, text_encoder=0.7):
        with adapter_scale(trained, denoiser=0.0, text_encoder=1.0):
            scales = {layer.scaling["default"] for layer in layers(trained)}
            assert scales == {0.0, 2.0}
        assert {layer.scaling["default"] for layer in layers(trained)} == {0.3 * 2, 0.7 * 2}
        raise RuntimeError
    assert [dict(layer.scaling) for layer in layers(trained)] == before


def test_scale_zero_is_the_base(trained, tiny_base_dir):
    with adapter_scale(trained, denoiser=0.0, text_encoder=0.0):
        scaled = outputs(trained)
    assert torch.equal(scaled, outputs(load_base(str(tiny_base_dir))))


def test_diffusers_reads_the_file_back_at_the_same_strength(trained, tiny_base_dir, tmp_path):
    path = save_adapters(trained, SETTINGS, tmp_path / "lora")
    assert path == tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    assert [p.name for p in path.parent.iterdir()] == [path.name]

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base_dir, safety_checker=None)
    plain, _ = pipeline.encode_prompt("a sks dog", "cpu", 1, False)
    pipeline.load_lora_weights(path.parent)
    ranks = {m.r["default_0"] for m in pipeline.unet.modules() if isinstance(m, LoraLayer)}
    assert ranks == {4}
    with torch.no_grad():
        hidden_states, _ = pipeline.encode_prompt("a sks dog", "cpu", 1, False)
        ours = trained.encode_prompts(["a sks dog"]).hidden_states
    assert not torch.allclose(plain, ours, atol=1e-3)
    torch.testing.assert_close(hidden_states, ours)
    torch.testing.assert_close(
        unet_output(pipeline.unet, hidden_states), unet_output(trained.denoiser, ours)
    )


def test_file_is_in_diffusers_format_with_rank_and_alpha(trained, tmp_path):
    path = save_adapters(trained, SETTINGS, tmp_path)
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
    for component in ("unet", "text_encoder"):
        assert (metadata[f"{component}.r"], metadata[f"{component}.lora_alpha"]) == (4, 8.0)
    keys = set(load_file(path))
    layer = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer"
    assert {f"{layer}.down.weight", f"{layer}.up.weight"} <= keys
    attention = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1"
    assert {f"{attention}.to_q.lora_A.weight", f"{attention}.to_out.0.lora_B.weight"} <= keys


@pytest.mark.parametrize("train_text_encoder", [False, True])
def test_save_and_load_is_exact(base, tiny_base_dir, tmp_path, train_text_encoder):
    add_adapters(base, SETTINGS, train_text_encoder, seed=1)
    for tensor in adapter_state_dict(base).values():
        tensor.normal_(std=0.2, generator=torch.Generator().manual_seed(tensor.numel()))
    path = save_adapters(base, SETTINGS, tmp_path)
    other = load_base(str(tiny_base_dir))
    assert load_adapters(other, tmp_path) == load_adapters(other, path) == SETTINGS
    assert torch.equal(outputs(other), outputs(base))
    assert trainable_parameters(other) == {}
    mine, theirs = adapter_state_dict(base), adapter_state_dict(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_loading_replaces_and_removing_restores(trained, tiny_base_dir, tmp_path):
    save_adapters(trained, SETTINGS, tmp_path / "both")
    base = load_base(str(tiny_base_dir))
    plain = outputs(base)
    small = AdapterSettings(rank=2, alpha=1.0, target_modules=["to_v"])
    add_adapters(base, small, train_text_encoder=False, seed=3)
    save_adapters(base, small, tmp_path / "small")
    load_adapters(base, tmp_path / "both")
    assert torch.equal(outputs(base), outputs(trained))
    assert load_adapters(base, tmp_path / "small").rank == 2
    assert torch.equal(outputs(base), plain)  # its B is zero, and nothing remains of the other
    assert not adapter_parameters(base.text_encoders[0])
    remove_adapters(base)
    assert not layers(base)
    remove_adapters(base)


def test_files_that_do_not_fit_are_refused_and_leave_the_base_plain(trained, base, tmp_path):
    path = save_adapters(trained, SETTINGS, tmp_path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    name = next(iter(weights))
    short = {key: value for key, value in weights.items() if key != name}
    cases = {
        "1 weights are missing": short,
        "1 are unexpected": {**weights, "unet.other.lora_A.weight": torch.ones(1)},
        "is .* there": {**weights, name: weights[name][:, :-1].contiguous()},
    }
    for message, changed in cases.items():
        save_file(changed, path, metadata)
        with pytest.raises(UserError, match=message):
            load_adapters(base, path)
        assert not layers(base)
    save_file({"something.else": torch.ones(1)}, path)
    with pytest.raises(UserError, match="layout that is known"):
        load_adapters(base, path)
    assert not layers(base)
    path.write_text("junk")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_adapters(base, path)
    with pytest.raises(UserError, match="there is no LoRA file"):
        load_adapters(base, tmp_path / "absent")


def test_adapter_state_round_trip_and_strictness(trained, tiny_base_dir):
    state = {name: tensor.clone() for name, tensor in adapter_state_dict(trained).items()}
    other = load_base(str(tiny_base_dir))
    add_adapters(other, SETTINGS, train_text_encoder=True, seed=9)
    load_adapter_state_dict(other, state)
    assert torch.equal(outputs(other), outputs(trained))
    state.pop(next(iter(state)))
    with pytest.raises(UserError, match="1 weights are missing"):
        load_adapter_state_dict(other, state, "last.ckpt")


def test_mixed_files_add_up_with_their_weights(trained, tiny_base_dir, tmp_path):
    """The sum is W + scale * (w1 * s1 * B1 A1 + w2 * s2 * B2 A2), each with its rank and alpha."""
    save_adapters(trained, SETTINGS, tmp_path / "both")
    other = load_base(str(tiny_base_dir))
    small = AdapterSettings(rank=2, alpha=1.0, target_modules=["to_q", "conv1"])
    add_adapters(other, small, train_text_encoder=False, seed=3)
    for tensor in adapter_state_dict(other).values():
        tensor.normal_(std=0.3, generator=torch.Generator().manual_seed(tensor.numel()))
    save_adapters(other, small, tmp_path / "small")

    def update(base: Base, component: str, name: str, strength: float) -> torch.Tensor:
        state = adapter_state_dict(base)
        a, b = (state.get(f"{component}.{name}.lora_{x}.default.weight") for x in "AB")
        if a is None:
            return torch.tensor(0.0)
        return strength * (b.flatten(1) @ a.flatten(1)).reshape(*b.shape[:1], *a.shape[1:])

    mixed = load_base(str(tiny_base_dir))
    weights = {
        f"{c}.{n}": m.weight.clone()
        for c, module in mixed.adaptable.items()
        for n, m in module.named_modules()
        if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))
    }
    load_weighted_adapters(mixed, [(tmp_path / "both", 0.75), (tmp_path / "small", -2.0)])
    assert trainable_parameters(mixed) == {}
    seen = set()
    with adapter_scale(mixed, denoiser=0.4, text_encoder=0.6):
        for component, name, layer in adapted_layers(mixed):
            scale = 0.4 if component == "unet" else 0.6
            expected = weights[f"{component}.{name}"]
            expected = expected + scale * 0.75 * update(trained, component, name, 8 / 4)
            expected = expected + scale * -2.0 * update(other, component, name, 1 / 2)
            base_layer = layer.get_base_layer()
            if isinstance(base_layer, torch.nn.Linear):
                x = torch.randn(3, expected.shape[1], generator=torch.Generator().manual_seed(4))
                wanted = torch.nn.functional.linear(x, expected, base_layer.bias)
            else:
                x = torch.randn(2, expected.shape[1], 5, 5)
                wanted = torch.nn.functional.conv2d(
                    x, expected, base_layer.bias, base_layer.stride, base_layer.padding
                )
            torch.testing.assert_close(layer(x), wanted, atol=2e-5, rtol=1e-4)
            seen.add((component, len(layer.scaling)))
    assert seen == {("unet", 1), ("unet", 2), ("text_encoder", 1)}
    save_adapters(trained, SETTINGS, tmp_path / "both")
    load_adapters(mixed, tmp_path / "both")
    assert torch.equal(outputs(mixed), outputs(trained)), "nothing of the mixture remains"
