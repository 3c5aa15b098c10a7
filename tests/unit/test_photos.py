"""Odd files made by hand, read back against the picture that they were made from."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngImageFile

from dreambooth_pl.bases.load import load_base
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.data.photos import MANY, Photos, prepare, read_photo, to_tensor, vet_folder
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.pictures import formats
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.training.encoder import Encoder

# The DreamBooth dataset's folder of subjects, where one is at hand: its photos are not in here.
WOLF = Path(os.environ.get("DREAMBENCH_DIR", "no dataset")) / "wolf_plushie"


def picture(width: int = 48, height: int = 32) -> Image.Image:
    """A picture that looks different from every side: red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).round().astype(np.uint8))


def difference(a: Image.Image, b: Image.Image) -> int:
    assert a.size == b.size
    assert a.mode == b.mode == "RGB"
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    upright = np.asarray(picture())
    # EXIF 2.32, 4.6.4: where the stored row 0 and column 0 are in the upright picture
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "turned.png", exif=exif)
    assert difference(read_photo(tmp_path / "turned.png"), picture()) == 0
    fixed = vet_folder(tmp_path).fixed
    assert [note.text for note in fixed] == ["turned upright as its EXIF data says"] * (
        orientation != 1
    )


def test_broken_exif_is_passed_over(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.jpg", exif=b"Exif\0\0" + b"\xff" * 40)
    assert read_photo(tmp_path / "a.jpg").size == (48, 32)


def test_the_first_picture_of_an_mpo(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    second = Image.new("RGB", (48, 32), "black")
    picture().save(path, format="MPO", save_all=True, append_images=[second], quality=95)
    plain = io.BytesIO()
    picture().save(plain, format="JPEG", quality=95)
    assert difference(read_photo(path), Image.open(plain)) == 0
    assert vet_folder(tmp_path).fixed[0].text == "took the first of 2 pictures in the file"


def test_cmyk(tmp_path: Path) -> None:
    picture().convert("CMYK").save(tmp_path / "print.jpg", quality=100)
    assert difference(read_photo(tmp_path / "print.jpg"), picture()) < 24  # JPEG's loss
    assert vet_folder(tmp_path).fixed[0].text == "converted from CMYK to RGB"


# Red, green and blue of two colour spaces in XYZ, adapted to D50 (their ICC profiles' own numbers).
DISPLAY_P3 = [
    [0.51512, 0.29198, 0.15710],
    [0.24120, 0.69225, 0.06657],
    [-0.00105, 0.04189, 0.78407],
]
SRGB = [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]


def icc_profile(name: str, primaries: list[list[float]]) -> bytes:
    """A colour profile of primaries and a gamma of 2.2, after ICC.1:2001, section 6."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + fixed(*values)

    text = name.encode() + b"\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(2.2 * 256), 0)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        **{
            colour + b"XYZ": xyz(*column)
            for colour, column in zip((b"r", b"g", b"b"), zip(*primaries, strict=True), strict=True)
        },
        **{colour + b"TRC": curve for colour in (b"r", b"g", b"b")},
    }
    table, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        offset = 128 + 4 + 12 * len(tags) + len(body)
        table += tag + struct.pack(">II", offset, len(data))
        body += data + bytes(-len(data) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head = head.ljust(36, b"\0") + b"acsp"
    return head.ljust(68, b"\0") + fixed(0.9642, 1.0, 0.8249) + bytes(48) + table + body


def test_colours_of_a_phone_become_srgb(tmp_path: Path) -> None:
    """Against the colour spaces' own matrices; the colour is within both."""
    shown = (200, 90, 60)
    profile = icc_profile("Display P3", DISPLAY_P3)
    Image.new("RGB", (8, 8), shown).save(tmp_path / "phone.png", icc_profile=profile)
    linear = (np.array(shown) / 255) ** 2.2
    linear = np.linalg.solve(np.array(SRGB), np.array(DISPLAY_P3) @ linear)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found = np.asarray(read_photo(tmp_path / "phone.png"))[0, 0]
    assert np.abs(found - 255 * encoded).max() < 2
    assert found[0] > 205  # a stronger red than the same numbers mean in sRGB
    (note,) = vet_folder(tmp_path).fixed
    assert note.text == "converted its colours from Display P3 to sRGB"


@pytest.mark.parametrize("profile", [b"no profile", icc_profile("sRGB IEC61966-2.1", SRGB)])
def test_other_profiles_change_nothing(tmp_path: Path, profile: bytes) -> None:
    picture().save(tmp_path / "a.png", icc_profile=profile)
    assert difference(read_photo(tmp_path / "a.png"), picture()) == 0
    assert vet_folder(tmp_path).fixed == ()


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 48 * 32).reshape(32, 48)
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "deep.png")
    grey = np.round(np.floor(values) / 65535 * 255).astype(np.uint8)
    expected = Image.fromarray(grey).convert("RGB")
    assert difference(read_photo(tmp_path / "deep.png"), expected) == 0
    assert vet_folder(tmp_path).fixed[0].text == "reduced to 8 bits a channel"
    Image.fromarray((values / 65535).astype(np.float32)).save(tmp_path / "float.tif")
    assert difference(read_photo(tmp_path / "float.tif"), expected) <= 1


def test_transparency_goes_onto_white(tmp_path: Path) -> None:
    image = picture().convert("RGBA")
    image.paste((9, 9, 9, 0), (0, 0, 16, 16))
    image.paste((0, 0, 0, 128), (16, 0, 32, 16))
    image.save(tmp_path / "alpha.png")
    read = read_photo(tmp_path / "alpha.png")
    assert read.getpixel((3, 3)) == (255, 255, 255)
    assert read.getpixel((20, 3)) == (127, 127, 127)
    assert read.getpixel((40, 30)) == picture().getpixel((40, 30))

    palette = Image.new("P", (48, 32), 1)
    palette.putpalette([200, 0, 0, 0, 0, 200])
    palette.paste(0, (0, 0, 8, 8))
    palette.save(tmp_path / "palette.png", transparency=0)
    read = read_photo(tmp_path / "palette.png")
    assert (read.getpixel((2, 2)), read.getpixel((20, 20))) == ((255, 255, 255), (0, 0, 200))

    grey = Image.new("LA", (48, 32), (0, 0))
    grey.save(tmp_path / "grey.png")
    assert read_photo(tmp_path / "grey.png").getextrema() == ((255, 255),) * 3
    notes = {note.path.name: note.text for note in vet_folder(tmp_path).fixed}
    assert notes == dict.fromkeys(notes, "put its transparent parts on white")
    assert len(notes) == 3


def test_a_folder_of_everything(tmp_path: Path) -> None:
    picture().save(tmp_path / "good.png")
    picture().convert("L").save(tmp_path / "grey.jpg")
    picture(200, 200).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    (tmp_path / "text.jpg").write_text("not a picture at all")
    (tmp_path / "notes.txt").write_text("about the dog")
    (tmp_path / "empty.png").touch()
    (tmp_path / "IMG_0001.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (tmp_path / "renamed.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (tmp_path / "live.mov").write_bytes(b"\0\0\0\x18ftypqt  ")
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "Thumbs.db").touch()
    (tmp_path / "more").mkdir()
    report = vet_folder(tmp_path)
    assert [path.name for path in report.used] == ["good.png", "grey.jpg", "whole.jpg"]
    assert report.fixed == ()
    reasons = {note.path.name: note.text for note in report.refused}
    assert reasons.keys() == {
        *("IMG_0001.HEIC", "renamed.jpg", "cut.jpg", "text.jpg", "notes.txt", "empty.png"),
        *("live.mov", "more"),
    }
    heic = "damaged" if "HEIF" in formats() else "convert it to JPEG or PNG"
    assert heic in reasons["IMG_0001.HEIC"]
    assert heic in reasons["renamed.jpg"]
    assert "damaged or cut off" in reasons["cut.jpg"]
    assert "in spite of its name .jpg" in reasons["text.jpg"]
    assert reasons["notes.txt"].startswith("not a picture; looks like a caption, but there is no")
    assert "empty file" in reasons["empty.png"]
    assert "video" in reasons["live.mov"]
    assert "folder" in reasons["more"]
    lines = report.lines()
    assert lines[0].endswith("3 photos used")
    assert len(lines) == 9


def test_nothing_to_use(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data.instance_dir: there is no folder .*nowhere"):
        vet_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="It is empty"):
        vet_folder(tmp_path)
    (tmp_path / "notes.txt").write_text("about the dog")
    with pytest.raises(UserError, match="no photo that can be used(.|\n)*notes.txt: not a picture"):
        vet_folder(tmp_path)
    with pytest.raises(UserError, match="data.class_dir: .*is a file"):
        vet_folder(tmp_path / "notes.txt", "data.class_dir")
    with pytest.raises(UserError, match="no such file"):
        read_photo(tmp_path / "gone.png")


def test_prepare_scales_the_short_side_and_crops_the_centre() -> None:
    wide = picture(96, 32)
    assert difference(prepare(wide, 32), wide.crop((32, 0, 64, 32))) == 0
    assert prepare(picture(30, 50), 64).size == (64, 64)
    # antialiased: a fine checkerboard becomes grey, not a coarser checkerboard
    board = np.indices((256, 256)).sum(0) % 2 * 255
    small = prepare(Image.fromarray(board.astype(np.uint8)).convert("RGB"), 32)
    assert np.abs(np.asarray(small).astype(int) - 127).max() <= 3


def test_to_tensor() -> None:
    image = Image.new("RGB", (2, 1))
    image.putpixel((1, 0), (255, 0, 51))
    expected = torch.tensor([[[-1.0, 1.0]], [[-1.0, -1.0]], [[-1.0, -0.6]]])
    torch.testing.assert_close(to_tensor(image), expected)


@pytest.mark.skipif(not WOLF.is_dir(), reason="DREAMBENCH_DIR is not set")
def test_real_phone_photos() -> None:
    report = vet_folder(WOLF)
    assert len(report.used) == len(report.fixed) == 5
    assert report.refused == ()
    assert "first of" in report.fixed[0].text
    pixels = to_tensor(prepare(read_photo(report.used[0]), 128))
    assert pixels.shape == (3, 128, 128)
    assert pixels.std() > 0.2


@pytest.mark.skipif(not WOLF.is_dir(), reason="DREAMBENCH_DIR is not set")
def test_checks_on_real_photos(tmp_path: Path) -> None:
    """Good photos raise no warnings; what is done to copies of them is found."""
    for number, path in enumerate(vet_folder(WOLF, resolution=1024).used):
        photo = read_photo(path).resize((512, 512))
        photo.save(tmp_path / f"{number}.jpg")
        photo.resize((350, 350)).save(tmp_path / f"{number}_again.jpg", quality=40)
        photo.filter(ImageFilter.GaussianBlur(8)).save(tmp_path / f"{number}_blurred.jpg")
    assert vet_folder(WOLF, resolution=1024).warned == ()
    texts = {note.path.name: note.text for note in vet_folder(tmp_path, resolution=512).warned}
    for number in range(5):
        assert "nearly the same picture" in texts[f"{number}_again.jpg"]
        assert f"{number}_blurred.jpg" in texts


def test_the_miniatures_photos_raise_no_warnings() -> None:
    folder = Path(__file__).parents[2] / "data" / "sks_dog"
    assert vet_folder(folder, resolution=128).warned == ()


def test_photos_one_folder_deeper_are_found(tmp_path: Path) -> None:
    for name in ("10_sks dog", "1_dog"):
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / "a.png")
    picture().save(tmp_path / "10_sks dog" / "b.png")
    with pytest.raises(UserError, match="photos in the folder '.*/10_sks dog': give that one"):
        vet_folder(tmp_path)
    (tmp_path / "outer").mkdir()
    for folder in list(tmp_path.iterdir()):
        if folder.name != "outer":
            folder.rename(tmp_path / "outer" / folder.name)
    with pytest.raises(UserError, match="'.*/outer/10_sks dog': give that one"):
        vet_folder(tmp_path)


def test_photos_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    for number in range(4):
        picture(32 + number).save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.iterdir())
    photos = Photos(paths)
    paths[3].unlink()
    assert len(photos) == 4
    assert [image.width for image in photos[1:3]] == [33, 34]
    with pytest.raises(UserError, match="no such file"):
        photos[3]


def test_each_photo_and_mask_is_decoded_once(
    tmp_path: Path, tiny_base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png"):
        picture(96, 32).save(tmp_path / name)
        Image.new("L", (96, 32), 255).save(tmp_path / name.replace(".", ".mask."))
    data = DreamBoothDataModule(
        instance_dir=str(tmp_path),
        resolution=32,
        num_class_images=0,
        crop="random",
        horizontal_flip=True,
    )
    views = data.views
    assert len(views) == 32
    encoder = Encoder(load_base(str(tiny_base_dir)))
    decoded = []
    load = PngImageFile.load

    def counted(file: PngImageFile) -> object:
        if file.tile:
            decoded.append(Path(file.filename).name)
        return load(file)

    monkeypatch.setattr(PngImageFile, "load", counted)
    encoder.latent_moments(views, 32)
    for view in views:
        assert view.original_size == (32, 96)
        view.loss_weights(32)
    assert sorted(decoded) == ["a.mask.png", "a.png", "b.mask.png", "b.png"]
    picture(32, 32).save(tmp_path / "b.png")  # a changed file is read again
    assert views[-1].original_size == (32, 32)


def test_large_jpegs_are_scaled_down_only_to_be_vetted(tmp_path: Path) -> None:
    large = picture(300, 200).resize((4200, 3100))
    large.save(tmp_path / "a.jpg", quality=90)
    assert read_photo(tmp_path / "a.jpg").size == (4200, 3100)
    assert vet_folder(tmp_path, resolution=8000).warned[0].text.startswith("has 4200 x 3100 pixels")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    assert [note.path.name for note in vet_folder(tmp_path).refused] == ["cut.jpg"]


def test_many_photos_show_their_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr("dreambooth_pl.progress.LINE_SECONDS", 0.0)
    monkeypatch.setattr(ProgressReporter, "line", lambda self, text: said.append(text))
    for number in range(MANY - 1):
        picture(8, 8 + number).save(tmp_path / f"{number:02d}.png")
    assert len(vet_folder(tmp_path).used) == MANY - 1
    assert not said
    picture(8, 8).save(tmp_path / "more.png")
    assert len(vet_folder(tmp_path).used) == MANY
    assert said[-1].startswith(f"reading photos {MANY}/{MANY}")


def test_the_folder_of_the_photos_is_not_that_of_class_images(tmp_path: Path) -> None:
    photos, others = tmp_path / "photos", tmp_path / "class"
    for folder in (photos, others):
        folder.mkdir()
        for number in range(4):
            picture(40 + 9 * number, 40).save(folder / f"{number}.png")
    data = DreamBoothDataModule(instance_dir=str(photos), class_dir=f"{photos}/../photos")
    with pytest.raises(UserError, match="data.class_dir: .* is the folder of the photos"):
        data.setup("fit")

    def remarks(count: int, folder: Path = others) -> tuple[str, ...]:
        settings = {"class_dir": str(folder), "num_class_images": count}
        return DreamBoothDataModule(instance_dir=str(photos), **settings).report.remarks

    (line,) = remarks(3)
    assert line.startswith("class images: the first 3 by name of 4 pictures in ")
    assert line.endswith("set data.num_class_images to 4 for all")
    assert remarks(4) == remarks(0) == remarks(3, tmp_path / "new") == ()
    assert remarks(0, photos) == ()  # not read then
