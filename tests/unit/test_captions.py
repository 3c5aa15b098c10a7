"""Captions: read from files as people write them, and followed to the UNet."""

from __future__ import annotations

import json
import unicodedata
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
    report = DreamBoothDataModule(
        instance_dir=str(photo_dir), captions="files", resolution=32
    ).report
    # the text encoder reads every case alike, so Sks-like says the identifier
    assert [note.path.name for note in report.warned] == ["01.png", "03.png"]
    assert "'a dog' does not say 'sks'" in "\n".join(report.lines())
    unread = DreamBoothDataModule(instance_dir=str(photo_dir), resolution=32).report
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


def everyone(**changes: object) -> list[object]:
    """A line for each photo, that of 00.png changed."""
    return [{"file_name": name, "text": "a"} | (changes if n == 0 else {}) for n, name in
            enumerate(NAMES)]  # fmt: skip


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0c", "\x1c", "\v"])
def test_only_a_line_feed_ends_a_line(photo_dir: Path, separator: str) -> None:
    lines = everyone(text=f"a dog{separator}asleep")
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    for raw, escaped in (("\x0c", "\\f"), ("\x1c", "\\u001c"), ("\v", "\\u000b")):
        text = text.replace(escaped, raw)  # as other tools write them, though JSON forbids it
    (photo_dir / "metadata.jsonl").write_text(text.replace("\n", "\r\n"), encoding="utf-8")
    assert prompts_of(photo_dir)["00.png"] == "a dog asleep"
    (photo_dir / "metadata.jsonl").unlink()
    write_captions(photo_dir, f"a{separator}dog", *"bcde")
    assert prompts_of(photo_dir)["00.png"] == "a dog"


@pytest.mark.parametrize("name", ["./00.png", ".//00.png", ".\\00.png"])
def test_metadata_may_say_that_a_photo_lies_here(photo_dir: Path, name: str) -> None:
    write_metadata(photo_dir, everyone(file_name=name, text="mine"))
    assert prompts_of(photo_dir)["00.png"] == "mine"


@pytest.mark.parametrize(
    "name",
    ["../00.png", "/etc/passwd", "a/../00.png", "C:\\photos\\00.png", "..\\00.png", "//host/a.png"],
)
def test_metadata_leads_nowhere_else(photo_dir: Path, name: str) -> None:
    write_metadata(photo_dir, everyone(file_name=name))
    with pytest.raises(UserError, match="line 1: .* leads out of the folder"):
        prompts_of(photo_dir)


def test_metadata_names_no_link_out_of_the_folder(photo_dir: Path, tmp_path: Path) -> None:
    (photo_dir / "00.png").rename(tmp_path / "elsewhere.png")
    (photo_dir / "00.png").symlink_to(tmp_path / "elsewhere.png")
    write_metadata(photo_dir, everyone())
    with pytest.raises(UserError, match="line 1: '00.png' is a link out of the folder"):
        prompts_of(photo_dir)
    (photo_dir / "00.png").unlink()
    (photo_dir / "00.png").symlink_to("01.png")
    assert len(prompts_of(photo_dir)) == 5


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", "\ufeff\0"])
def test_odd_json_is_no_traceback(photo_dir: Path, text: str) -> None:
    (photo_dir / "metadata.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"metadata.jsonl, line 1: (is not JSON|file_name must)"):
        prompts_of(photo_dir)


@pytest.mark.parametrize("name", ["a" * 300 + ".png", "a\0.png", "\udcff.png"])
def test_odd_names_in_metadata_are_of_no_photo(photo_dir: Path, name: str) -> None:
    lines = [*everyone(), {"file_name": name, "text": "no matter"}]
    write_metadata(photo_dir, lines)
    assert len(prompts_of(photo_dir)) == 5


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_compared_in_one_form(photo_dir: Path, forms: tuple[str, str]) -> None:
    photo, caption = (unicodedata.normalize(form, "Hündin") for form in forms)
    (photo_dir / "00.png").rename(photo_dir / f"{photo}.png")
    write_captions(photo_dir, *"abcde")
    (photo_dir / "00.txt").rename(photo_dir / f"{caption}.txt")
    assert prompts_of(photo_dir)[f"{photo}.png"] == "a"
    write_metadata(photo_dir, everyone(file_name=f"{caption}.png", text="mine"))
    assert prompts_of(photo_dir)[f"{photo}.png"] == "mine"


@pytest.mark.parametrize("suffix", [".caption", ".TXT", ".Caption"])
def test_captions_of_other_tools(photo_dir: Path, suffix: str) -> None:
    for name in NAMES:
        (photo_dir / name).with_suffix(suffix).write_text(f"{{identifier}} {name}")
    assert prompts_of(photo_dir) == {name: f"sks {name}" for name in NAMES}


def test_captions_of_the_whole_name_and_the_one_that_is_preferred(photo_dir: Path) -> None:
    for name in NAMES:
        (photo_dir / f"{name}.txt").write_text(f"sks {name}")
    assert prompts_of(photo_dir) == {name: f"sks {name}" for name in NAMES}
    (photo_dir / "00.caption").write_text("sks of kohya")
    (photo_dir / "00.txt").write_text("sks first")
    data = DreamBoothDataModule(instance_dir=str(photo_dir), captions="auto", resolution=32)
    assert data.views[0].prompt == "sks first"
    unread = {note.path.name: note.text for note in data.report.warned}
    assert unread == dict.fromkeys(
        ("00.png.txt", "00.caption"), "is not read; 00.txt is the caption of 00.png"
    )


def test_auto_says_what_it_chose(photo_dir: Path) -> None:
    def line() -> str:
        (remark,) = DreamBoothDataModule(
            instance_dir=str(photo_dir), captions="auto"
        ).report.remarks
        return remark

    assert line() == "captions (auto): data.instance_prompt for all, for there are no others"
    write_captions(photo_dir, *"abcde")
    assert line() == "captions (auto): from a text file beside each photo"
    write_metadata(photo_dir, everyone())
    assert line() == "captions (auto): from metadata.jsonl"
    assert DreamBoothDataModule(instance_dir=str(photo_dir), captions="files").report.remarks == ()


def test_a_caption_from_windows(photo_dir: Path) -> None:
    write_captions(photo_dir, *"abcde")
    (photo_dir / "00.txt").write_text("eine Hündin\r\nim Schnee", encoding="utf-16")
    assert prompts_of(photo_dir)["00.png"] == "eine Hündin im Schnee"
    (photo_dir / "00.txt").write_text("dog " * 50_000)
    with pytest.raises(UserError, match=r"00\.txt: has 200000 bytes, too many"):
        prompts_of(photo_dir)


def test_a_name_that_is_no_utf8_ends_nothing(
    tiny_base_dir: Path, photo_dir: Path, tmp_path: Path
) -> None:
    (photo_dir / "00.png").rename(photo_dir / "Hund\udcff\n.png")
    write_captions(photo_dir, *"abcde")
    (photo_dir / "00.txt").rename(photo_dir / "Hund\udcff\n.txt")
    data = DreamBoothDataModule(
        instance_dir=str(photo_dir), captions="auto", resolution=32, num_class_images=0,
        crop="random", aspect_ratio_buckets=True,
    )  # fmt: skip
    lines = "\n".join(data.report.lines())
    assert r"Hund\udcff\n.png: its caption 'a' does not say 'sks'" in lines
    lines.encode("utf-8")
    assert len(recorded_fit(tiny_base_dir, data, tmp_path, 1)) == 1
