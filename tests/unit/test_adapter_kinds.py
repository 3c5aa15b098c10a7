"""Every kind of adapter: formula, initialisation, trainable parameters, file and strength."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from dreambooth_pl.adapters import (
    AdapterSettings,
    adapted_layers,
    adapter_kind,
    adapter_scale,
    adapter_state_dict,
    add_adapters,
    check_trainable_set,
    load_adapters,
    load_weighted_adapters,
    merged_while_generating,
    merging,
    remove_adapters,
    save_adapters,
    trainable_parameters,
)
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.errors import UserError

EVERYWHERE = {"target_modules": "attention_ff_conv", "text_encoder_target_modules": "attention_ff"}
LINEAR = {"target_modules": "attention_ff", "text_encoder_target_modules": "attention_ff"}
CASES = {
    "lora": ("lora", AdapterSettings(rank=4, alpha=8.0, **EVERYWHERE)),
    "rslora": ("lora", AdapterSettings(rank=4, alpha=8.0, use_rslora=True, **EVERYWHERE)),
    "dora": ("lora", AdapterSettings(rank=4, alpha=8.0, use_dora=True, **EVERYWHERE)),
    "lokr": ("lokr", AdapterSettings(rank=2, alpha=3.0, **EVERYWHERE)),
    "loha": ("loha", AdapterSettings(rank=4, alpha=8.0, **EVERYWHERE)),
    "oft": ("oft", AdapterSettings(rank=4, **LINEAR)),
    "full": ("full", AdapterSettings()),
}
each_kind = pytest.mark.parametrize("case", CASES)
each_adapter = pytest.mark.parametrize("case", [name for name in CASES if name != "full"])


@pytest.fixture(scope="module")
def loaded(tiny_base_dir: Path) -> Base:
    return load_base(str(tiny_base_dir))


@pytest.fixture()
def base(loaded: Base) -> Iterator[Base]:
    yield loaded
    remove_adapters(loaded)


def add(base: Base, case: str, seed: int = 0) -> AdapterSettings:
    """Add adapters with random weights to denoiser and text encoder."""
    kind, settings = CASES[case]
    add_adapters(base, settings, train_text_encoder=True, seed=seed, kind=kind)
    rng = torch.Generator().manual_seed(2)
    for tensor in adapter_state_dict(base).values():
        tensor.add_(torch.randn(tensor.shape, generator=rng) * 0.1)
    return settings


@torch.no_grad()
def outputs(base: Base) -> torch.Tensor:
    conditioning = base.encode_prompts(["a sks dog"])
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    states = conditioning.hidden_states
    prediction = base.denoiser(latents, torch.tensor([500]), encoder_hidden_states=states).sample
    return torch.cat([states.flatten(), prediction.flatten()])


def adapted_weight(layer: nn.Module, kind: str, settings: AdapterSettings, scale: float):
    """Return W' of a layer by the formulas of the papers, from the adapter's tensors."""
    weight = layer.get_base_layer().weight

    def part(name: str) -> torch.Tensor:
        own = getattr(layer, name)["default"]
        return own.weight if isinstance(own, nn.Module) else own

    if kind == "lora":
        b, a = part("lora_B").flatten(1), part("lora_A").flatten(1)
        root = math.sqrt(settings.rank) if settings.use_rslora else settings.rank
        moved = weight + scale * settings.alpha / root * (b @ a).reshape(weight.shape)
        if not settings.use_dora:
            return moved
        lengths = moved.flatten(1).norm(dim=1)
        shape = (-1, *[1] * (weight.ndim - 1))
        return part("lora_magnitude_vector").reshape(shape) * moved / lengths.reshape(shape)
    strength = scale * settings.alpha / settings.rank
    if kind == "loha":
        first = part("hada_w1_a") @ part("hada_w1_b")
        second = part("hada_w2_a") @ part("hada_w2_b")
        return weight + strength * (first * second).reshape(weight.shape)
    if kind == "lokr":
        first = part("lokr_w1")
        whole = "default" in layer.lokr_w2
        second = part("lokr_w2") if whole else part("lokr_w2_a") @ part("lokr_w2_b")
        if weight.ndim == 4:
            kernel = weight.shape[2:]
            second = second.reshape(second.shape[0], -1, *kernel)
            product = torch.einsum("ac,bdhw->abcdhw", first, second)
            return weight + strength * product.reshape(weight.shape)
        return weight + strength * torch.kron(first, second)
    vectors = scale * part("oft_R")
    blocks = []
    for vector in vectors:
        skew = torch.zeros(settings.rank, settings.rank)
        skew[tuple(torch.triu_indices(settings.rank, settings.rank, 1))] = vector
        skew = skew - skew.T
        eye = torch.eye(settings.rank)
        blocks.append(torch.linalg.inv(eye + skew) @ (eye - skew))
    rotation = torch.block_diag(*blocks)
    return (weight.flatten(1) @ rotation.T).reshape(weight.shape)


@torch.no_grad()
@each_adapter
@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_layers_compute_the_formulas_of_the_papers(base, case, scale):
    kind, settings = CASES[case][0], add(base, case)
    assert adapter_kind(base) == kind
    weights = [adapted_weight(one, kind, settings, scale) for _, _, one in adapted_layers(base)]
    seen = set()
    with adapter_scale(base, denoiser=scale, text_encoder=scale):
        for (component, name, layer), weight in zip(adapted_layers(base), weights, strict=True):
            inner = layer.get_base_layer()
            rng = torch.Generator().manual_seed(4)
            if isinstance(inner, nn.Linear):
                x = torch.randn(3, weight.shape[1], generator=rng)
                wanted = nn.functional.linear(x, weight, inner.bias)
            else:
                x = torch.randn(2, weight.shape[1], 6, 6, generator=rng)
                wanted = nn.functional.conv2d(x, weight, inner.bias, inner.stride, inner.padding)
            torch.testing.assert_close(
                layer(x), wanted, atol=2e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )
            seen.add((component, type(inner)))
    convolved = {("unet", nn.Conv2d)}
    assert seen == {("unet", nn.Linear), ("text_encoder", nn.Linear)} | convolved


@torch.no_grad()
@each_kind
@pytest.mark.parametrize("scale", [1.0, 0.4, 0.0])
def test_merging_keeps_the_function(base, case, scale):
    kind, settings = CASES[case][0], add(base, case)
    layers = [layer for _, _, layer in adapted_layers(base)]
    before = [(w, w.data_ptr(), w.clone()) for w in base.denoiser.parameters()]
    with adapter_scale(base, denoiser=scale, text_encoder=scale):
        beside = outputs(base)
        wanted = [adapted_weight(layer, kind, settings, scale) for layer in layers]
        with merged_while_generating(base):
            merged = outputs(base)
            if scale and case in ("lora", "rslora", "lokr", "loha"):
                for layer, weight in zip(layers, wanted, strict=True):
                    assert layer.disable_adapters
                    torch.testing.assert_close(layer.get_base_layer().weight, weight)
        assert torch.equal(outputs(base), beside)
    torch.testing.assert_close(merged, beside, atol=2e-4, rtol=1e-3)
    for weight, place, value in before:
        assert weight.data_ptr() == place and torch.equal(weight, value)


@torch.no_grad()
def test_adapters_of_half_precision_weights_are_not_merged(tiny_base_dir):
    base = load_base(BaseSpec(str(tiny_base_dir), frozen_dtype="bfloat16"))
    add(base, "lora")
    layers = [layer for _, _, layer in adapted_layers(base)]
    weights = [layer.get_base_layer().weight.clone() for layer in layers]
    with merged_while_generating(base):
        for layer, weight in zip(layers, weights, strict=True):
            assert not layer.disable_adapters
            assert torch.equal(layer.get_base_layer().weight, weight)


@torch.no_grad()
def test_large_weights_are_not_merged(base, monkeypatch):
    add(base, "lora")
    layers = [layer for _, _, layer in adapted_layers(base)]
    size = sum(4 * layer.get_base_layer().weight.numel() for layer in layers)
    for most, merged in ((size, True), (size - 1, False)):
        monkeypatch.setattr(merging, "MOST_BYTES", most)
        with merged_while_generating(base):
            assert all(layer.disable_adapters == merged for layer in layers)


@each_kind
def test_initial_adapters_change_nothing_and_depend_on_the_seed(base, case):
    kind, settings = CASES[case]
    plain = outputs(base)
    states = []
    for global_seed, seed in ((0, 7), (1, 7), (0, 8)):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        add_adapters(base, settings, train_text_encoder=True, seed=seed, kind=kind)
        assert torch.equal(torch.get_rng_state(), before)
        torch.testing.assert_close(outputs(base), plain, atol=1e-5, rtol=1e-5)
        states.append({name: t.clone() for name, t in adapter_state_dict(base).items()})
        remove_adapters(base)
    assert torch.equal(outputs(base), plain)
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    if kind not in ("oft", "full"):  # oft starts at the identity, and full at the untuned weights
        varied = [name for name in first if not torch.equal(first[name], other[name])]
        assert len(varied) >= len(list(first)) / 3


@each_kind
def test_trainable_set(base, case):
    kind, settings = CASES[case]
    add_adapters(base, settings, train_text_encoder=True, seed=0, kind=kind)
    count = check_trainable_set(base, settings, True, kind)
    assert count == sum(t.numel() for t in adapter_state_dict(base).values())
    with pytest.raises(RuntimeError, match="not name"):
        check_trainable_set(base, settings, False, kind)
    first = next(iter(trainable_parameters(base)["unet"].values()))
    first.requires_grad_(False)
    with pytest.raises(RuntimeError, match="do not train"):
        check_trainable_set(base, settings, True, kind)
    first.requires_grad_(True)
    loss = outputs.__wrapped__(base).square().mean()
    loss.backward()
    got = [p.grad is not None for c in trainable_parameters(base).values() for p in c.values()]
    assert all(got)
    for parameter in base.denoiser.parameters():
        parameter.grad = None
    for parameter in base.text_encoders[0].parameters():
        parameter.grad = None


@each_kind
def test_file_round_trip_is_exact(base, case, tmp_path):
    plain = outputs(base)
    settings = add(base, case)
    tuned = outputs(base)
    assert (tuned - plain).abs().max() > 1e-3
    with adapter_scale(base, denoiser=0.4, text_encoder=0.4):
        halfway = outputs(base)
    path = save_adapters(base, settings, tmp_path)
    state = {name: tensor.clone() for name, tensor in adapter_state_dict(base).items()}
    remove_adapters(base)
    assert torch.equal(outputs(base), plain)
    load_adapters(base, path)
    assert trainable_parameters(base) == {}
    assert torch.equal(outputs(base), tuned)
    again = adapter_state_dict(base)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)
    with adapter_scale(base, denoiser=0.4, text_encoder=0.4):
        assert torch.equal(outputs(base), halfway)
    for weight in [] if case == "oft" else [0.5]:
        load_weighted_adapters(base, [(path, weight)])
        with adapter_scale(base, denoiser=2.0, text_encoder=2.0):
            torch.testing.assert_close(outputs(base), tuned, atol=1e-4, rtol=1e-4)


@each_kind
def test_scale_zero_is_the_base_and_contexts_nest(base, case):
    plain = outputs(base)
    add(base, case)
    tuned = outputs(base)
    with adapter_scale(base, denoiser=0.0, text_encoder=0.0):
        assert torch.equal(outputs(base), plain)
        with adapter_scale(base, denoiser=1.0, text_encoder=1.0):
            torch.testing.assert_close(outputs(base), tuned, atol=1e-6, rtol=1e-6)
        assert torch.equal(outputs(base), plain)
    assert torch.equal(outputs(base), tuned)


def test_full_interpolates_between_untuned_and_tuned_weights(base):
    before = base.denoiser.conv_in.weight.detach().clone()
    add(base, "full")
    after = base.denoiser.conv_in.weight.detach().clone()
    assert not torch.equal(before, after)
    with adapter_scale(base, denoiser=0.25, text_encoder=1.0):
        now = base.denoiser.conv_in.weight.detach()
        torch.testing.assert_close(now, before + 0.25 * (after - before))
    assert torch.equal(base.denoiser.conv_in.weight, after)


def test_full_on_half_precision_trains_in_float32_and_goes_back(tiny_base_dir):
    base = load_base(str(tiny_base_dir))
    base.denoiser.to(torch.float16)
    before = base.denoiser.conv_in.weight.clone()
    add_adapters(base, AdapterSettings(), train_text_encoder=False, seed=0, kind="full")
    check_trainable_set(base, AdapterSettings(), False, "full")
    assert base.denoiser.conv_in.weight.dtype == torch.float32
    remove_adapters(base)
    assert base.denoiser.conv_in.weight.dtype == torch.float16
    assert torch.equal(base.denoiser.conv_in.weight, before)
    assert not base.denoiser.conv_in.weight.requires_grad


def test_full_file_holds_only_the_tuned_networks(base, tmp_path):
    add_adapters(base, AdapterSettings(), train_text_encoder=False, seed=0, kind="full")
    path = save_adapters(base, AdapterSettings(), tmp_path)
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
    assert keys == {f"unet.{name}" for name, _ in base.denoiser.named_parameters()}


def test_two_full_tunings_add_up(base, tmp_path):
    before = base.denoiser.conv_in.weight.detach().clone()
    changes = []
    for number in (1, 2):
        add_adapters(base, AdapterSettings(), train_text_encoder=False, seed=0, kind="full")
        for parameter in base.denoiser.parameters():
            parameter.data.add_(torch.randn(parameter.shape) * 0.1)
        changes.append(base.denoiser.conv_in.weight.detach() - before)
        save_adapters(base, AdapterSettings(), tmp_path / str(number))
        remove_adapters(base)
    load_weighted_adapters(base, [(tmp_path / "1", 0.5), (tmp_path / "2", -1.0)])
    wanted = before + 0.5 * changes[0] - changes[1]
    torch.testing.assert_close(base.denoiser.conv_in.weight.detach(), wanted)


def test_kinds_do_not_mix(base, tmp_path):
    paths = []
    for case in ("loha", "oft"):
        paths.append(save_adapters(base, add(base, case), tmp_path / case))
        remove_adapters(base)
    with pytest.raises(UserError, match="different kinds"):
        load_weighted_adapters(base, [(path, 1.0) for path in paths])
    for files in ([(paths[1], 0.5)], [(paths[1], 1.0)] * 2):
        with pytest.raises(UserError, match="rotations"):
            load_weighted_adapters(base, files)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("loha", {"use_dora": True}, "use_dora belongs to model.adapter lora"),
        ("full", {"use_rslora": True}, "use_rslora belongs to model.adapter lora"),
        ("oft", {"target_modules": "attention_ff_conv", "rank": 4}, "which oft cannot adapt"),
        ("oft", {"rank": 5}, "must divide the width"),
        ("lora", {"target_modules": "attentoin"}, "attention, attention_ff, attention_ff_conv"),
        ("lora", {"target_modules": "(to_q"}, "is no regular expression"),
    ],
)
def test_unsupported_settings_are_refused(base, kind, settings, message):
    with pytest.raises(UserError, match=message):
        add_adapters(base, AdapterSettings(**settings), False, 0, kind)


def test_regular_expression_matches_whole_names(base):
    settings = AdapterSettings(target_modules=r"mid_block\..*\.attn[12]\.to_[qv]")
    add_adapters(base, settings, train_text_encoder=False, seed=0)
    names = {name for _, name, _ in adapted_layers(base)}
    expected = {
        f"mid_block.attentions.0.transformer_blocks.0.attn{n}.to_{x}" for n in (1, 2) for x in "qv"
    }
    assert names == expected
    check_trainable_set(base, settings, False)
