"""Runs found and read from the files that training leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.errors import UserError
from dreambooth_pl.metrics.encoders import EncoderSettings
from dreambooth_pl.runs.finished import find_runs, read_run
from dreambooth_pl.sampling.settings import SamplingSettings

CONFIG = {
    "seed_everything": 7,
    "model": {"base": "data/miniature", "learning_rate": 3e-4},
    "data": {"instance_dir": "data/sks_dog", "identifier": "sks", "class_noun": "dog"},
    "sampling": {"guidance_scale": 3.0, "key_of_another_version": 1},
    "fidelity": {"clip": "ViT-B-32-quickgelu", "clip_pretrained": "openai", "dino": "x"},
    "trainer": {"max_steps": 1300},
}


def write_run(folder: Path, finished: bool = True, **changes: object) -> Path:
    (folder / "lora").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | changes))
    if finished:
        (folder / "lora" / "pytorch_lora_weights.safetensors").write_bytes(b"weights")
    return folder


def test_settings_come_from_the_runs_own_config(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "sks" / "version_3"))
    assert run.name == "sks/version_3"
    assert (run.identifier, run.class_noun, run.seed) == ("sks", "dog", 7)
    assert run.instance_dir == Path("data/sks_dog")
    assert run.sampling == SamplingSettings(guidance_scale=3.0)
    assert run.encoders == EncoderSettings("ViT-B-32-quickgelu", "openai", "x")
    assert run.base_spec == BaseSpec("data/miniature", None, None, "float32")


def test_finished_runs_are_found_in_order(tmp_path: Path) -> None:
    for name in ("sks/version_10", "sks/version_9", "hta/version_0", "group/sks/version_1"):
        write_run(tmp_path / name)
    write_run(tmp_path / "sks/version_11", finished=False)
    (tmp_path / "stray").mkdir()
    names = [run.folder.relative_to(tmp_path).as_posix() for run in find_runs(tmp_path)]
    expected = ["group/sks/version_1", "hta/version_0", "sks/version_9", "sks/version_10"]
    assert names == expected


def test_no_finished_run_is_told(tmp_path: Path) -> None:
    write_run(tmp_path / "sks/version_0", finished=False)
    with pytest.raises(UserError, match="no finished run"):
        find_runs(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"instance_dir": "x"}}, "data.identifier"),
        ({"sampling": None}, "sampling"),
        ({"sampling": {"num_inference_steps": 0}}, "num_inference_steps"),
        ({"model": "x"}, "model.base"),
    ],
)
def test_a_broken_config_is_told_by_file_and_key(
    tmp_path: Path, changes: dict, message: str
) -> None:
    folder = write_run(tmp_path / "sks/version_0", **changes)
    with pytest.raises(UserError, match=message):
        read_run(folder)
