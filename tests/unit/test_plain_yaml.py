"""YAML of users: what is written twice or blows up is refused, wherever it is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dreambooth_pl.benchmark.spec import read_benchmark
from dreambooth_pl.commands.train_parser import check_config_files
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.plain_yaml import YAMLError, load_yaml, read_yaml
from dreambooth_pl.prompts import prompt_set
from dreambooth_pl.runs.resume import resumed_run

TWICE = "data:\n  identifier: sks\nmodel: {}\ndata:\n  class_noun: dog\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
HOSTILE = {
    "twice": (TWICE, "line 4: the key 'data' .*first in line 1"),
    "twice inside": ("a: {b: 1, b: 2}", "line 1: the key 'b'"),
    "bomb": (BOMB, "aliases"),
    "merge bomb": (BOMB + "z:\n  <<: [{a: *a9}, {b: *a9}]\n", "aliases"),
    "alias in itself": ("a: &a [*a]", "line 1: an alias"),
    "deep": ("[" * 5000, "nested too deeply"),
    "date": ("a: 2020-13-45", "makes no sense"),
    "long number": ("a: " + "1" * 5000, "makes no sense"),
    "long hexadecimal number": ("a: 0x" + "f" * 5000, "too large"),
    "tag": ("a: !!python/object/apply:os.system [ls]", "python/object"),
    "number's tag": ("a: !!int ''", "makes no sense"),
    "truth's tag": ("a: !!bool perhaps", "makes no sense"),
    "date's tag": ("a: !!timestamp x", "makes no sense"),
    "list as key": ("{[1]: 2}", "unhashable"),
}
hostile = pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)


@hostile
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(YAMLError) as told:
        load_yaml(text)
    assert re.search(message, str(told.value))


def test_aliases_and_merge_keys_of_ordinary_size_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3\nc: [*a, *a]\n"
    a = {"x": 1, "y": 2}
    assert load_yaml(text) == {"a": a, "b": {"x": 3, "y": 2}, "c": [a, a]}


@hostile
@pytest.mark.parametrize(
    "read",
    [
        lambda path: check_config_files(["fit", "--config", str(path)]),
        read_benchmark,
        prompt_set,
        read_yaml,
    ],
    ids=["config", "benchmark", "prompts", "run"],
)
def test_every_reader_refuses_it(tmp_path: Path, text: str, message: str, read) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"hostile\.yaml"):
        read(path)


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="a file that Linux cannot read")
@pytest.mark.parametrize("read", [read_yaml, read_benchmark, prompt_set])
def test_a_file_that_cannot_be_read_is_told(read) -> None:
    with pytest.raises(UserError, match="/proc/self/mem.* cannot be read: "):
        read(Path("/proc/self/mem"))


@pytest.mark.parametrize("text", ["trainer: 5", "trainer:", "trainer: {default_root_dir: 5}", "{}"])
def test_resume_last_survives_a_trainer_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "own.yaml"
    config.write_text(text)
    with pytest.raises(UserError, match="there is no run under"):
        resumed_run(["fit", "--resume", "last", "--config", str(config)], first=True)
