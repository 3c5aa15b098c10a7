from pathlib import Path

import pytest

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.writable import check_writable
from dreambooth_pl.runs.folder import discard, next_run_folder, run_name


def test_names_join_in_order() -> None:
    configs = ["configs/sks.yaml", "configs/options/text_encoder.yaml", "configs/base/sd15.yaml"]
    assert run_name([Path(config) for config in configs]) == "sks-text_encoder-sd15"


def test_a_saved_config_keeps_its_name_also_beside_options() -> None:
    saved = Path("lightning_logs/sks/version_12/config.yaml")
    assert run_name([saved, Path("no_prior.yaml")]) == "sks-no_prior"


def test_a_config_of_that_name_elsewhere_is_just_a_name() -> None:
    assert run_name([Path("mine/config.yaml")]) == "config"


def test_versions_are_counted_as_numbers(tmp_path: Path) -> None:
    assert next_run_folder(tmp_path, "sks") == tmp_path / "lightning_logs/sks/version_0"
    for name in ("version_2", "version_10", "version_old", "notes"):
        (tmp_path / "lightning_logs/sks" / name).mkdir(parents=True)
    assert next_run_folder(tmp_path, "sks").name == "version_11"
    assert next_run_folder(tmp_path, "http").name == "version_0"


def test_writable_checks_leave_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "not" / "there" / "yet")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="default_root_dir"):
        check_writable(tmp_path / "file" / "runs")


def test_discard_takes_empty_parents_only(tmp_path: Path) -> None:
    one, other = (tmp_path / "lightning_logs" / name / "version_0" for name in ("sks", "http"))
    for folder in (one, other):
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
    discard(one)
    assert not one.parent.exists()
    assert other.exists()
    discard(other)
    assert list(tmp_path.iterdir()) == []
