"""Compiled blocks and recorded passes: what they leave as it was, and when they stay out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch._dynamo.utils import counters
from training import DrawnData, Losses, fit, new_module

from dreambooth_pl.adapters import AdapterSettings, adapter_state_dict
from dreambooth_pl.bases.compilation import compile_blocks
from dreambooth_pl.bases.transfer import upload
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.module import DreamBooth
from dreambooth_pl.training.optimizers import make_optimizer

SAMPLING = SamplingSettings(num_inference_steps=2, batch_size=2, lora_scale_unet=0.4)


class GeneratesBetween(Callback):
    """Generates after the second step; notes how many graphs are compiled after each step."""

    def __init__(self) -> None:
        self.graphs: list[int] = []

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        if trainer.global_step == 2:
            list(generate(pl_module.base_model, [ImageRequest("a dog", 1)], SAMPLING))
        self.graphs.append(counters["stats"]["unique_graphs"])


@pytest.fixture()
def compiled(monkeypatch: pytest.MonkeyPatch):
    """Compile by tracing alone: making machine code would take most of a minute."""
    monkeypatch.setattr(
        "dreambooth_pl.bases.base.compile_blocks", lambda network: compile_blocks(network, "eager")
    )
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def test_compiled_blocks_train_the_same_adapters(tiny_base_dir, tmp_path, compiled) -> None:
    plain, traced = new_module(tiny_base_dir), new_module(tiny_base_dir, compile=True)
    assert list(plain.state_dict()) == list(traced.state_dict())
    first, second, between = Losses(), Losses(), GeneratesBetween()
    fit(plain, DrawnData(), tmp_path / "plain", first)
    fit(traced, DrawnData(), tmp_path / "traced", second, between)

    assert second.values == pytest.approx(first.values, rel=1e-5)
    assert between.graphs[0] > 0, "nothing was compiled"
    assert len(set(between.graphs)) == 1, "blocks were compiled again after the first step"
    weights = adapter_state_dict(plain.base_model)
    for name, value in adapter_state_dict(traced.base_model).items():
        torch.testing.assert_close(value, weights[name], rtol=1e-4, atol=1e-6, msg=name)


def can_record(module: DreamBooth, accumulate: int = 1, ranks: int = 1, device: str = "cuda"):
    trainer = SimpleNamespace(world_size=ranks, accumulate_grad_batches=accumulate)
    stand_in = SimpleNamespace(
        trainer=trainer, device=torch.device(device), settings=module.settings
    )
    return DreamBooth._can_record(stand_in)


def test_passes_are_recorded_only_where_a_recording_is_the_same(tiny_base_dir) -> None:
    module = new_module(tiny_base_dir, cuda_graph=True)
    assert can_record(module)
    assert not can_record(module, device="cpu")
    assert not can_record(module, accumulate=2)
    assert not can_record(module, ranks=2)
    assert not can_record(new_module(tiny_base_dir))
    for options in (
        {"gradient_checkpointing": True},
        {"lora": AdapterSettings(rank=4, dropout=0.1)},
        {"adapter": "oft"},
    ):
        assert not can_record(new_module(tiny_base_dir, cuda_graph=True, **options)), options


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records on a GPU alone")
def test_a_recording_trains_the_same_adapters(tiny_base_dir, tmp_path) -> None:
    weights = []
    for cuda_graph in (False, True):
        module = new_module(tiny_base_dir, cuda_graph=cuda_graph)
        fit(module, DrawnData(), tmp_path / str(cuda_graph), accelerator="gpu", devices=1)
        weights.append(adapter_state_dict(module.base_model))
    for name, value in weights[0].items():  # sums in another order: convolutions' layout
        other = weights[1][name].cpu()
        torch.testing.assert_close(value.cpu(), other, rtol=1e-4, atol=1e-6, msg=name)


def test_on_a_cpu_nothing_is_copied_and_adamw_is_not_fused() -> None:
    values = torch.ones(3)
    assert upload(values, "cpu") is values
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = make_optimizer(None, [{"params": [parameter], "lr": 0.1}])
    assert optimizer.defaults["foreach"] and not optimizer.defaults["fused"]
