"""`train_together.py`: runs side by side leave what single runs leave, and end one by one."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from dreambooth_pl.commands import benchmark
from dreambooth_pl.commands import train as cli
from dreambooth_pl.commands.together import train as train_together
from dreambooth_pl.training.callbacks.progress import TrainingProgress

RUNS: dict[str, dict[str, Any]] = {
    "one": {"seed_everything": 1, "model__learning_rate": 0.001},
    "two": {"seed_everything": 2, "data__identifier": "hta", "model__min_snr_gamma": 2.0},
}
SHARED = {
    "model__train_text_encoder": True,
    "trainer__max_steps": 4,
    "probe__every_n_steps": 4,
    "validation__prompts": "null",
    "data__num_class_images": 1,
    "sampling__num_inference_steps": 1,
}


def words(fit, name: str, root: str, **more: Any) -> list[str]:
    keys = SHARED | RUNS.get(name, {}) | more
    return fit.arguments(**keys, trainer__default_root_dir=fit.cwd / root / name)


def together(fit, root: str, **more: dict[str, Any]) -> tuple[int, list[int]]:
    """Train the runs side by side; return the exit status and each run's."""
    (fit.cwd / root).mkdir(exist_ok=True)
    runs = [
        {"arguments": words(fit, name, root, **own), "log": str(fit.cwd / root / f"{name}.txt")}
        for name, own in ({name: {} for name in RUNS} | more).items()
    ]
    path = fit.cwd / f"{root}.json"
    path.write_text(json.dumps({"runs": runs}))
    status = train_together.main([str(path)])
    return status, json.loads(path.with_suffix(".ended.json").read_text())["statuses"]


def folder(fit, root: str, name: str) -> Path:
    return fit.cwd / root / name / "lightning_logs/default/version_0"


def curves(path: Path) -> dict[tuple[str, str], float]:
    with path.open(newline="") as file:
        return {
            (row["step"], name): float(value)
            for row in csv.DictReader(file)
            for name, value in row.items()
            if value and name != "step"
        }


def adapters(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "lora/pytorch_lora_weights.safetensors")


def assert_same_adapters(run: Path, other: Path) -> None:
    mine, theirs = adapters(run), adapters(other)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=2e-5, msg=name)


def files(run: Path) -> set[str]:
    paths = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    return {"events" if "tfevents" in path else path for path in paths}


def test_runs_side_by_side_leave_what_single_runs_leave(fit, tmp_path) -> None:
    empty = tmp_path / "no photos"
    empty.mkdir()
    failing = {"bad": {"data__instance_dir": empty}, "dora": {"model__lora__use_dora": True}}
    status, statuses = together(fit, "group", **failing)
    assert (status, statuses) == (1, [0, 0, 1, 1])
    assert "error: data.instance_dir" in (fit.cwd / "group/bad.txt").read_text()
    assert "model.lora.use_dora is True" in (fit.cwd / "group/dora.txt").read_text()
    assert not (fit.cwd / "group/bad/lightning_logs").exists()
    for name in RUNS:
        assert cli.main(words(fit, name, "alone")) == 0
        run, other = folder(fit, "group", name), folder(fit, "alone", name)
        log = (fit.cwd / f"group/{name}.txt").read_text()
        assert "training 4/4" in log and f"Run:    {run}" in log
        assert files(run) == files(other)
        assert_same_adapters(run, other)
        mine, theirs = curves(run / "metrics.csv"), curves(other / "metrics.csv")
        assert mine == pytest.approx(theirs, rel=2e-3, abs=2e-3)
        config, expected = (yaml.safe_load((r / "config.yaml").read_text()) for r in (run, other))
        expected["trainer"]["default_root_dir"] = config["trainer"]["default_root_dir"]
        assert config == expected
        same_checkpoint(run / "checkpoints/last.ckpt", other / "checkpoints/last.ckpt")


def same_checkpoint(path: Path, other: Path) -> None:
    mine, theirs = (torch.load(p, weights_only=True) for p in (path, other))
    assert mine.keys() == theirs.keys() and mine["loops"] == theirs["loops"]
    assert mine["callbacks"].keys() == theirs["callbacks"].keys()
    assert path.stat().st_size == pytest.approx(other.stat().st_size, rel=0.05)


def test_a_signal_ends_all_runs_and_each_goes_on_alone(fit, monkeypatch) -> None:
    own = TrainingProgress.on_train_batch_end

    def interrupted(self, trainer, *args: Any) -> None:
        own(self, trainer, *args)
        if trainer.global_step == 3 and "group/one" in str(trainer.loggers[0].save_dir):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrainingProgress, "on_train_batch_end", interrupted)
    monkeypatch.setitem(SHARED, "probe__every_n_steps", 0)
    status, statuses = together(fit, "group")
    assert status == 128 + signal.SIGTERM and statuses == [status] * 2
    monkeypatch.setattr(TrainingProgress, "on_train_batch_end", own)
    for name in RUNS:
        log = (fit.cwd / f"group/{name}.txt").read_text()
        assert "Stopped by SIGTERM. The run is at step 3. To go on: python train.py fit" in log
    run, other = folder(fit, "group", "two"), folder(fit, "alone", "two")
    assert cli.main(["fit", "--resume", str(run)]) == 0
    assert cli.main(words(fit, "two", "alone")) == 0
    assert_same_adapters(run, other)
    assert curves(run / "metrics.csv").keys() == curves(other / "metrics.csv").keys()


def test_a_benchmark_groups_what_can_train_together(fit, capsys) -> None:
    keys = [word.removeprefix("--").split("=", maxsplit=1) for word in fit.arguments()[1:]]
    own = {key: yaml.safe_load(value) for key, value in keys if key != "data.instance_dir"}
    content = {
        "configs": ["empty.yaml"],
        "set": own,
        "seeds": [1, 2],
        "subjects": [{"name": "rex", "photos": str(fit.photos), "class_noun": "dog"}],
        "variants": [
            {"name": "plain"},
            {"name": "fast", "set": {"model.learning_rate": 0.01}},
            {"name": "dropout", "set": {"model.lora.dropout": 0.1}},
        ],
    }
    Path("empty.yaml").write_text("seed_everything: 1\n")
    Path("small.yaml").write_text(yaml.safe_dump(content))
    ran: list[tuple[str, ...]] = []

    class Fails:
        slots = 1

        def __call__(self, tasks, watch):
            for task in tasks:
                watch.started(task)
                ran.append(task.arguments)
                yield task, 1

    assert benchmark.main(["--config", "small.yaml", "--together", "auto"], Fails()) == 1
    said = capsys.readouterr().err
    assert "runs of the variant dropout train one by one: model.lora.dropout is 0.1" in said
    assert [words[0] for words in ran[1:]] == ["fit", "fit"]
    runs = json.loads(Path(ran[0][0]).read_text())["runs"]
    assert [Path(run["log"]).parent.name for run in runs] == [
        f"rex-{variant}-seed{seed}" for variant in ("plain", "fast") for seed in (1, 2)
    ]
