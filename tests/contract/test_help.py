"""The options of `train.py fit` are a promise: adding or losing one must be meant."""

import re
import sys
from pathlib import Path

import pytest

from dreambooth_pl.commands.train import main

GOLDEN = Path(__file__).parents[1] / "golden" / "fit_options.txt"


@pytest.fixture()
def help_text(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_options_are_frozen(help_text: str, update_golden: bool) -> None:
    options = re.findall(r"^  (?:-\w [A-Z]+, )?(--[\w.-]+)", help_text, flags=re.MULTILINE)
    options = sorted({option for option in options if not option.endswith(".help")})
    if update_golden:
        GOLDEN.write_text("\n".join(options) + "\n")
    assert options == GOLDEN.read_text().splitlines()


@pytest.mark.parametrize(
    "group", ["data", "model", "model.lora", "sampling", "probe", "validation", "fidelity"]
)
def test_every_own_key_is_explained(help_text: str, group: str) -> None:
    entries = re.split(r"\n(?=  --)", help_text)
    own = [e for e in entries if re.match(rf"  --{re.escape(group)}\.\w+ (?!CONFIG )", e)]
    assert own
    for entry in own:
        text = re.sub(r"^  --\S+.*?(\n|  )", "", entry)
        explained = text.split("(type:")[0].split()
        assert len(explained) >= 1, entry
        assert "default: " in " ".join(entry.split()), entry
