"""A config's classes of other packages are refused before their modules are imported."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dreambooth_pl.commands import train
from dreambooth_pl.commands.class_paths import VARIABLE
from dreambooth_pl.commands.train_parser import check_config_files
from dreambooth_pl.errors import UserError

NAME = "module_from_elsewhere"
EVIL = f"{NAME}.Evil"
AS_CLASS = {"class_path": EVIL, "init_args": {}}
CONFIGS = {
    "optimiser": {"model": {"optimizer": AS_CLASS}},
    "optimiser as a word": {"model": {"optimizer": EVIL}},
    "optimiser as text": {"model": {"optimizer": json.dumps(AS_CLASS)}},
    "callback": {"trainer": {"callbacks": [AS_CLASS]}},
    "callback as a word": {"trainer": {"callbacks": [EVIL]}},
    "logger": {"trainer": {"logger": AS_CLASS}},
    "plugin": {"trainer": {"plugins": EVIL}},
    "trainer as text": {"trainer": json.dumps({"strategy": AS_CLASS})},
    "below fit": {"fit": {"trainer": {"profiler": AS_CLASS}}},
    "argument of a class": {
        "trainer": {
            "callbacks": {
                "class_path": "lightning.pytorch.callbacks.LambdaCallback",
                "init_args": {"on_fit_start": EVIL},
            }
        }
    },
}
WORDS = [
    [f"--model.optimizer={EVIL}"],
    ["--model.optimizer", EVIL],
    ["--model.optim", EVIL],
    [f"--model.optimizer.class_path={EVIL}"],
    ["--model.optimizer.help", EVIL],
    ["--trainer.callbacks", json.dumps(AS_CLASS)],
    [f"--trainer.callbacks+={EVIL}"],
    ["--trainer.callbacks", f"{{class_path: {EVIL}, class_path: {EVIL}}}"],
    ["--trainer.callbacks", f"[{{class_path: {EVIL}, init_args: {{a: x=1}}}}]"],
    ["--trainer", json.dumps({"logger": AS_CLASS})],
    ["--trainer", "other.yaml"],
    ["--trainer.logger", "other.yaml"],
    ["--conf", "config.yaml"],
]


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the working folder that writes a file when it is imported."""
    (tmp_path / f"{NAME}.py").write_text("open('imported', 'w').close()\nclass Evil: pass\n")
    (tmp_path / "other.yaml").write_text(json.dumps({"logger": AS_CLASS, **AS_CLASS}))
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIGS["callback"]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    yield
    sys.modules.pop(NAME, None)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_configs(tmp_path: Path, config: dict, capsys) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    refused(["fit", "--config", "config.yaml"], capsys)


@pytest.mark.parametrize("words", WORDS)
def test_command_lines(words: list[str], capsys) -> None:
    refused(["fit", *words], capsys)


def test_configs_that_configs_name(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.yaml").write_text("trainer: inner.yaml\n")
    (folder / "inner.yaml").write_text(json.dumps({"callbacks": AS_CLASS}))
    refused(["fit", "--config", "folder/config.yaml"], capsys)


def refused(arguments: list[str], capsys) -> None:
    assert train.main(arguments) == 1
    message = capsys.readouterr().err
    assert NAME in message or "a second time" in message
    assert not Path("imported").exists()
    assert NAME not in sys.modules


def test_the_message_says_how_to_allow_it() -> None:
    with pytest.raises(UserError, match=rf"model\.optimizer: {EVIL} .*{VARIABLE}={NAME}"):
        check_config_files(["fit", f"--model.optimizer={EVIL}"])


def test_packages_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"other, {NAME}")
    check_config_files(["fit", f"--model.optimizer={EVIL}", "--config", "config.yaml"])


def test_known_classes_and_other_words_with_dots_pass(tmp_path: Path) -> None:
    callback = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"monitor": "val.loss", "dirpath": "some.folder/x"},
    }
    config = {
        "data": {"instance_dir": NAME, "identifier": EVIL},
        "model": {"optimizer": {"class_path": "torch.optim.SGD"}},
        "trainer": {"callbacks": [callback], "default_root_dir": EVIL, "strategy": "ddp"},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    check_config_files(["fit", "--config=config.yaml", "--model.optimizer", "SGD", "--data", "{}"])
