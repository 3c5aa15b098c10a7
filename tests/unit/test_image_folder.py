"""Folders of images as other tools write them, and what is wrong with some."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.image_folder import (
    INDEX,
    Words,
    read_image_folder,
    read_plain_folder,
    write_index,
)
from dreambooth_pl.evaluation.protocols import make_plan

PROMPTS = "- a {identifier} {class} at sea\n- a red {identifier} {class}\n"


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """Two images of each of two prompts, by name, in folders and in one."""
    (tmp_path / "prompts.yaml").write_text(PROMPTS)
    images = tmp_path / "images"
    (images / "1").mkdir(parents=True)
    for place, name in enumerate(("0_0.png", "000_1.jpg", "1/0.png", "1/01.webp"), start=1):
        Image.new("RGB", (8, 8), (place * 40, 10, 10)).save(images / name, quality=100)
    return images


def words_of(folder: Path, **changes: str | None) -> Words:
    prompts = str(folder.parent / "prompts.yaml")
    return Words(**({"prompts": prompts, "identifier": "sks", "class_noun": "dog"} | changes))


def write_lines(folder: Path, *entries: dict) -> None:
    (folder / INDEX).write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_by_name(folder: Path) -> None:
    plan, images = read_image_folder(folder, words_of(folder))
    assert plan.prompts == ("a sks dog at sea",) * 2 + ("a red sks dog",) * 2
    assert plan.class_texts == ("a dog at sea",) * 2 + ("a red dog",) * 2
    assert len(set(plan.templates)) == 2
    reds = [image.getpixel((4, 4))[0] for image in images]
    assert reds == pytest.approx([40, 80, 120, 160], abs=3)


def test_by_index(folder: Path) -> None:
    write_lines(
        folder,
        {"file_name": "1/0.png", "prompt": "a sks dog at sea"},
        {"file_name": "0_0.png", "prompt": "a red sks dog", "kind": "property", "seed": 3},
        {"file_name": "1/01.webp", "prompt": "a sks dog at sea", "class_text": "an animal"},
        {"file_name": "000_1.jpg", "prompt": "a red sks dog"},
    )
    plan, images = read_image_folder(folder, Words(identifier="sks"))
    assert plan.class_texts == ("a dog at sea", "a red dog", "an animal", "a red dog")
    assert plan.kinds == ("", "property", "", "")
    assert plan.requests[1].seed == 3
    assert images[0].getpixel((4, 4))[0] == 120
    plan, _ = read_image_folder(folder, words_of(folder))  # the prompts' file has the last word
    assert plan.class_texts[2] == "a dog at sea"


def test_only_a_line_feed_ends_a_line(folder: Path) -> None:
    names = ("0_0.png", "000_1.jpg", "1/0.png", "1/01.webp")
    entries = [{"file_name": name, "prompt": "a sks dog\u2028at sea"} for name in names]
    lines = "\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    (folder / INDEX).write_text(lines, encoding="utf-8")
    assert read_image_folder(folder, Words(identifier="sks"))[0].prompts[0] == entries[0]["prompt"]


def test_our_own_index_comes_back_as_it_was(tmp_path: Path) -> None:
    plan = make_plan("probes", "sks", "dog", 42, "it")
    names = [f"{number}.png" for number in range(8)]
    for name in names:
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    write_index(tmp_path, names, plan)
    assert read_image_folder(tmp_path, Words())[0] == plan


def test_plain_images_by_name_or_as_listed(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "c.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    assert list(read_plain_folder(tmp_path)) == ["a", "b", "c"]
    write_lines(
        tmp_path,
        {"file_name": "c.png", "prompt": "a dog"},
        {"file_name": "a.png", "prompt": "a dog"},
    )
    assert list(read_plain_folder(tmp_path)) == ["c", "a"]  # b is from before


def black(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "0_0.png")


def unlisted(folder: Path) -> None:
    write_lines(folder, {"file_name": "0_0.png", "prompt": "a sks dog at sea"})


def gone(folder: Path) -> None:
    (folder / "1" / "0.png").unlink()
    (folder / "1" / "01.webp").unlink()


def missing_file(folder: Path) -> None:
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")]
    entries = [{"file_name": name, "prompt": "a red sks dog"} for name in [*files, "no.png"]]
    write_lines(folder, *entries, {"file_name": "x.png", "prompt": "a sks dog at sea"})


def other_prompt(folder: Path) -> None:
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")]
    write_lines(folder, *({"file_name": name, "prompt": "a cat"} for name in files))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (black, r"0_0\.png is black"),
        (lambda folder: (folder / "0_0.png").write_bytes(b"?"), r"0_0\.png"),
        (lambda folder: (folder / "0_0.png").rename(folder / "dog.png"), r"dog\.png: which prompt"),
        (lambda folder: (folder / "0_0.png").rename(folder / "2_0.png"), "there are 2 prompts"),
        (lambda folder: (folder / "0_0.png").rename(folder / "0_1.png"), "same image by name"),
        (gone, "no image of prompt 1, 'a red sks dog'"),
        (unlisted, "is not in metadata.jsonl"),
        (lambda folder: (folder / INDEX).write_text("{"), "line 1 is not JSON"),
        (lambda folder: (folder / INDEX).write_text('{"prompt": "a"}'), "line 1 has no file_name"),
        (missing_file, r"no\.png"),
        (other_prompt, "'a cat'.*none of --prompts"),
    ],
)
def test_nothing_is_passed_over(
    folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises(UserError, match=message):
        read_image_folder(folder, words_of(folder))


def test_what_a_name_cannot_say_is_asked_for(folder: Path) -> None:
    with pytest.raises(UserError, match="--prompts"):
        read_image_folder(folder, Words())
    with pytest.raises(UserError, match="--class-noun"):
        read_image_folder(folder, words_of(folder, class_noun=None))
    with pytest.raises(UserError, match="no folder of images"):
        read_image_folder(folder / "nowhere", Words())
