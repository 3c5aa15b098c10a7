"""The training loop of the pretraining: exact resuming, learning rates and Muon."""

from __future__ import annotations

import pytest
import torch

from dreambooth_pl.miniature.pretrain import (
    muon,
    text_to_image,
    vae,
)
from dreambooth_pl.miniature.pretrain.loop import (
    Limits,
    TrainingSchedule,
    learning_rate_factor,
    train,
)

CPU = torch.device("cpu")


def test_learning_rate_warms_up_and_decays():
    plan = TrainingSchedule(steps=1100, learning_rate=1.0, warmup=100)
    assert learning_rate_factor(plan, 0) == pytest.approx(0.01)
    assert learning_rate_factor(plan, 99) == pytest.approx(1.0)
    assert learning_rate_factor(plan, 600) == pytest.approx(0.02 + 0.98 / 2)
    assert learning_rate_factor(plan, 1100) == pytest.approx(0.02)


@pytest.mark.parametrize("muon_rate", [None, 0.1])
def test_a_paused_stage_ends_like_an_uninterrupted_one(tmp_path, muon_rate):
    def model():
        torch.manual_seed(0)
        return torch.nn.Linear(3, 2)

    def run(folder, minutes_of_calls):
        folder.mkdir()
        result = None
        for minutes in minutes_of_calls:
            net = model()

            def loss(step, net=net):
                generator = torch.Generator().manual_seed(step)
                value = net(torch.randn(4, 3, generator=generator)).pow(2).mean()
                return value, {}

            plan = TrainingSchedule(6, 0.1, muon_learning_rate=muon_rate, warmup=2, ema_decay=0.5)
            limits = Limits(folder, CPU, minutes)
            result = train("toy", net, loss, plan, limits, lambda text: None)
        return result

    whole = run(tmp_path / "whole", [float("inf")])
    pieces = run(tmp_path / "pieces", [0.0, 0.0, float("inf")])
    for a, b in zip(whole.parameters(), pieces.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_diverged_stage_stops_and_keeps_its_last_good_state(tmp_path):
    def run(steps: int, wrong_at: int, minutes: float) -> None:
        net = torch.nn.Linear(3, 2)

        def loss(step):
            factor = float("nan") if step == wrong_at else 1.0
            return factor * net(torch.ones(1, 3)).sum(), {}

        limits = Limits(tmp_path, CPU, minutes)
        train("toy", net, loss, TrainingSchedule(steps, 0.1, warmup=1), limits, lambda text: None)

    with pytest.raises(SystemExit, match=r"^toy: by step 3 a weight .* --pace 0\.5$"):
        run(3, wrong_at=1, minutes=float("inf"))
    assert not (tmp_path / "toy.pt").exists()
    run(3, wrong_at=2, minutes=0.0)
    good = (tmp_path / "toy.pt").read_bytes()
    with pytest.raises(SystemExit, match=r"the last good state, .*toy\.pt$"):
        run(3, wrong_at=1, minutes=float("inf"))
    assert (tmp_path / "toy.pt").read_bytes() == good


@pytest.mark.parametrize("pace", [1.0, 0.3])
def test_a_parameter_trains_with_its_share_of_the_learning_rate(tmp_path, pace):
    net = torch.nn.Linear(3, 2)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}

    def loss(step):
        return net(torch.ones(1, 3)).sum(), {}

    plan = TrainingSchedule(
        steps=1,
        learning_rate=0.1,
        warmup=1,
        weight_decay=0.0,
        share=lambda parameter: 1.0 if parameter is net.weight else 0.25,
    )
    train("toy", net, loss, plan, Limits(tmp_path, CPU, pace=pace), lambda text: None)
    # Adam's first step is the learning rate, whatever the gradient
    assert torch.allclose(before["weight"] - net.weight, torch.full((2, 3), pace * 0.1))
    assert torch.allclose(before["bias"] - net.bias, torch.full((2,), pace * 0.025))


def test_muon_trains_convolutions_as_the_matrices_they_are(tmp_path):
    """One step is `lr` times the orthogonal factor of the gradient, by singular values."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
    target = torch.randn(8, 3, 3, 3)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}

    def loss(step):
        return (net[0].weight * target).sum() + net[0].bias.sum(), {}

    plan = TrainingSchedule(1, 0.1, muon_learning_rate=0.5, warmup=1, weight_decay=0.0)
    train("toy", net, loss, plan, Limits(tmp_path, CPU), lambda text: None)
    change = (before["0.weight"] - net[0].weight).detach().flatten(1) / 0.5
    u, _, v = torch.linalg.svd(target.flatten(1), full_matrices=False)
    _, singular, _ = torch.linalg.svd(change)
    assert singular.min() > 0.6 and singular.max() < 1.3  # Newton-Schulz stops near 1
    along = torch.diag(u.T @ change @ v.T)
    assert torch.allclose(along, singular.mean().expand(8), atol=0.35)
    # what is no matrix is AdamW's, whose first step is its learning rate
    assert torch.allclose(before["0.bias"] - net[0].bias, torch.full((8,), 0.1))


def test_muon_refuses_weights_that_a_matrix_cannot_share():
    weight = torch.nn.Parameter(
        torch.ones(4, 2, 3, 3).contiguous(memory_format=torch.channels_last)
    )
    with pytest.raises(ValueError, match="contiguous"):
        muon.ConvolutionMuon([weight], lr=0.1)


def test_muon_leaves_the_ends_of_the_networks_to_adamw():
    for model, ends in (
        (text_to_image.build(), {"conv_in", "conv_out"}),
        (
            vae.build(),
            {f"{part}.conv_{end}" for part in ("encoder", "decoder") for end in ("in", "out")}
            | {"quant_conv", "post_quant_conv"},
        ),
    ):
        left = {n for n, p in model.named_parameters() if p.ndim > 1 and not muon.hidden(n, p)}
        assert left == {f"{end}.weight" for end in ends}


def test_a_gpu_sees_larger_batches_than_a_cpu(tmp_path):
    assert Limits(tmp_path, CPU).batch(8, 64) == 8
    assert Limits(tmp_path, torch.device("cuda")).batch(8, 64) == 64
