"""What the studio takes and hands out: names never become paths, and links do not lead out."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dreambooth_pl.errors import UserError
from dreambooth_pl.studio import subjects as subjects_module
from dreambooth_pl.studio.crops import MIDDLE, move_crop
from dreambooth_pl.studio.served_files import ServedFiles
from dreambooth_pl.studio.subjects import EXAMPLE, Subjects, stored_name
from dreambooth_pl.studio.views.photo_cards import photo_cards
from dreambooth_pl.studio.workspace import Workspace, safe_name


@pytest.fixture()
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "work")
    workspace.make()
    (workspace.runs / "sks/version_0/probes").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(workspace.runs / "sks/version_0/probes/a b.png")
    (workspace.runs / "sks/version_0/checkpoint.ckpt").write_bytes(b"x")
    (tmp_path / "secret.png").write_bytes(b"x")
    (workspace.root / "beside.png").write_bytes(b"x")
    return workspace


def test_a_file_is_found_by_its_own_address(workspace: Workspace) -> None:
    files = ServedFiles(workspace)
    path = workspace.runs / "sks/version_0/probes/a b.png"
    address = files.address(path)
    assert address.startswith("/files/runs/sks/version_0/probes/a%20b.png?")
    assert files.find("runs", "sks/version_0/probes/a b.png") == path.resolve()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../secret.png",
        "../beside.png",
        "sks/../../beside.png",
        "sks/version_0/../../../../secret.png",
        "link.png",
        "folder/secret.png",
        ".hidden/a.png",
        "sks/version_0/checkpoint.ckpt",  # no kind of file that is shown or downloaded
        "sks/version_0/probes",
        "sks//version_0/probes/a b.png",
        "nothing.png",
        "nul\0.png",
        "loop.png",
        "",
        "x" * 5000 + ".png",
    ],
)
def test_nothing_else_is_handed_out(workspace: Workspace, path: str) -> None:
    (workspace.runs / "link.png").symlink_to(workspace.root.parent / "secret.png")
    (workspace.runs / "folder").symlink_to(workspace.root.parent)
    (workspace.runs / "loop.png").symlink_to(workspace.runs / "loop.png")
    (workspace.runs / ".hidden").mkdir()
    (workspace.runs / ".hidden/a.png").write_bytes(b"x")
    files = ServedFiles(workspace)
    assert files.find("runs", path) is None
    assert files.find("subjects", path) is None
    absolute = str(workspace.root.parent / "secret.png")
    assert files.find("runs", absolute) is None


@pytest.mark.parametrize(
    "name",
    ["../../etc/cron.png", "..\\..\\boot.png", "/etc/passwd.png", "a\0b.png", "\n.png"],
)
def test_uploads_stay_in_their_folder(workspace: Workspace, name: str) -> None:
    stored = stored_name(name)
    assert stored is not None
    folder = workspace.subjects.resolve()
    assert (folder / stored).resolve().parent == folder
    assert stored.removesuffix(".png").replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "name", ["run.sh", "page.html", "photo.svg", "noending", ".png.exe", "....png"]
)
def test_other_kinds_of_files_are_not_taken(name: str) -> None:
    assert stored_name(name) is None


@pytest.mark.parametrize("name", ["", "...", "///", "..", "\0"])
def test_a_subject_needs_a_name(workspace: Workspace, name: str) -> None:
    assert safe_name(name) == ""
    with pytest.raises(UserError, match="a name"):
        Subjects(workspace).set_words(name, "dog", "sks")
    with pytest.raises(UserError, match="no subject"):
        Subjects(workspace).get(name)


def test_files_beyond_the_limits_are_refused(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = Subjects(workspace)
    subject = subjects.set_words("Rex", "dog", "sks")
    large = tmp_path / "large.png"
    Image.new("RGB", (400, 400)).save(large)
    monkeypatch.setattr(subjects_module, "MAX_BYTES", 100)
    (told,) = subjects.add_files(subject, [large])
    assert "large.png" in told and not any(subject.photos.iterdir())
    monkeypatch.setattr(subjects_module, "MAX_FILES", 1)
    with pytest.raises(UserError, match="more than 1"):
        subjects.add_files(subject, [large, large])


def test_photos_are_kept_under_names_of_their_own(workspace: Workspace, photo_dir: Path) -> None:
    subjects = Subjects(workspace)
    subject = subjects.set_words("Мой пёс", "dog", "sks")
    files = sorted(photo_dir.iterdir())
    assert subjects.add_files(subject, [*files, files[0]]) == []
    kept = sorted(path.name for path in subject.photos.iterdir())
    assert kept == ["00-2.png", "00.png", "01.png", "02.jpg", "03.png", "04.jpg"]
    subjects.caption(subject, "00.png", "a {identifier} {class} on grass")
    assert (subject.photos / "00.txt").is_file()
    subjects.remove(subject, "00.png")
    assert not (subject.photos / "00.png").exists() and not (subject.photos / "00.txt").exists()
    for name in ("../subject.yaml", "/etc/passwd", ""):
        with pytest.raises(UserError, match="no photo"):
            subjects.remove(subject, name)
    with pytest.raises(UserError, match="example"):
        subjects.remove(subjects.get(EXAMPLE), "00.png")


def test_each_photo_has_its_verdict(workspace: Workspace, photo_dir: Path) -> None:
    from dreambooth_pl.studio.texts import Texts

    subjects = Subjects(workspace)
    subject = subjects.set_words("Rex", "dog", "sks")
    html, used = photo_cards(subject, 32, Texts("en"))
    assert used == [] and "No photos yet" in html
    broken = photo_dir / "broken <b>.png"
    broken.write_bytes(b"no picture")
    subjects.add_files(subject, sorted(photo_dir.iterdir()))
    (subject.photos / "01.txt").write_text("a <i>sks</i> dog")
    html, used = photo_cards(subject, 32, Texts("en"))
    assert used == ["00.png", "01.png", "02.jpg", "03.png", "04.jpg"]
    assert html.count("<li") == 6 and html.count('class="st-photo refused"') == 1
    assert "&lt;i&gt;sks" in html and "<i>" not in html


def test_a_crop_can_be_moved_and_brought_back(workspace: Workspace, tmp_path: Path) -> None:
    subject = Subjects(workspace).set_words("Rex", "dog", "sks")
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste("blue", (60, 0, 90, 30))
    path, mask = subject.photos / "wide.png", subject.photos / "wide.mask.png"
    wide.save(path)
    wide.getchannel("B").save(mask)
    before = path.read_bytes()
    for place, colour, white in ((1.0, (0, 0, 255), 255), (0.0, (255, 0, 0), 0)):
        move_crop(subject, path, place)  # each time from the original
        with Image.open(path) as image, Image.open(mask) as of_mask:
            assert image.size == of_mask.size == (30, 30)
            assert image.getpixel((15, 15)) == colour and of_mask.getpixel((15, 15)) == white
    assert sorted(one.name for one in subject.photos.iterdir()) == ["wide.mask.png", "wide.png"]
    move_crop(subject, path, MIDDLE)
    assert path.read_bytes() == before
    move_crop(subject, path, 1.0)
    Subjects(workspace).remove(subject, "wide.png")
    assert not any(file for file in subject.photos.parent.rglob("wide*"))
    with pytest.raises(UserError, match="example"):
        example = Subjects(workspace).get(EXAMPLE)
        move_crop(example, example.photos / "00.png", 1.0)
