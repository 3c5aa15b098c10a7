"""Benchmark files: what they expand to, worked out by hand, and what is refused."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dreambooth_pl.benchmark import job_folder
from dreambooth_pl.benchmark.executors.call import Resources
from dreambooth_pl.benchmark.jobs import check_photos, expand
from dreambooth_pl.benchmark.spec import Subject, read_benchmark
from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import SUBJECTS

GRID = """
protocol: probes
configs: [one.yaml]
set: {trainer: {max_steps: 7}, model.lora.rank: 2}
seeds: [5, 6]
subjects:
  - {name: rex, photos: photos/rex, class_noun: dog}
  - {name: teapot, photos: photos/teapot}
variants:
  - name: plain
  - name: more
    configs: [two.yaml]
    set:
      model.lora: {rank: 4, target_modules: [to_q, to_k]}
      data.class_noun: a thing
      trainer.profiler: null
"""


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("one.yaml").write_text("model: {lora: {rank: 16, alpha: 1.5}}\ndata: {batch_size: 3}\n")
    Path("two.yaml").write_text("model: {lora: {alpha: 2.5}}\n")
    return tmp_path


def read(text: str):
    Path("grid.yaml").write_text(text)
    return read_benchmark(Path("grid.yaml"))


def test_the_grid_by_hand() -> None:
    jobs = expand(read(GRID), Path("out"))
    assert [job.name for job in jobs] == [
        "rex-plain-seed5",
        "rex-plain-seed6",
        "teapot-plain-seed5",
        "teapot-plain-seed6",
        "rex-more-seed5",
        "rex-more-seed6",
        "teapot-more-seed5",
        "teapot-more-seed6",
    ]
    assert shlex.join(jobs[0].arguments()) == (
        "fit --config one.yaml --trainer.max_steps=7 --model.lora.rank=2 "
        "--data.instance_dir=photos/rex --data.class_noun=dog --seed_everything=5 "
        "--trainer.default_root_dir=out/runs/rex-plain-seed5"
    )
    begun = Path("out/runs/teapot-more-seed6/lightning_logs/one-two/version_0")
    assert jobs[-1].arguments(begun) == ["fit", "--resume", str(begun)]
    assert jobs[-1].arguments() == [
        "fit",
        "--config",
        "one.yaml",
        "--config",
        "two.yaml",
        "--trainer.max_steps=7",
        "--model.lora.rank=4",
        "--data.instance_dir=photos/teapot",
        "--data.class_noun=a thing",
        "--seed_everything=6",
        '--model.lora.target_modules=["to_q", "to_k"]',
        "--trainer.profiler=null",
        "--trainer.default_root_dir=out/runs/teapot-more-seed6",
    ]
    assert jobs[-1].config() == {
        "model.lora.rank": 4,
        "model.lora.alpha": 2.5,
        "model.lora.target_modules": ["to_q", "to_k"],
        "data.batch_size": 3,
        "data.instance_dir": "photos/teapot",
        "data.class_noun": "a thing",
        "trainer.max_steps": 7,
        "trainer.profiler": None,
        "seed_everything": 6,
    }


def test_without_subjects_and_seeds_the_config_files_speak() -> None:
    (job,) = expand(read("variants: [{name: a, configs: [one.yaml]}]"), Path("out"))
    assert job.name == "a-seed42"
    assert job.subject is None
    assert "data.instance_dir" not in job.config()


def test_two_jobs_of_one_name() -> None:
    text = GRID.replace("name: rex", "name: teapot-more").replace("name: plain", "name: more-more")
    with pytest.raises(UserError, match="Two jobs would be called teapot-more-more-seed5"):
        expand(read(text), Path("out"))


def test_the_datasets_subjects_are_known() -> None:
    text = "configs: [one.yaml]\nvariants: [{name: a}]\nsubjects: {dataset: photos"
    all_ = read(f"{text}}}").subjects
    assert [subject.name for subject in all_] == list(SUBJECTS)
    assert len(all_) == 30
    some = read(f"{text}, names: [cat2, rc_car]}}").subjects
    assert some == (
        Subject("cat2", Path("photos/cat2"), "cat"),
        Subject("rc_car", Path("photos/rc_car"), "toy"),
    )


def test_photos_are_looked_for_before_anything_runs() -> None:
    benchmark = read(GRID)
    Path("photos/rex").mkdir(parents=True)
    Image.new("RGB", (40, 40), "red").save("photos/rex/00.png")
    with pytest.raises(UserError, match="subject teapot: .*photos/teapot"):
        check_photos(benchmark)
    Path("photos/teapot").mkdir()
    Image.new("RGB", (40, 40), "red").save("photos/teapot/00.png")
    check_photos(benchmark)


def test_a_dataset_lacks_subjects() -> None:
    text = "configs: [one.yaml]\nvariants: [{name: a}]\nsubjects: {dataset: photos, names: "
    benchmark = read(f"{text}[dog, cat2]}}")
    with pytest.raises(UserError, match="no dataset folder photos"):
        check_photos(benchmark)
    for name in ("dog", "a_thing_without_a_noun"):
        Path("photos", name).mkdir(parents=True)
        Image.new("RGB", (40, 40), "red").save(f"photos/{name}/00.png")
    with pytest.raises(UserError, match="lacks 1 of 2 subjects, cat2 first.*subjects photos"):
        check_photos(benchmark)
    check_photos(read(f"{text}[dog]}}"))


MISTAKES = {
    "no YAML": ("variants: [", "not valid YAML"),
    "a list": ("[1]", "the file: needs keys"),
    "unknown key": ({"sets": {}}, r"Unknown key sets. Did you mean set\?"),
    "unknown key of a variant": (
        {"variants": [{"name": "a", "confgs": []}]},
        r"Unknown key variants\[0\].confgs. Did you mean configs\?",
    ),
    "no variants": ({"variants": []}, "variants: needs a list with at least one"),
    "variant without name": ({"variants": [{}]}, r"variants\[0\].name: None"),
    "name of a folder above": ({"variants": [{"name": "../a"}]}, r"variants\[0\].name: '../a'"),
    "same name": ({"variants": [{"name": "a"}, {"name": "A"}]}, "variants: a stands there twice"),
    "no config": ({"configs": []}, r"variants\[0\].configs: name at least one"),
    "config that is not there": ({"configs": ["none.yaml"]}, "configs: there is no file 'none"),
    "variant's config that is not there": (
        {"variants": [{"name": "a", "configs": ["none.yaml"]}]},
        r"variants\[0\].configs: there is no file 'none",
    ),
    "no seeds": ({"seeds": []}, "seeds: needs a list"),
    "no number": ({"seeds": [1, "x"]}, "seeds: 'x' is no whole number"),
    "truth as a seed": ({"seeds": [True]}, "seeds: True is no whole number"),
    "same seed": ({"seeds": [1, 1]}, "seeds: 1 stands there twice"),
    "the benchmark's own key": (
        {"set": {"trainer": {"default_root_dir": "x"}}},
        "set: trainer.default_root_dir cannot be set here.*--out",
    ),
    "seed in a variant": (
        {"variants": [{"name": "a", "set": {"seed_everything": 1}}]},
        r"variants\[0\].set: seed_everything cannot be set here.*`seeds`",
    ),
    "key twice": ({"set": {"a.b": 1, "a": {"b": 2}}}, "set: a.b stands there twice"),
    "no keys": ({"set": [1]}, "set: needs keys"),
    "no subjects": ({"subjects": []}, "subjects: needs a list"),
    "no photos": (
        {"subjects": [{"name": "rex", "class_noun": "dog"}]},
        r"subjects\[0\].photos: name the folder",
    ),
    "no class": ({"subjects": [{"name": "rex", "photos": "x"}]}, r"subjects\[0\].class_noun"),
    "no dataset": ({"subjects": {"names": ["dog"]}}, "subjects.dataset: name the folder"),
    "no such subject": (
        {"subjects": {"dataset": "x", "names": ["dgo2"]}},
        r"no subject 'dgo2'. Did you mean dog2\?",
    ),
    "protocol": ({"protocol": 1}, "protocol: 1 is no name"),
    "no such protocol": ({"protocol": "prbes"}, "protocol: 'prbes' is neither"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named(case: str) -> None:
    change, message = MISTAKES[case]
    if isinstance(change, dict):
        good = {"configs": ["one.yaml"], "variants": [{"name": "a"}]}
        change = yaml.safe_dump(good | change)
    with pytest.raises(UserError, match=message) as raised:
        read(change)
    assert "grid.yaml" in str(raised.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match="'nowhere.yaml' cannot be read"):
        read_benchmark(Path("nowhere.yaml"))


def test_a_changed_config_is_refused_and_nothing_is_overwritten() -> None:
    job = expand(read(GRID), Path("out"))[0]
    job_folder.begin(job)
    record = job.folder / job_folder.RECORD
    written = record.read_bytes()
    job_folder.check_unchanged(job)

    Path("one.yaml").write_text("model: {lora: {rank: 16, alpha: 3}}\n")
    changed = expand(read(GRID.replace("seeds: [5", "seeds: [5, 9")), Path("out"))[0]
    with pytest.raises(UserError, match="rex-plain-seed5.*--out") as raised:
        job_folder.check_unchanged(changed)
    assert "data.batch_size is 'not set', was 3; model.lora.alpha is 3, was 1.5." in str(
        raised.value
    )
    job_folder.begin(changed)
    assert record.read_bytes() == written

    record.write_text("[")
    with pytest.raises(UserError, match="job.json is not as benchmark.py writes it"):
        job_folder.check_unchanged(job)


def test_the_newest_run_counts_by_its_number() -> None:
    job = expand(read(GRID), Path("out"))[0]
    assert job_folder.complete_run(job) is None
    assert job_folder.begun_run(job) is None
    runs = job.folder / "lightning_logs/one"
    for number in (2, 10):
        (runs / f"version_{number}").mkdir(parents=True)
        (runs / f"version_{number}/config.yaml").touch()
    (runs / "version_11").mkdir()  # killed before it began
    assert job_folder.begun_run(job) == runs / "version_10"
    assert job_folder.complete_run(job) is None
    for number in (2, 11):
        (runs / f"version_{number}/lora").mkdir()
        (runs / f"version_{number}/lora/pytorch_lora_weights.safetensors").touch()
    assert job_folder.complete_run(job) == runs / "version_2"  # the other one is no whole run


def test_resources_and_what_they_may_not_be() -> None:
    assert read(GRID).resources == Resources()
    asked = read(GRID + "resources: {cpus: 2, gpus: 0.25, memory_gb: 16}\n").resources
    assert asked == Resources(cpus=2, gpus=0.25, memory_gb=16) and asked.threads == 2
    for value, message in {
        "{gpu: 1}": "Unknown key resources.gpu. Did you mean gpus",
        "{gpus: 1.5}": "resources.gpus: 1.5 is neither a part of a GPU nor a whole number",
        "{cpus: 0}": "resources.cpus: 0 is not above 0",
        "{memory_gb: much}": "resources.memory_gb: 'much' is no number",
        "4": "resources: needs keys",
    }.items():
        with pytest.raises(UserError, match=message):
            read(GRID + f"resources: {value}\n")
