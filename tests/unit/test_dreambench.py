"""The dataset's layout, written by hand and by the miniature."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dreambooth_pl.data.dreambench import DreamBench
from dreambooth_pl.errors import UserError
from dreambooth_pl.miniature.subjects import write
from dreambooth_pl.prompts import SUBJECTS


def test_the_datasets_own_layout(tmp_path: Path, photo_dir: Path) -> None:
    for name in ("teapot", "dog6", "bear_plushie"):
        shutil.copytree(photo_dir, tmp_path / "dataset" / name)
    (tmp_path / "dataset" / "prompts_and_classes.txt").write_text("subject_name,class")
    (tmp_path / "README.md").write_text("DreamBooth dataset")
    for folder in (tmp_path, tmp_path / "dataset"):
        found = DreamBench(folder)
        assert list(found) == ["bear_plushie", "dog6", "teapot"], "in the dataset's order"
        assert found["dog6"].live and not found["teapot"].live
        assert found["bear_plushie"].class_noun == "stuffed animal"
        assert len(found["dog6"].photos().used) == 5
        assert len(found.missing()) == len(SUBJECTS) - 3


def test_the_miniatures_subjects_and_ones_own(tmp_path: Path, photo_dir: Path) -> None:
    for name in ("sks_dog", "vase"):
        write(name, tmp_path / "bench" / name, size=32)
    shutil.copytree(photo_dir, tmp_path / "bench" / "rex")
    found = DreamBench(tmp_path / "bench", class_nouns={"rex": "dog"})
    assert {name: subject.class_noun for name, subject in found.items()} == {
        "vase": "vase",
        "sks_dog": "dog",
        "rex": "dog",
    }
    assert [path.name for path in found["vase"].photos().used] == [f"0{i}.png" for i in range(5)]
    with pytest.raises(UserError, match="rex.*what is it"):
        DreamBench(tmp_path / "bench")


def test_what_is_no_dataset_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset folder"):
        DreamBench(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no folder of a subject"):
        DreamBench(tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(UserError, match="subject dog"):
        DreamBench(tmp_path)["dog"].photos()
