from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from dreambooth_pl.files.png_metadata import read_png_metadata
from dreambooth_pl.sampling import numbered_images
from dreambooth_pl.sampling.numbered_images import NumberedImages, save_image
from dreambooth_pl.sampling.requests import ImageRequest

GREY = Image.new("RGB", (8, 8), "grey")


def test_processes_that_write_to_one_folder_take_numbers_in_turns(tmp_path: Path) -> None:
    series = [NumberedImages(tmp_path) for _ in range(4)]

    def add(owner: int) -> list[Path]:
        return [
            series[owner].add(GREY, ImageRequest("a dog", 7), {"owner": owner}) for _ in range(6)
        ]

    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(add, range(4)))
    files = sorted(path for paths in added for path in paths)
    assert [int(path.name[:4]) for path in files] == list(range(24))
    for owner, paths in enumerate(added):
        assert {read_png_metadata(path)["owner"] for path in paths} == {owner}
    grids = {one.save_grid(columns=2).name for one in series}
    assert len(grids) == 4
    assert grids == {f"{paths[0].name[:4]}-{paths[-1].name[:4]}_grid.png" for paths in added}


def test_a_name_that_is_taken_meanwhile_is_left_alone(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "one.png"
    save = numbered_images.save_png

    def late(image, target, metadata, replace) -> None:
        if not path.exists():
            path.write_bytes(b"another process's")
        save(image, target, metadata, replace)

    monkeypatch.setattr(numbered_images, "save_png", late)
    assert save_image(GREY, path, {}) == tmp_path / "one_2.png"
    assert path.read_bytes() == b"another process's"
