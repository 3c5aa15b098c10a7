"""Every YAML file parses against the real signatures, and the experiments agree with their base."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreambooth_pl.commands.train import main
from dreambooth_pl.files.dotted_keys import flatten
from dreambooth_pl.prompts import IDENTIFIERS

CONFIGS = Path(__file__).parents[2] / "configs"
EXPERIMENTS = sorted(CONFIGS.glob("*.yaml"))
BASES = sorted(CONFIGS.glob("base/*.yaml"))
PRESETS = sorted(CONFIGS.glob("presets/miniature/*.yaml"))
OPTIONS = sorted(CONFIGS.glob("options/*.yaml"))


def read(path: Path) -> dict[str, Any]:
    return flatten(yaml.safe_load(path.read_text()))


@pytest.fixture()
def parse(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Parse config files as `train.py fit` does, and return all keys with their values."""
    monkeypatch.setattr(sys, "argv", ["train.py"])

    def parse(*paths: Path) -> dict[str, Any]:
        arguments = [part for path in paths for part in ("--config", str(path))]
        with pytest.raises(SystemExit) as ended:
            main(["fit", *arguments, "--print_config"])
        assert ended.value.code == 0
        return flatten(yaml.safe_load(capsys.readouterr().out))

    return parse


def test_there_are_configs() -> None:
    assert {path.stem for path in EXPERIMENTS} == set(IDENTIFIERS)
    assert {path.stem for path in BASES} >= {"miniature", "sd15", "sd21"}
    assert {path.stem for path in OPTIONS} >= {"text_encoder", "no_prior"}


@pytest.mark.parametrize(
    "path", EXPERIMENTS + BASES + OPTIONS + PRESETS, ids=lambda path: str(path.relative_to(CONFIGS))
)
def test_parses_and_every_value_arrives(path: Path, parse) -> None:
    parsed = parse(path)
    for key, value in read(path).items():
        assert parsed[key] == value, key


@pytest.mark.parametrize("addition", BASES + OPTIONS, ids=lambda path: path.stem)
def test_later_files_go_over_earlier_ones(addition: Path, parse) -> None:
    parsed = parse(CONFIGS / "sks.yaml", addition)
    assert parsed.items() >= (read(CONFIGS / "sks.yaml") | read(addition)).items()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_hold_the_miniatures_values(path: Path) -> None:
    assert read(path).items() >= read(CONFIGS / "base/miniature.yaml").items()


@pytest.mark.parametrize("path", BASES, ids=lambda path: path.stem)
def test_every_base_sets_what_depends_on_the_base(path: Path) -> None:
    assert read(path).keys() >= read(CONFIGS / "base/miniature.yaml").keys()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_published_settings(path: Path) -> None:
    config = read(path)
    published = {
        "seed_everything": 42,
        "trainer.max_steps": 1300,
        "data.batch_size": 1,
        "sampling.guidance_scale": 6.4,
        "sampling.num_inference_steps": 25,
        "model.learning_rate": 3e-4,
        "model.text_encoder_learning_rate": 1e-4,
        "model.prior_loss_weight": 1.0,
        "data.identifier": path.stem,
    }
    assert config.items() >= published.items()


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl", "sd3"])
def test_real_bases_keep_the_published_loss_and_lora_scale(name: str) -> None:
    config = read(CONFIGS / f"base/{name}.yaml")
    assert config["model.min_snr_gamma"] is None
    assert config["model.noise_offset"] == 0
    assert config["sampling.lora_scale_unet"] == config["sampling.lora_scale_text_encoder"] == 0.4


@pytest.mark.parametrize(
    "path", EXPERIMENTS + BASES + OPTIONS, ids=lambda path: str(path.relative_to(CONFIGS))
)
def test_opens_with_its_own_command(path: Path) -> None:
    if path.name == "miniature.yaml":  # the default of every experiment
        return
    first = path.read_text().splitlines()[0]
    assert first.startswith("# python train.py fit --config configs/")
    assert first.endswith(f"configs/{path.relative_to(CONFIGS)}")


def test_presets_of_all_bases_set_what_those_of_the_miniature_set() -> None:
    parsed = {key for path in PRESETS for key in read(path)}
    others = [path for path in CONFIGS.glob("presets/*/*.yaml") if path not in PRESETS]
    assert len(others) == len(PRESETS) * (len(BASES) - 1)
    for path in others:
        assert read(path).keys() <= parsed, path
