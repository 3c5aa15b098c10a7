"""Captions: read from files as people write them, and followed to the UNet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from recorded_fit import encoded_by_hand, recorded_fit

from dreambooth_pl.data.captions import read_captions
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.errors import UserError

NAMES = ("00.png", "01.png", "02.jpg", "03.png", "04.jpg")


def write_captions(folder: Path, *texts: str) -> None:
    for name, text in zip(NAMES, texts, strict=True):
        (folder / name).with_suffix(".txt").write_text(text, encoding="utf-8")


def write_metadata(folder: Path, lines: list[object]) -> None:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")


def prompts_of(folder: Path, captions: str = "auto", **settings: object) -> dict[str, str]:
    data = DreamBoothDataModule(
        instance_dir=str(folder), captions=captions, resolution=32, num_class_images=0, **settings
    )
    return {view.path.name: view.prompt for view in data.views}


def test_one_caption_for_all(photo_dir: Path) -> None:
    prompts = prompts_of(photo_dir, instance_prompt="photo of {identifier} the {class}")
    assert prompts == dict.fromkeys(NAMES, "photo of sks the dog")


def test_caption_files(photo_dir: Path) -> None:
    write_captions(
        photo_dir, "a {identifier} {class}\n", "\ufeffsks dog,\nasleep", "{class}", "sks", " a  b "
    )
    expected = ("a sks dog", "sks dog, asleep", "dog", "sks", "a b")
    assert prompts_of(photo_dir) == dict(zip(NAMES, expected, strict=True))
    assert prompts_of(photo_dir, "files") == prompts_of(photo_dir, "auto")
    assert prompts_of(photo_dir, "template") == dict.fromkeys(NAMES, "a sks dog")


def test_a_caption_files_name_may_be_in_capitals(photo_dir: Path) -> None:
    write_captions(photo_dir, *NAMES)
    (photo_dir / "02.txt").rename(photo_dir / "02.TXT")
    assert prompts_of(photo_dir)["02.jpg"] == "02.jpg"


def test_metadata_comes_before_caption_files(photo_dir: Path) -> None:
    write_captions(photo_dir, *NAMES)
    lines = [{"file_name": name, "text": f"{{class}} {name}", "more": 1} for name in NAMES]
    write_metadata(photo_dir, [*lines[::-1], "", {"file_name": "gone.png", "text": "no matter"}])
    expected = {name: f"dog {name}" for name in NAMES}
    assert prompts_of(photo_dir) == prompts_of(photo_dir, "metadata") == expected
    assert prompts_of(photo_dir, "files") == dict(zip(NAMES, NAMES, strict=True))


def test_what_looks_wrong_is_said(photo_dir: Path) -> None:
    write_captions(photo_dir, "a sks dog", "a dog", "sks", "asks dog", "Sks-like")
    report = DreamBoothDataModule(instance_dir=str(photo_dir), captions="files").report
    assert [note.path.name for note in report.warned] == ["01.png", "03.png", "04.jpg"]
    assert "'a dog' does not say 'sks'" in "\n".join(report.lines())
    unread = DreamBoothDataModule(instance_dir=str(photo_dir)).report
    assert [note.path.name for note in unread.warned] == [f"0{n}.txt" for n in range(5)]
    assert "set data.captions to auto" in unread.warned[0].text
    assert len(unread.used) == 5 and not unread.refused


LINE = {"file_name": "00.png", "text": "a"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([LINE], "no caption for 01.png, 02.jpg, 03.png, 04.jpg"),
        ([LINE, "{not json"], "metadata.jsonl, line 2: is not JSON"),
        ([LINE, ["a", "list"]], "line 2: is not a JSON object"),
        ([{"file_name": "00.png", "caption": "a"}], "line 1: text must .*file_name, caption"),
        ([{"file_name": "00.png", "text": " "}], "line 1: text must be text that is not empty"),
        ([{"file_name": 7, "text": "a"}], "line 1: file_name must be text"),
        ([LINE, LINE], "line 2: 00.png has a caption already"),
        ([LINE | {"file_name": n, "text": "{who}"} for n in NAMES], "caption of 00.png: .*{who}"),
    ],
)
def test_mistakes_in_metadata_name_the_line(photo_dir: Path, lines, message: str) -> None:
    write_metadata(photo_dir, lines)
    with pytest.raises(UserError, match=message):
        prompts_of(photo_dir)


def test_mistakes_in_caption_files_name_the_file(photo_dir: Path) -> None:
    with pytest.raises(UserError, match=r"00\.txt: the caption of 00.png is missing"):
        prompts_of(photo_dir, "files")
    with pytest.raises(UserError, match="metadata.jsonl: there is no such file"):
        prompts_of(photo_dir, "metadata")
    write_captions(photo_dir, "a", "b", "c", "d", " \n")
    with pytest.raises(UserError, match=r"04\.txt: the caption of 04.jpg is empty"):
        prompts_of(photo_dir)
    (photo_dir / "04.txt").write_text("a {dog}")
    with pytest.raises(UserError, match=r"04\.txt: caption of 04.jpg: .*{dog}"):
        prompts_of(photo_dir)
    (photo_dir / "04.txt").write_bytes("Hündin".encode("latin-1"))
    with pytest.raises(UserError, match=r"04\.txt: is not UTF-8 text"):
        prompts_of(photo_dir)


def test_captions_are_of_the_photos_that_are_used(photo_dir: Path) -> None:
    photos = [photo_dir / name for name in ("03.png", "00.png")]
    write_metadata(photo_dir, [{"file_name": n, "text": n} for n in NAMES])
    assert read_captions("metadata", photos, "", "sks", "dog") == ["03.png", "00.png"]


@pytest.mark.parametrize("train_text_encoder", [False, True])
def test_each_sample_is_shown_with_its_own_caption(
    tiny_base_dir: Path, photo_dir: Path, tmp_path: Path, train_text_encoder: bool
) -> None:
    texts = [f"a {{identifier}} {{class}} {word}" for word in ("asleep", "awake", "in", "on", "at")]
    write_captions(photo_dir, *texts)
    data = DreamBoothDataModule(
        instance_dir=str(photo_dir),
        captions="files",
        resolution=32,
        batch_size=5,
        caption_dropout=0.4,
    )
    data.set_class_images([photo_dir / "00.png"] * 2)
    steps = recorded_fit(
        tiny_base_dir, data, tmp_path, 2, train_text_encoder=train_text_encoder,
        learning_rate=1e-30, text_encoder_learning_rate=1e-30,
    )  # fmt: skip
    captions = [text.format(identifier="sks", **{"class": "dog"}) for text in texts]
    dropped = []
    for step in steps:
        (call,) = step.calls
        of_photos = [captions[view] for view in step.batch["instance_view"]]
        assert sorted(of_photos) == sorted(captions)  # five photos, five samples
        prompts = [
            "" if drop else prompt
            for drop, prompt in zip(step.batch["caption_dropped"], of_photos, strict=True)
        ]
        for row, prompt in enumerate([*prompts, *["a dog"] * 5]):
            torch.testing.assert_close(
                call.hidden_states[row], encoded_by_hand(tiny_base_dir, prompt), msg=prompt
            )
        dropped += step.batch["caption_dropped"]
    assert 0 < sum(dropped) < 10


def test_captions_are_dropped_as_often_as_asked(photo_dir: Path) -> None:
    data = DreamBoothDataModule(instance_dir=str(photo_dir), caption_dropout=0.25)
    samples = data.samples(2000)
    dropped = [sample["caption_dropped"] for sample in samples]
    assert abs(sum(dropped) / 2000 - 0.25) < 0.03
    assert [samples[i]["caption_dropped"] for i in range(50)] == dropped[:50]
    without = DreamBoothDataModule(instance_dir=str(photo_dir)).samples(5)[0]
    assert "caption_dropped" not in without
