"""An evaluation holds one base at a time, however many its runs adapt."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.evaluation import run_images
from dreambooth_pl.evaluation.evaluate_runs import score_runs
from dreambooth_pl.evaluation.run_images import generate_images
from dreambooth_pl.runs.finished import Run, read_run

MakeRun = Callable[..., Path]


@pytest.fixture()
def runs(make_run: MakeRun, tiny_base_dir: Path, tmp_path: Path) -> list[Run]:
    """Three runs, the first two on one base, the last on a copy of it."""
    shutil.copytree(tiny_base_dir, tmp_path / "other_base")
    folders = [make_run(f"sks/version_{n}") for n in range(3)]
    config = yaml.safe_load((folders[2] / "config.yaml").read_text())
    config["model"]["base"] = str(tmp_path / "other_base")
    (folders[2] / "config.yaml").write_text(yaml.safe_dump(config))
    return [read_run(folder) for folder in folders]


@pytest.fixture()
def loaded(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> list[weakref.ref[Base]]:
    """References to the bases that are loaded from here on, none of which may outlive its turn."""
    found: list[weakref.ref[Base]] = []

    def load(spec: BaseSpec) -> Base:
        assert not [ref for ref in found if ref() is not None], "another base is still in memory"
        base = load_base(spec)
        found.append(weakref.ref(base))
        return base

    monkeypatch.setattr(run_images, "load_base", load)
    return found


def test_scoring_drops_a_base_before_it_loads_the_next(
    runs: list[Run], loaded: list[weakref.ref[Base]]
) -> None:
    results = score_runs(runs, class_images=0)
    assert [result.role for result in results].count("run") == 3
    assert len(loaded) == 2, "neighbouring runs share their base"
    gc.collect()
    assert not [ref for ref in loaded if ref() is not None], "results keep no base"


def test_generating_drops_a_base_before_it_loads_the_next(
    runs: list[Run], loaded: list[weakref.ref[Base]]
) -> None:
    generate_images(runs, class_images=0)
    assert len(loaded) == 2
