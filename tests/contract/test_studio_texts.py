"""Every language of the studio says the same, and all that the pages ask for."""

import re
import string
from pathlib import Path

import pytest

import dreambooth_pl
from dreambooth_pl.studio.presets import CONFIGS, PRESETS, bases, preset_values
from dreambooth_pl.studio.texts import LANGUAGES, read_language

STUDIO = Path(dreambooth_pl.__file__).parent / "studio"
SOURCES = [path.read_text(encoding="utf-8") for path in sorted(STUDIO.rglob("*.py"))]
ENGLISH = read_language("en")


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_there_is_a_file_for_each_language() -> None:
    assert {path.stem for path in (STUDIO / "languages").glob("*.yaml")} == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_say_the_same(language: str) -> None:
    own = read_language(language)
    assert own.keys() == ENGLISH.keys()
    for key, text in own.items():
        assert isinstance(text, str) and text.strip(), key
        assert placeholders(text) == placeholders(ENGLISH[key]), key


def test_russian_is_russian() -> None:
    letters = re.compile("[а-яё]", re.IGNORECASE)
    names = ("base.sd", "take.format.", "generate.guidance")
    latin = [k for k, text in read_language("ru").items() if not letters.search(text)]
    assert [key for key in latin if not key.startswith(names)] == []


def test_every_text_is_used_and_every_used_text_is_there() -> None:
    whole = {key for text in SOURCES for key in re.findall(r"\btexts\(\s*[\"']([\w.]+)[\"']", text)}
    parts = {
        part for text in SOURCES for part in re.findall(r"\btexts\(\s*f[\"']([\w.]+)\.\{", text)
    }
    assert whole <= ENGLISH.keys()
    unused = {key for key in ENGLISH if key not in whole and key.rpartition(".")[0] not in parts}
    assert not unused


def test_the_protocols_are_those_of_evaluate() -> None:
    pytest.importorskip("gradio")
    from dreambooth_pl.evaluation.protocols import DEFAULT, PROTOCOLS
    from dreambooth_pl.studio.tabs import compare

    assert set(compare.PROTOCOLS) == set(PROTOCOLS) and compare.PROTOCOLS[0] == DEFAULT


def test_every_base_and_preset_has_a_name_and_a_file() -> None:
    assert {path.stem for path in (CONFIGS / "base").glob("*.yaml")} == set(bases())
    for base in bases():
        assert f"base.{base}" in ENGLISH
        steps = [preset_values(base, preset)["trainer.max_steps"] for preset in PRESETS]
        assert steps == sorted(set(steps))
