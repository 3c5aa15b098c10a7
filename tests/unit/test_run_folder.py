import os
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.writable import check_writable
from dreambooth_pl.runs.folder import (
    discard,
    make_run_folder,
    newest_run_folder,
    next_run_folder,
    resume_command,
    run_name,
)


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


def test_runs_that_start_together_never_share_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: make_run_folder(tmp_path, "sks"), range(40)))
    assert sorted(int(f.name.removeprefix("version_")) for f in folders) == list(range(40))
    assert all(folder.is_dir() for folder in folders)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "lightning_logs").mkdir()
    (tmp_path / "lightning_logs" / "sks").touch()
    with pytest.raises(UserError, match="sks is a file"):
        make_run_folder(tmp_path, "sks")


def test_discard_takes_the_folders_that_were_made_for_the_run(tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    discard(make_run_folder(root, "sks"), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    root.mkdir(parents=True)
    discard(make_run_folder(root, "sks"), root / "lightning_logs")
    assert list(root.iterdir()) == []


def test_the_newest_run_is_the_one_that_wrote_last(tmp_path: Path) -> None:
    assert newest_run_folder(tmp_path) is None
    folders = [make_run_folder(tmp_path, name) for name in ("one", "one", "two", "three")]
    for seconds, folder in enumerate(folders[:3]):  # the fourth never began
        (folder / "config.yaml").touch()
        os.utime(folder / "config.yaml", (seconds, seconds))
    assert newest_run_folder(tmp_path) == folders[2]
    (folders[0] / "checkpoints").mkdir()
    (folders[0] / "checkpoints" / "last.ckpt").touch()
    assert newest_run_folder(tmp_path) == folders[0]


def test_the_command_is_quoted() -> None:
    command = shlex.split(resume_command(Path("my runs/it's/version_0")))
    assert command == ["python", "train.py", "fit", "--resume", "my runs/it's/version_0"]
