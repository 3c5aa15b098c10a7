"""The commands take a checkpoint of training where they take a run."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from dreambooth_pl.adapters import adapter_state_dict, load_adapters
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.commands import evaluate as cli_evaluate
from dreambooth_pl.commands import export as cli_export
from dreambooth_pl.commands import generate as cli_generate
from dreambooth_pl.errors import UserError
from dreambooth_pl.runs.adapter_source import read_source


@pytest.fixture()
def run(make_run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a checkpoint that has the run's final adapters."""
    load = lru_cache(load_base)
    monkeypatch.setattr(cli_generate, "load_base", load)
    folder = make_run()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["model"] |= {"lora": {"rank": 2, "alpha": 4.0}, "train_text_encoder": True}
    base = load(config["model"]["base"])
    load_adapters(base, folder / "lora")
    content = {
        "dreambooth_pl_config": config,
        "base": {"name": base.name, "fingerprint": base.fingerprint},
        "state_dict": adapter_state_dict(base),
        "global_step": 3,
    }
    (folder / "checkpoints").mkdir()
    torch.save(content, folder / "checkpoints/last.ckpt")
    return folder


def test_images(run, tmp_path) -> None:
    options, images = ["--num-images", "1", "--steps", "2", "--batch-size", "1"], []
    for number, place in enumerate((run, run / "checkpoints/last.ckpt")):
        out = tmp_path / str(number)
        assert cli_generate.main([str(place), *options, "--out", str(out)]) == 0
        images += [np.asarray(Image.open(path)) for path in out.iterdir()]
    assert np.array_equal(*images)
    (image,) = (tmp_path / "1").iterdir()
    again = ["--reproduce", str(image), "--out", str(tmp_path / "again")]
    assert cli_generate.main(again) == 0
    (copy,) = (tmp_path / "again").iterdir()
    assert np.array_equal(np.asarray(Image.open(copy)), images[0])


def test_export(run, tmp_path) -> None:
    for name, place in (("run", run), ("last", run / "checkpoints/last.ckpt")):
        out = ["--format", "diffusers", "--out", str(tmp_path / name)]
        assert cli_export.main([str(place), *out]) == 0
    one, other = (
        load_file(tmp_path / name / "pytorch_lora_weights.safetensors") for name in ("run", "last")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_scores(run, capsys) -> None:
    options = ["--device", "cpu", "--class-images", "0", "--format", "json"]
    rows = []
    for place in (run, run / "checkpoints/last.ckpt"):
        assert cli_evaluate.main([str(place), *options]) == 0
        found = json.loads(capsys.readouterr().out)
        row = (found if isinstance(found, list) else found["rows"])[0]
        rows.append({key: value for key, value in row.items() if isinstance(value, dict)})
    assert rows[0] == rows[1] != {}


@pytest.mark.parametrize(
    ("key", "value"), [("dreambooth_pl_config", [1]), ("state_dict", {"a": 1}), ("base", None)]
)
def test_changed_checkpoints(run, key, value) -> None:
    path = run / "checkpoints/last.ckpt"
    torch.save(torch.load(path, weights_only=True) | {key: value}, path)
    with pytest.raises(UserError, match=r"last\.ckpt"):
        read_source(path)


def test_files_that_are_no_checkpoints(tmp_path) -> None:
    (tmp_path / "some.ckpt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"some\.ckpt"):
        read_source(tmp_path / "some.ckpt")
