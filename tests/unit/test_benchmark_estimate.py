"""What a benchmark will take, worked out by hand, and what its jobs read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dreambooth_pl.benchmark.estimate import estimate, note_time, step_times
from dreambooth_pl.benchmark.inputs import common_inputs
from dreambooth_pl.benchmark.jobs import expand
from dreambooth_pl.benchmark.spec import read_benchmark
from dreambooth_pl.benchmark.status import State


@pytest.fixture()
def benchmark_and_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("photos/rex", "base/clip", "data/class_images/dog-1", "data/class_images/cat-1"):
        Path(folder).mkdir(parents=True)
    Path("prompts.yaml").write_text("name: p\nprompts: {a: ['a {class}']}\n")
    Path("one.yaml").write_text("model: {base: base}\nfidelity: {clip: local-dir:base/clip}\n")
    content = {
        "protocol": "prompts.yaml",
        "configs": ["one.yaml"],
        "set": {"trainer.max_steps": 1000, "data.mask_dir": str(tmp_path / "photos")},
        "seeds": [1, 2],
        "subjects": [{"name": "rex", "photos": "photos/rex", "class_noun": "dog"}],
        "variants": [{"name": "slow"}, {"name": "quick", "set": {"trainer.max_steps": 500}}],
    }
    Path("grid.yaml").write_text(yaml.safe_dump(content))
    found = read_benchmark(Path("grid.yaml"))
    return found, expand(found, Path("out"))


def test_time_and_cost_by_hand(benchmark_and_jobs) -> None:
    _, jobs = benchmark_and_jobs
    assert "no step time is measured" in estimate(jobs, step_times(jobs), slots=1)[1]
    for job in jobs:
        job.folder.mkdir(parents=True)
    note_time(jobs[0], State("log", "done", step=1000, steps=1000, seconds=4000.0))
    note_time(jobs[1], State("log", "done", step=1000, steps=1000, first=600, seconds=800.0))
    note_time(jobs[2], State("log", "done", step=500, steps=500, seconds=500.0))
    assert step_times(jobs) == {"slow": [4.0, 2.0], "quick": [1.0]}
    run = jobs[0].folder / "lightning_logs/one/version_0"
    (run / "lora").mkdir(parents=True)
    (run / "lora/pytorch_lora_weights.safetensors").touch()
    (run / "config.yaml").touch()  # complete
    first, second, third = estimate(jobs, step_times(jobs), slots=2, price=3.0)
    assert first == "estimate: 3 of 4 jobs are left, 2,000 steps"
    # 1000 steps at 3 s and 2 x 500 at 1 s; with two slots the long job decides
    assert "1.1 hours of one slot for training; 50:00 with 2 at a time" in second
    assert third == "cost at 3 an hour of one slot: 3.33"


def test_what_all_jobs_read(benchmark_and_jobs) -> None:
    found = {str(path) for path in common_inputs(*benchmark_and_jobs)}
    assert found == {
        "one.yaml",
        "base",
        "base/clip",
        "photos/rex",
        "data/class_images/dog-1",
        "prompts.yaml",
    }
