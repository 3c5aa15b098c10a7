"""What the ranks of a run do together equals what one process does alone."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import Callback
from ranks import on_ranks
from training import fit, new_module

from dreambooth_pl.adapters import trainable_parameters
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.sampling import generation, shared
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings

TIMEOUT = timedelta(seconds=2)
REQUESTS = [ImageRequest("a dog", seed) for seed in range(5)]
SAMPLING = SamplingSettings(num_inference_steps=2, batch_size=2)
SAMPLES = 4
"""Of an optimiser step, however many ranks and micro-batches share them."""
STEPS = 3


def images(base_dir: Path) -> tuple[list[bytes] | None, bool]:
    """Generate for longer than the process group waits; then tell whether it would have waited."""
    base = load_base(str(base_dir))
    seen = []

    def lead() -> list[bytes]:
        time.sleep(2 * TIMEOUT.seconds)
        generated = shared.generate_together(
            base, REQUESTS, SAMPLING, lambda *done: seen.append(done)
        )
        return [image.tobytes() for image in generated]

    found = shared.work_together(base, lead)
    assert seen == ([(4, 5), (5, 5)] if dist.get_rank() == 0 else [])
    if dist.get_rank() == 0:
        time.sleep(2 * TIMEOUT.seconds)
        return found, False
    try:
        dist.barrier()
    except RuntimeError:
        return found, True
    return found, False


def test_generating_may_take_longer_than_the_process_group_waits(tiny_base_dir) -> None:
    (found, _), (told, gave_up) = on_ranks(2, images, tiny_base_dir, timeout=TIMEOUT)
    assert gave_up, "the timeout is no timeout"
    alone = generation.generate(load_base(str(tiny_base_dir)), REQUESTS, SAMPLING)
    assert found == told == [image.tobytes() for image in alone]


class Logged(Callback):
    """What is logged of the loss at each optimiser step."""

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, float]] = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == len(self.steps):
            return  # gradients are being accumulated
        losses = {k: v.item() for k, v in trainer.callback_metrics.items() if "loss" in k}
        self.steps[trainer.global_step] = losses


def train(
    base_dir: Path, photos: Path, folder: Path, devices: int = 1, nodes: int = 1, micro: int = 1
) -> tuple[dict[int, dict[str, float]], dict[str, torch.Tensor]]:
    """Train UNet and text encoders; return the logged losses and the trained weights."""
    batch_size = SAMPLES // (devices * nodes * micro)
    data = DreamBoothDataModule(instance_dir=str(photos), resolution=32, batch_size=batch_size)
    data.set_class_images(sorted(photos.iterdir())[:3])
    module = new_module(base_dir, train_text_encoder=True, optimizer=sgd, prior_loss_weight=0.5)
    logged = Logged()
    fit(
        module,
        data,
        folder,
        logged,
        steps=STEPS,
        devices=devices,
        num_nodes=nodes,
        accumulate_grad_batches=micro,
        use_distributed_sampler=False,
        strategy="auto" if devices == 1 else "ddp",
    )
    weights = trainable_parameters(module.base_model)
    return logged.steps, {
        f"{component}.{name}": value.detach().numpy()
        for component, parameters in weights.items()
        for name, value in parameters.items()
    }


def sgd(groups):
    """Whose steps are in proportion to the gradient, as AdamW's are not."""
    return torch.optim.SGD([{**group, "lr": 0.5} for group in groups])


@pytest.fixture(scope="module", params=["tiny_base_dir", "tiny_xl_base_dir"])
def family(request, tmp_path_factory, write_photos):
    base_dir = request.getfixturevalue(request.param)
    photos = write_photos(tmp_path_factory.mktemp("ranks") / "photos")
    return base_dir, photos, train(base_dir, photos, photos.parent)


@pytest.mark.parametrize(("ranks", "nodes", "micro"), [(2, 1, 2), (4, 2, 1)])
def test_several_ranks_learn_what_one_learns(family, tmp_path, ranks, nodes, micro) -> None:
    """Batch 4 in one process, 1 x 2 micro-batches on 2 ranks, 1 on 4 ranks of two machines."""
    base_dir, photos, (losses, weights) = family
    found = on_ranks(
        ranks, train, base_dir, photos, tmp_path, ranks // nodes, nodes, micro, nodes=nodes
    )
    before = trainable_parameters(new_module(base_dir, train_text_encoder=True).base_model)
    moved = {
        f"{component}.{name}"
        for component, parameters in before.items()
        for name, value in parameters.items()
        if (value.detach().numpy() != weights[f"{component}.{name}"]).any()
    }
    assert {name.split(".")[0] for name in moved} == set(before)
    assert set(losses) == set(range(1, STEPS + 1))
    for their_losses, their_weights in found:
        for step, of_step in losses.items():
            assert their_losses[step] == pytest.approx(of_step, rel=1e-5)
        for name, weight in weights.items():
            assert their_weights[name] == pytest.approx(weight, rel=1e-4, abs=1e-6), name
