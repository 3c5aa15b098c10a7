"""The recipes of ARCHITECTURE.md, followed from outside the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from peft import HRAConfig
from peft.tuners.hra.layer import HRALayer
from torch import Tensor, nn

from dreambooth_pl.adapters import (
    ADAPTER_NAME,
    AdapterSettings,
    adapted_layers,
    adapter_parameters,
    adapter_state_dict,
    add_adapters,
    check_trainable_set,
    load_adapters,
    save_adapters,
)
from dreambooth_pl.adapters.kinds import KINDS, Kind
from dreambooth_pl.bases.families import FAMILIES
from dreambooth_pl.bases.families.stable_diffusion import StableDiffusion
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.objectives import EpsilonPrediction
from dreambooth_pl.benchmark.executors.call import ROOT, ScriptCall, Watch
from dreambooth_pl.benchmark.jobs import expand
from dreambooth_pl.benchmark.spec import read_benchmark
from dreambooth_pl.benchmark.training import train
from dreambooth_pl.commands import train as cli
from dreambooth_pl.commands import train_keys
from dreambooth_pl.commands.export import main as export
from dreambooth_pl.export.format import ExportFormat
from dreambooth_pl.export.formats import FORMATS
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.settings import ModelSettings

TEXT = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "what",
    ["metric", "protocol", "probe prompt", "base family", "adapter kind", "executor"]
    + ["export format", "option of training"],
)
def test_there_is_a_recipe(what: str) -> None:
    assert f"\n### {what}\n" in TEXT.split("## To add a …")[1]


class Halved(EpsilonPrediction):
    """An objective of another kind: half of the noise is predicted."""

    prediction = "half"

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return noise / 2


class Toy(StableDiffusion):
    """A family of its own: another pipeline, and prompts that are encoded otherwise."""

    name = "toy"
    title = "Toy"
    pipeline_class = "StableDiffusionImg2ImgPipeline"
    target_presets = {"attention": ["to_q"]}
    export_formats = ("diffusers",)

    def encode(self, text_encoders: Sequence[nn.Module], inputs):
        encoded = super().encode(text_encoders, inputs)
        return encoded.with_added({}).zeroed(torch.zeros(len(encoded.hidden_states)))


def test_base_family(tiny_base_dir: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "toy"
    parts = StableDiffusionPipeline.from_pretrained(tiny_base_dir, safety_checker=None).components
    StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False).save_pretrained(folder)
    monkeypatch.setitem(FAMILIES, Toy.pipeline_class, Toy())
    base = load_base(str(folder))
    assert (base.family, base.rules.title) == ("toy", "Toy")
    add_adapters(base, AdapterSettings(rank=2, target_modules="attention"), False, seed=0)
    count = check_trainable_set(base, AdapterSettings(rank=2, target_modules="attention"), False)
    layers = [layer for name, layer in base.denoiser.named_modules() if name.endswith("to_q")]
    assert count == sum(2 * (own.in_features + own.out_features) for own in layers)


def test_objective(tiny_base_dir: Path) -> None:
    base = load_base(str(tiny_base_dir))
    objective = Halved(base.scheduler_config)
    noise = torch.ones(1, 4, 8, 8)
    assert objective.target(noise, noise, torch.tensor([0])).unique().item() == 0.5
    base.objective = objective
    settings = SamplingSettings(num_inference_steps=1, batch_size=1)
    assert len(list(generate(base, [ImageRequest("a dog", 0)], settings))) == 1


@dataclass(frozen=True)
class MoreSettings(ModelSettings):
    """Settings of a model with one more option."""

    sharpness: float = 0.25
    """how sharp the loss is; 0 for not at all."""


class MoreDreamBooth(cli.DreamBooth):
    """Trains as ever, with one more option."""

    def __init__(self, **settings) -> None:
        self.more = MoreSettings(**settings)
        settings.pop("sharpness")
        super().__init__(**settings)


def test_option_of_training(monkeypatch, capsys) -> None:
    assert MoreSettings().contract()["sharpness"] == 0.25
    assert "sharpness" not in ModelSettings().contract()
    monkeypatch.setattr(train_keys, "DreamBooth", MoreDreamBooth)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit):
        cli.main(["fit", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--model.sharpness SHARPNESS how sharp the loss is; 0 for not at all." in shown


class NamesOnly(ExportFormat):
    """Writes the names of what is adapted, one per line."""

    title = "as people read it"

    def write(self, base, settings, folder, origin, options):
        names = sorted(name for _, name, _ in adapted_layers(base))
        (folder / "layers.txt").write_text("\n".join(names))
        return ["layers.txt"]

    def usage(self, base, origin, options):
        return "Read layers.txt.", ""


def test_export_format(tiny_base_dir: Path, tmp_path: Path, monkeypatch) -> None:
    base = load_base(str(tiny_base_dir))
    settings = AdapterSettings(rank=2)
    add_adapters(base, settings, False, seed=0)
    save_adapters(base, settings, tmp_path)
    monkeypatch.setitem(FORMATS, "names", NamesOnly())
    kind = KINDS["lora"]
    monkeypatch.setitem(KINDS, "lora", replace(kind, formats=(*kind.formats, "names")))
    formats = (*StableDiffusion.export_formats, "names")
    monkeypatch.setattr(StableDiffusion, "export_formats", formats)
    words = [str(tmp_path), "--format=names", f"--base={tiny_base_dir}"]
    assert export([*words, f"--out={tmp_path / 'out'}"]) == 0
    names = [name for _, name, _ in adapted_layers(base)]
    assert (tmp_path / "out/layers.txt").read_text().split() == sorted(names)
    card = (tmp_path / "out/README.md").read_text()
    assert "as people read it" in card and "Read layers.txt." in card


def test_adapter_kind(tiny_base_dir: Path, tmp_path: Path, monkeypatch) -> None:
    """PEFT's Householder adapters (arXiv 2405.17484) become a kind that trains and is saved."""
    kind = Kind(
        HRAConfig,
        HRALayer,
        ("hra_u",),
        ("peft",),
        {"rank": "r"},
        {},
        lambda settings, has: [f"hra_u.{ADAPTER_NAME}"],
    )
    monkeypatch.setitem(KINDS, "hra", kind)
    base, settings = load_base(str(tiny_base_dir)), AdapterSettings(rank=2)
    add_adapters(base, settings, False, seed=0, kind="hra")
    count = check_trainable_set(base, settings, False, "hra")
    assert count == sum(
        2 * layer.get_base_layer().in_features for *_, layer in adapted_layers(base)
    )
    for parameter in adapter_parameters(base.denoiser).values():
        parameter.data.normal_(generator=torch.Generator().manual_seed(0))
    path = save_adapters(base, settings, tmp_path)
    again = load_base(str(tiny_base_dir))
    load_adapters(again, path)
    before, after = adapter_state_dict(base), adapter_state_dict(again)
    assert all(torch.equal(before[name], after[name]) for name in before) and before


class Backwards:
    """An executor that takes the script calls one by one, the last one first, and fails each."""

    slots = 1

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(
        self, tasks: Sequence[ScriptCall], watch: Watch
    ) -> Iterator[tuple[ScriptCall, int]]:
        for task in reversed(tasks):
            self.calls.append(task.name)
            watch.started(task)
            yield task, 3


def test_executor(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text("configs: [configs/sks.yaml]\nseeds: [1, 2]\nvariants: [{name: plain}]\n")
    monkeypatch.chdir(ROOT)
    jobs = expand(read_benchmark(path), tmp_path / "out")
    executor = Backwards()
    complete, failures = train(jobs, executor, ProgressReporter())
    assert executor.calls == [job.name for job in reversed(jobs)] and len(executor.calls) == 2
    assert not complete and [f.status for f in failures] == [3, 3]
