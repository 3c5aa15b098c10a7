"""Every benchmark that ships expands to jobs that the training's own parser takes."""

import sys
from pathlib import Path

import pytest
import yaml

from dreambooth_pl.benchmark.jobs import expand
from dreambooth_pl.benchmark.spec import read_benchmark
from dreambooth_pl.commands.benchmark import parse
from dreambooth_pl.files.dotted_keys import flatten
from dreambooth_pl.prompts import IDENTIFIERS, SUBJECTS

REPOSITORY = Path(__file__).parents[2]
FILES = sorted((REPOSITORY / "configs/benchmark").glob("*.yaml"))


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "argv", ["benchmark.py"])


def jobs_of(name: str):
    return expand(read_benchmark(Path(f"configs/benchmark/{name}.yaml")), Path("out"))


def test_there_are_benchmarks() -> None:
    assert {path.stem for path in FILES} >= {"seed_experiments", "dreambench", "ablations"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_variant_parses_and_every_value_arrives(path: Path) -> None:
    first = {}
    for job in jobs_of(path.stem):
        first.setdefault(job.variant.name, job)
    for name, job in first.items():
        parsed = flatten(yaml.safe_load(parse(job)))
        for key, value in job.config().items():
            assert parsed[key] == value, (name, key)
        assert parsed["trainer.default_root_dir"] == f"out/runs/{job.name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_opens_with_its_own_command(path: Path) -> None:
    command = f"# python benchmark.py --config configs/benchmark/{path.name}"
    assert path.read_text().splitlines()[0] == command


def test_the_eight_seed_experiments() -> None:
    configs = [job.config() for job in jobs_of("seed_experiments")]
    axes = {(c["data.identifier"], c["model.train_text_encoder"]) for c in configs}
    assert axes == {(name, text) for name in IDENTIFIERS for text in (False, True)}
    assert len(configs) == len(axes) == 8
    same = {"data.instance_dir": "data/sks_dog", "trainer.max_steps": 1300, "seed_everything": 42}
    for config in configs:
        assert config.items() >= same.items()
        assert Path(config["data.instance_dir"]).is_dir()


def test_dreambench_has_all_subjects_once() -> None:
    jobs = jobs_of("dreambench")
    assert read_benchmark(Path("configs/benchmark/dreambench.yaml")).protocol == "dreambench"
    taught = [(job.subject.name, job.config()["data.class_noun"]) for job in jobs]
    assert taught == list(SUBJECTS.items())


def test_each_ablation_changes_one_thing() -> None:
    whole, *others = (job.config() for job in jobs_of("ablations") if job.seed == 42)
    changed = [{key for key in config if config[key] != whole.get(key)} for config in others]
    assert changed == [
        {"model.prior_loss_weight", "data.num_class_images"},
        {"data.instance_prompt", "data.class_prompt"},
        {"data.instance_prompt"},
        {"model.train_text_encoder"},
    ]
    assert {config["data.class_noun"] for config in others} == {"dog"}


def test_findings_change_one_thing_of_each_of_eight_subjects() -> None:
    by_subject: dict[str, list[dict]] = {}
    for job in jobs_of("findings"):
        by_subject.setdefault(job.subject.name, []).append(job.config())
    assert len(by_subject) == 8
    for whole, *others in by_subject.values():
        changed = [{key for key in config if config[key] != whole.get(key)} for config in others]
        assert changed == [
            {"model.prior_loss_weight", "data.num_class_images"},
            {"data.instance_prompt", "data.class_prompt"},
            {"data.instance_prompt"},
            {"model.train_text_encoder"},
        ]
        assert whole["data.class_noun"] != "clock"  # the wrong noun
