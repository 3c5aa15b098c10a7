from pathlib import Path

import pytest

from dreambooth_pl.commands.train_parser import Parser, check_config_files
from dreambooth_pl.errors import UserError


@pytest.fixture()
def parser() -> Parser:
    parser = Parser()
    parser.add_argument("--data.instance_dir", type=str, default="photos")
    parser.add_argument("--model.rank", type=int, default=8)
    return parser


def test_an_unknown_key_comes_with_the_nearest_known(parser) -> None:
    with pytest.raises(UserError, match=r"^Unknown key data.instance_dri. Did you mean data.inst"):
        parser.parse_args(["--data.instance_dri", "x"])


def test_an_unknown_key_without_a_likeness(parser) -> None:
    with pytest.raises(UserError, match=r"^Unknown key zzz. See python train.py fit --help"):
        parser.parse_args(["--zzz=1"])


def test_a_value_of_the_wrong_type_names_its_key(parser) -> None:
    with pytest.raises(UserError, match="model.rank"):
        parser.parse_args(["--model.rank", "many"])


@pytest.mark.parametrize("form", [["--config", "{}"], ["--config={}"], ["-c", "{}"]])
def test_a_config_file_that_is_not_there(tmp_path: Path, form) -> None:
    path = tmp_path / "nowhere.yaml"
    with pytest.raises(UserError, match="nowhere.yaml.*cannot be read"):
        check_config_files(["fit", *(part.format(path) for part in form)])


def test_sound_config_files_pass(tmp_path: Path) -> None:
    path = tmp_path / "sound.yaml"
    path.write_text("model:\n  rank: 4\n")
    check_config_files(["fit", "--config", str(path), "--model.rank", "2"])
