"""A user's mistakes: one clear message each, exit status 1, and nothing half-written."""

import re
from pathlib import Path

import pytest
from PIL import Image


def files_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


CASES = {
    "unknown key": ({"data__instance_dirr": "x"}, r"Unknown key data.instance_dirr.*_dir\?"),
    "unknown group": ({"dta__identifier": "x"}, r"Unknown key dta.identifier"),
    "wrong type": ({"trainer__max_steps": "many"}, r"trainer.max_steps"),
    "no steps": ({"trainer__max_steps": 0}, r"trainer.max_steps is 0"),
    "negative interval": ({"probe__every_n_steps": -1}, r"probe.every_n_steps is -1"),
    "no such rule": ({"validation__best_by": "luck"}, r"validation.best_by.*luck"),
    "no such prompts": ({"validation__prompts": "nowhere"}, r"validation.prompts.*nowhere"),
    "the evaluation's prompts": ({"validation__prompts": "probes"}, r"evaluation's prompts"),
    "no config file": ({"config": "nowhere.yaml"}, r"nowhere.yaml"),
    "config with an unknown key": ({"config": "misspelt.yaml"}, r"model.lora.rnk"),
    "config that is no YAML": ({"config": "broken.yaml"}, r"broken.yaml"),
    "no photo folder": ({"data__instance_dir": "nowhere"}, r"data.instance_dir.*nowhere"),
    "empty photo folder": ({"data__instance_dir": "empty"}, r"data.instance_dir.*empty"),
    "unwritable output": ({"trainer__default_root_dir": "a_file/runs"}, r"a_file.*root_dir"),
    "no base folder": ({"model__base": "./nowhere"}, r"model.base.*nowhere"),
    "no such hub id": ({"model__base": "nobody/nothing"}, r"model.base.*nobody/nothing"),
    "base without index": ({"model__base": "empty"}, r"model.base.*model_index.json"),
    "no encoder": ({"fidelity__dino": "local-dir:nowhere"}, r"fidelity.dino.*nowhere"),
    "no checkpoint": ({"ckpt_path": "nowhere.ckpt"}, r"ckpt_path.*nowhere.ckpt"),
    "not a checkpoint": ({"ckpt_path": "a_file"}, r"ckpt_path.*a_file"),
    "target nobody has": ({"model__lora__target_modules": "[to_z]"}, r"to_z"),
    "precision that casts adapters": ({"trainer__precision": "bf16-true"}, r"trainer.precision"),
    "no such package": (
        {"model__optimizer": "nopackage.Adam"},
        r"optimizer.*pip install nopackage",
    ),
    "no such optimiser": ({"model__optimizer": "torch.optim.Adan"}, r"torch.optim has no Adan"),
    "optimiser that refuses": (
        {"model__optimizer": "torch.optim.SGD", "model__optimizer__init_args__momentum": -1},
        r"model.optimizer: Invalid momentum",
    ),
    "base that is no checkpoint": ({"model__base": "a_file"}, r"model.base.*a_file.*safetensors"),
    "wrong resolution": ({"data__resolution": 33}, r"data.resolution"),
    "too few class images": (
        {"data__class_dir": "own_class_images", "data__num_class_images": 4},
        r"data.class_dir.*num_class_images",
    ),
    "empty config": ({"config": "a_file"}, r"a_file.*holds no keys"),
    "no such accelerator": ({"trainer__accelerator": "abacus"}, r"trainer.*abacus"),
    "accelerator that is not there": ({"trainer__accelerator": "tpu"}, r"trainer.*(?i:tpu|xla)"),
}


@pytest.fixture()
def surroundings(fit) -> Path:
    """Things in the working directory that mistakes can be made with."""
    (fit.cwd / "empty").mkdir()
    (fit.cwd / "a_file").write_text("text")
    (fit.cwd / "misspelt.yaml").write_text("model:\n  lora:\n    rnk: 4\n")
    (fit.cwd / "broken.yaml").write_text("model: [\n")
    (fit.cwd / "own_class_images").mkdir()
    Image.new("RGB", (32, 32), "red").save(fit.cwd / "own_class_images" / "one.png")
    return fit.cwd


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_message_and_nothing_written(fit, surroundings, capfd, case) -> None:
    keys, pattern = CASES[case]
    before = files_below(surroundings)
    assert fit.main(**keys) == 1
    captured = capfd.readouterr()
    errors = [part for part in captured.err.split("error: ")[1:]]
    assert len(errors) == 1, captured.err
    message = " ".join(errors[0].split())
    assert re.search(pattern, message), message
    assert "Traceback" not in captured.err + captured.out
    assert len(message) < 900, message
    assert files_below(surroundings) == before
