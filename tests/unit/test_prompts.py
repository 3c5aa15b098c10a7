"""Facts against counts in the paper; filling against hand-written sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import (
    CLASS_NOUNS,
    FIRST_IMAGE,
    IDENTIFIERS,
    PROMPT_SETS,
    SUBJECTS,
    fill,
    is_live,
    prompt_set,
)


def test_facts_have_the_papers_counts() -> None:
    live = [subject for subject, noun in SUBJECTS.items() if is_live(noun)]
    assert (len(SUBJECTS), len(live), len(CLASS_NOUNS)) == (30, 9, 15)
    assert IDENTIFIERS == ("sks", "http", "hta", "oue")
    for name in ("dreambench_live", "dreambench_object"):
        prompts = prompt_set(name)
        assert len(set(prompts.prompts)) == len(set(prompts.labels)) == 25
        assert all("{identifier} {class}" in p for p in prompts.prompts)
    shared = set(prompt_set("dreambench_live").prompts) & set(
        prompt_set("dreambench_object").prompts
    )
    assert len(shared) == 15  # ten settings, five properties


def test_probes_read_as_published() -> None:
    assert [fill(p, "sks", "dog") for p in prompt_set("probes").prompts] == [
        "A sks dog in red t-shorts.",
        "A sks dog in the style of van gogh.",
        "A sks dog in the forest.",
        "A sks dog driving car.",
    ]
    assert fill(FIRST_IMAGE, "sks", "dog") == "A sks dog"


@pytest.mark.parametrize(
    ("template", "identifier", "expected"),
    [
        ("a {identifier} {class}", "sks", "a sks dog"),
        ("a {identifier} {class}", None, "a dog"),
        ("a {identifier} {class}", "", "a dog"),
        ("a {class} called {identifier}", None, "a dog called"),
        ("{identifier}", None, ""),
        ("no placeholder", "sks", "no placeholder"),
        ("a {class} {identifier} {class}", "{class}", "a dog {class} dog"),
    ],
)
def test_fill(template: str, identifier: str | None, expected: str) -> None:
    assert fill(template, identifier, "dog") == expected


def test_an_unknown_placeholder_is_named() -> None:
    with pytest.raises(UserError, match=r"\{noun\}"):
        fill("a {identifier} {noun}", "sks", "dog")


@pytest.mark.parametrize("name", PROMPT_SETS)
def test_sets_are_found_by_name(name: str) -> None:
    assert prompt_set(name).name == name


def test_a_users_file(tmp_path: Path) -> None:
    plain = tmp_path / "mine.yaml"
    plain.write_text("- a {identifier} {class} at sea\n- a blue {class}\n")
    assert prompt_set(plain).name == "mine"
    assert prompt_set(plain).labels == ("at sea", "blue")
    named = tmp_path / "named.yaml"
    named.write_text("name: trial\nprompts:\n  sea: a {class} at sea\n")
    assert (prompt_set(named).name, prompt_set(str(named)).labels) == ("trial", ("sea",))


@pytest.mark.parametrize("content", ["", "just text", "prompts: []", "- 3", "- [a, b", "- a {dog}"])
def test_a_file_that_is_no_set_of_prompts_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match="broken.yaml"):
        prompt_set(path)


def test_a_missing_file() -> None:
    with pytest.raises(UserError, match="neither a set of prompts"):
        prompt_set("probe")
