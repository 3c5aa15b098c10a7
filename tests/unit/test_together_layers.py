"""Adapters of several runs in one batch compute what each run's own adapters compute."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dreambooth_pl.adapters import AdapterSettings, add_adapters, trainable_parameters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base, shared_weights
from dreambooth_pl.training.together.base import together
from dreambooth_pl.training.together.parameters import StackedParameters

RUNS, SAMPLES = 3, 2
PROMPTS = [f"a {word} dog" for word in "abcdef"]


def with_adapters(folder, number: int, **settings) -> Base:
    base = load_base(str(folder))
    lora = AdapterSettings(rank=4, alpha=2.0 + number, **settings)
    add_adapters(base, lora, train_text_encoder=True, seed=number)
    rng = torch.Generator().manual_seed(number)
    for parameters in trainable_parameters(base).values():
        for parameter in parameters.values():
            parameter.data.normal_(std=0.2, generator=rng)
    return base


def adamw(base: Base, rate: float = 0.01, decay: float = 0.1) -> torch.optim.AdamW:
    groups = [
        {"name": name, "params": list(parameters.values()), "lr": rate / (1 + len(name))}
        for name, parameters in trainable_parameters(base).items()
    ]
    # with a larger eps, rounding of gradients near zero is not blown up to whole steps
    return torch.optim.AdamW(groups, weight_decay=decay, eps=1e-2)


def make(folder, shared: bool, **settings) -> tuple[list[Base], list[torch.optim.AdamW]]:
    if shared:
        with shared_weights():
            bases = [with_adapters(folder, number, **settings) for number in range(RUNS)]
    else:
        bases = [with_adapters(folder, number, **settings) for number in range(RUNS)]
    return bases, [adamw(base, 0.01 + 0.02 * n, 0.1 * n) for n, base in enumerate(bases)]


def loss(base: Base, rows: slice, seed: int = 0) -> torch.Tensor:
    """Each sample's error, through text encoder and denoiser."""
    rng = torch.Generator().manual_seed(seed)
    noisy, target = torch.randn(2, RUNS * SAMPLES, 4, 16, 16, generator=rng)
    prompts = base.encode_prompts(PROMPTS[rows])
    timesteps = torch.arange(0, 900, 150)[rows]
    prediction = base.predict(noisy[rows], timesteps, prompts)
    return (prediction - target[rows]).square().flatten(1).mean(1)


def gradients(base: Base) -> dict[str, torch.Tensor]:
    return {
        f"{component}.{name}": parameter.grad
        for component, parameters in trainable_parameters(base).items()
        for name, parameter in parameters.items()
    }


def values(base: Base) -> dict[str, torch.Tensor]:
    return {
        f"{component}.{name}": parameter.detach()
        for component, parameters in trainable_parameters(base).items()
        for name, parameter in parameters.items()
    }


def assert_close(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=2e-4, atol=2e-6, msg=name)


TARGETS = {"target_modules": "attention_ff_conv", "text_encoder_target_modules": "attention_ff"}


def test_losses_gradients_and_steps_are_those_of_single_runs(tiny_base_dir) -> None:
    alone, own_optimizers = make(tiny_base_dir, shared=False, **TARGETS)
    bases, optimizers = make(tiny_base_dir, shared=True, **TARGETS)
    parameters = StackedParameters(bases, optimizers)
    joint = together(bases, parameters, slice(0, RUNS))
    largest = torch.tensor([0.01, 1.0, torch.inf])
    for step in range(3):
        losses = loss(joint, slice(0, RUNS * SAMPLES), step)
        losses.view(RUNS, SAMPLES).mean(1).sum().backward()
        norms = parameters.norms()
        for number, (base, optimizer) in enumerate(zip(alone, own_optimizers, strict=True)):
            rows = slice(number * SAMPLES, (number + 1) * SAMPLES)
            own = loss(base, rows, step)
            torch.testing.assert_close(losses[rows], own, rtol=1e-4, atol=1e-5)
            own.mean().backward()
            assert_close(gradients(bases[number]), gradients(base))
            norm = torch.nn.utils.clip_grad_norm_(values_of(base), largest[number].item())
            torch.testing.assert_close(norms[number], norm, rtol=1e-4, atol=1e-6)
            optimizer.step()
            optimizer.zero_grad()
        parameters.clip(norms, largest)
        parameters.step()
        for mine, theirs in zip(bases, alone, strict=True):
            assert_close(values(mine), values(theirs))
    for mine, theirs in zip(optimizers, own_optimizers, strict=True):
        same_state(mine, theirs)


def values_of(base: Base) -> Sequence[torch.nn.Parameter]:
    return [p for parameters in trainable_parameters(base).values() for p in parameters.values()]


def same_state(mine: torch.optim.Optimizer, theirs: torch.optim.Optimizer) -> None:
    one, other = mine.state_dict(), theirs.state_dict()
    assert one["state"].keys() == other["state"].keys()
    counts = []
    for key, state in one["state"].items():
        torch.testing.assert_close(state, other["state"][key], rtol=1e-3, atol=1e-6)
        counts.append(state["step"].data_ptr())
    assert len(set(counts)) == len(counts), "each parameter counts its own steps"


def test_a_run_is_taken_out_and_goes_on_alone(tiny_base_dir) -> None:
    bases, optimizers = make(tiny_base_dir, shared=True)
    alone, own_optimizers = make(tiny_base_dir, shared=False)
    parameters = StackedParameters(bases, optimizers)
    joint = together(bases, parameters, slice(0, RUNS))
    loss(joint, slice(0, RUNS * SAMPLES)).sum().backward()
    parameters.step()
    parameters.release()
    left = parameters.values.clone()
    kept = StackedParameters(bases[1:], optimizers[1:])
    joint = together(bases[1:], kept, slice(0, RUNS - 1))
    loss(joint, slice(SAMPLES, RUNS * SAMPLES), 1).sum().backward()
    kept.step()
    loss(bases[0], slice(0, SAMPLES), 1).sum().backward()
    optimizers[0].step()
    assert torch.equal(parameters.values, left), "nothing looks at the old matrix any more"
    for number, (base, optimizer) in enumerate(zip(alone, own_optimizers, strict=True)):
        for step in range(2):
            rows = slice(number * SAMPLES, (number + 1) * SAMPLES)
            loss(base, rows, step).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert_close(values(bases[number]), values(base))
        same_state(optimizers[number], optimizer)


def test_parts_of_the_runs_give_the_gradients_of_all(tiny_base_dir) -> None:
    bases, optimizers = make(tiny_base_dir, shared=True)
    parameters = StackedParameters(bases, optimizers)
    loss(together(bases, parameters, slice(0, RUNS)), slice(0, RUNS * SAMPLES)).sum().backward()
    whole = parameters.gradients.clone()
    assert (whole != 0).any(1).all()
    parameters.gradients.zero_()
    for rows in (slice(0, 2), slice(2, 3)):
        joint = together(bases, parameters, rows)
        loss(joint, slice(rows.start * SAMPLES, rows.stop * SAMPLES)).sum().backward()
    torch.testing.assert_close(parameters.gradients, whole, rtol=1e-4, atol=1e-6)


def test_frozen_weights_are_in_memory_once(tiny_base_dir) -> None:
    bases, optimizers = make(tiny_base_dir, shared=True)
    joint = together(bases, StackedParameters(bases, optimizers), slice(0, RUNS))

    def frozen(base: Base) -> set[int]:
        modules = base.modules.values()
        return {p.data_ptr() for m in modules for p in m.parameters() if not p.requires_grad}

    assert len({frozenset(frozen(base)) for base in (*bases, joint)}) == 1
    assert frozen(load_base(str(tiny_base_dir))).isdisjoint(frozen(joint))
