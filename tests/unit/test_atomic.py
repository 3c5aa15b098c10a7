"""Writes that fail for real: full disks, folders in the way, signals; and what they leave."""

from __future__ import annotations

import errno
import os
import pickle
import platform
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from killed import status_of
from PIL import Image
from safetensors.torch import load_file, save_file

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import (
    WriteError,
    atomic_folder,
    atomic_path,
    copy_file,
    link_file,
    write_bytes,
    write_json,
    write_text,
)
from dreambooth_pl.files.leftovers import remove_leftovers
from dreambooth_pl.files.png_metadata import save_png
from dreambooth_pl.files.torch_file import save_torch_file
from dreambooth_pl.stop_signals import STOP, Stopped

OLD = b"what was there before\n" * 100
BIG = torch.arange(300_000, dtype=torch.float32)
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and signals")


def save_tensors(path: Path) -> None:
    with atomic_path(path) as temporary:
        save_file({"weight": BIG}, temporary)


def save_torch(path: Path) -> None:
    with atomic_path(path) as temporary:
        save_torch_file({"weight": BIG, "more": BIG + 1}, temporary)


def save_noise(path: Path) -> None:
    pixels = torch.randint(256, (512, 512, 3), dtype=torch.uint8).numpy()
    save_png(Image.fromarray(pixels), path, {"title": "noise"})


WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "long " * 200_000),
    "bytes": lambda path: write_bytes(path, bytes(1_000_000)),
    "json": lambda path: write_json(path, list(range(200_000))),
    "copy": lambda path: copy_file(Path(torch.__file__).parent / "_torch_docs.py", path),
    "safetensors": save_tensors,
    "torch": save_torch,
    "png": save_noise,
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def python(code: str, **options) -> subprocess.Popen:
    """Start a process of its own that runs `code`."""
    script = "from pathlib import Path\nfrom dreambooth_pl.files.atomic import *\n"
    script += textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", script], text=True, **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ----------------------------------------------------------------- what is written


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_text(tmp_path / "new/folder/a.txt", "one\ntwo – 二\n")
    assert (tmp_path / "new/folder/a.txt").read_bytes() == "one\ntwo – 二\n".encode()
    write_json(tmp_path / "a.json", {"a": [1]}, indent=1)
    assert (tmp_path / "a.json").read_text() == '{\n "a": [\n  1\n ]\n}\n'
    write_bytes(tmp_path / "a.bin", OLD)
    copy_file(tmp_path / "a.bin", tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == OLD
    assert names(tmp_path) == ["a.bin", "a.json", "b.bin", "new"]


def test_the_temporary_is_a_hidden_neighbour_with_the_suffix(tmp_path: Path) -> None:
    target = tmp_path / "picture.png"
    with atomic_path(target) as one, atomic_path(target) as other:
        assert one != other
        assert {one.parent, other.parent} == {tmp_path}
        assert one.name.startswith(".") and one.suffix == ".png"
        assert one.is_file() and not target.exists()
    with atomic_path(tmp_path / ("n" * 251 + ".txt")) as longest:
        longest.write_text("as long as names can be")
    with atomic_path(tmp_path / ("n." + "s" * 253)) as no_type:
        assert len(no_type.name) < 100


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o027, 0o640), (0o077, 0o600), (0o000, 0o666)])
def test_files_get_the_umasks_permissions(tmp_path: Path, umask: int, mode: int) -> None:
    code = f"""
        import os, torch
        from safetensors.torch import save_file
        os.umask({umask})
        folder = Path({str(tmp_path)!r})
        write_text(folder / "text", "a")
        with atomic_path(folder / "tensors") as temporary:
            save_file({{"a": torch.ones(1)}}, temporary)
        with atomic_folder(folder / "folder") as temporary:
            (temporary / "below").mkdir()
            save_file({{"a": torch.ones(1)}}, temporary / "below" / "tensors")
        with atomic_path(folder / "text") as temporary:  # replaces one with other permissions
            temporary.chmod(0o400)
    """
    assert python(code).wait() == 0
    for name in ("text", "tensors", "folder/below/tensors"):
        assert (tmp_path / name).stat().st_mode & 0o777 == mode, name
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~umask


# --------------------------------------------------------------------- what fails


@writers
@pytest.mark.parametrize("before", [OLD, None], ids=["over", "new"])
def test_a_full_disk(small_disk: Path, write: Callable[[Path], None], before: bytes | None) -> None:
    target = small_disk / "file.bin"
    if before is not None:
        target.write_bytes(before)
    with pytest.raises(UserError) as caught:
        write(target)
    message = str(caught.value)
    assert message.startswith(f"{target} cannot be written: No space left on device.")
    assert "Nothing was changed" in message and "space" in message and "\n" not in message
    assert names(small_disk) == ([target.name] if before is not None else [])
    assert before is None or target.read_bytes() == before
    write_text(small_disk / "small", "there is room again")


@posix
def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(OLD)
    code = f"""
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            write_bytes(Path({str(target)!r}), bytes(1_000_000))
        except WriteError as error:
            print(error)
    """
    process = python(code, stdout=subprocess.PIPE)
    said, _ = process.communicate()
    assert said == f"{target} cannot be written: File too large.\n"
    assert names(tmp_path) == ["file.bin"] and target.read_bytes() == OLD


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("a_folder", errno.EISDIR),
        ("n" * 300, errno.ENAMETOOLONG),
        ("a_file/below", errno.ENOTDIR),
        pytest.param("/proc/nothing/here", errno.ENOENT, marks=posix),
        pytest.param("/proc/version", errno.EACCES, marks=posix),
    ],
)
def test_places_that_cannot_be_written(tmp_path: Path, name: str, number: int) -> None:
    (tmp_path / "a_folder").mkdir()
    (tmp_path / "a_file").write_bytes(OLD)
    target, begun = tmp_path / name, []
    with pytest.raises(WriteError) as caught, atomic_path(target) as temporary:
        begun.append(temporary)
    assert str(caught.value).startswith(f"{target} cannot be written: ")
    # /proc has no new files by any name, and says so in several ways
    assert caught.value.os_error.errno in ({number, errno.ENOENT} if name[0] == "/" else {number})
    assert not begun, "found out before the work"
    assert names(tmp_path) == ["a_file", "a_folder"]
    assert (tmp_path / "a_file").read_bytes() == OLD


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, ValueError])
def test_other_failures_pass_through_and_leave_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "file.txt"
    target.write_bytes(OLD)
    with pytest.raises(error, match="^as it was$"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error("as it was")
    with pytest.raises(error), atomic_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("half")
        raise error
    assert names(tmp_path) == ["file.txt"] and target.read_bytes() == OLD


def test_a_missing_source_is_what_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Cannot read .*missing: No such file"):
        copy_file(tmp_path / "missing", tmp_path / "copy")
    assert names(tmp_path) == []


def test_the_error_travels_between_processes(tmp_path: Path) -> None:
    with pytest.raises(WriteError) as caught:
        write_text(tmp_path, "a")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.os_error.errno == errno.EISDIR


# ------------------------------------------------------------------------- folders


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "new/folder") as folder:
        write_text(folder / "below/a.txt", "a")
        assert names(tmp_path / "new") == [folder.name]
    assert names(tmp_path / "new") == ["folder"]
    assert (tmp_path / "new/folder/below/a.txt").read_text() == "a"
    with pytest.raises(WriteError, match="folder cannot be written: File exists"):
        atomic_folder(tmp_path / "new/folder").__enter__()


def test_a_folder_is_replaced_or_stays(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_folder(target, replace=True) as folder:
        write_text(folder / "one", "1")
    with pytest.raises(KeyboardInterrupt), atomic_folder(target, replace=True) as folder:
        write_text(folder / "two", "2")
        raise KeyboardInterrupt
    assert names(target) == ["one"]
    with atomic_folder(target, replace=True) as folder:
        write_text(folder / "two", "2")
    assert (names(tmp_path), names(target)) == (["folder"], ["two"])


def at_rename(number: int, act: Callable[[], None]) -> None:
    """Have `act` called after the rename of this number. For the life of the process, a fork."""
    rename, done = os.rename, []

    def watched(*paths: Path) -> None:
        rename(*paths)
        done.append(paths)
        if len(done) == number:
            act()

    os.rename = watched


def replace_folder(target: Path) -> None:
    with atomic_folder(target, replace=True) as folder:
        write_text(folder / "two", "2")


@posix
@pytest.mark.parametrize("at", [1, 2], ids=["before the new one is there", "when it is there"])
def test_a_kill_while_folders_are_exchanged_loses_neither(tmp_path: Path, at: int) -> None:
    target = tmp_path / "folder.d"
    write_text(target / "one", "1")

    def killed() -> None:
        at_rename(at, lambda: os.kill(os.getpid(), signal.SIGKILL))
        replace_folder(target)

    assert status_of(killed) == -signal.SIGKILL
    assert target.exists() == (at == 2)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["folder.d"]
    assert names(target) == (["one"] if at == 1 else ["two"])


@posix
def test_an_old_folder_that_cannot_be_put_back_is_not_removed(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "folder"
    write_text(target / "one", "1")

    def killed() -> None:
        at_rename(1, lambda: os.kill(os.getpid(), signal.SIGKILL))
        replace_folder(target)

    assert status_of(killed) == -signal.SIGKILL
    (aside,) = (name for name in names(tmp_path) if name.endswith("-aside"))

    def refused(*paths: Path) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refused)
        remove_leftovers(tmp_path)
    assert names(tmp_path) == [aside]
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["folder"] and names(target) == ["one"]


@posix
def test_a_signal_while_folders_are_exchanged_waits_until_they_are(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    write_text(target / "one", "1")

    def signalled() -> None:
        at_rename(1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with STOP.handled():
            try:
                replace_folder(target)
            except Stopped as stopped:
                os._exit(stopped.status)

    assert status_of(signalled) == 143
    assert (names(tmp_path), names(target)) == (["folder"], ["two"])


def test_a_full_disk_inside_a_folder_is_told_by_the_folders_name(small_disk: Path) -> None:
    for write in WRITERS.values():
        with pytest.raises(WriteError) as caught, atomic_folder(small_disk / "out") as folder:
            write(folder / "file.bin")
        assert str(caught.value).startswith(f"{small_disk / 'out'} cannot be written: No space")
    assert names(small_disk) == []


# --------------------------------------------------------------------- second names


def test_a_link_shares_the_contents_until_one_is_replaced(tmp_path: Path) -> None:
    last, best = tmp_path / "last", tmp_path / "best"
    write_text(last, "1")
    link_file(last, best)
    assert best.stat().st_ino == last.stat().st_ino
    link_file(last, best)  # which renaming alone would not notice
    assert names(tmp_path) == ["best", "last"]
    write_text(last, "2")
    assert (best.read_text(), last.read_text()) == ("1", "2")


def test_where_there_are_no_links_it_is_a_copy(small_disk: Path, tmp_path: Path) -> None:
    write_text(tmp_path / "last", "1")
    link_file(tmp_path / "last", small_disk / "best")  # of another file system
    assert (small_disk / "best").read_text() == "1"
    assert names(small_disk) == ["best"]


# ------------------------------------------------------------------------ leftovers


@posix
def test_a_killed_process_leaves_the_old_file_and_the_next_owner_cleans_up(tmp_path: Path) -> None:
    target = tmp_path / "weights.safetensors"
    save_tensors(target)
    before = target.read_bytes()
    code = f"""
        import sys, time
        with (
            atomic_folder(Path({str(tmp_path)!r}) / "export") as folder,
            atomic_path(Path({str(target)!r})) as temporary,
            temporary.open("wb") as file,
        ):
            (folder / "weights").write_bytes(bytes(1000))
            file.write(bytes(1000))
            file.flush()
            print("writing", flush=True)
            time.sleep(60)
    """
    process = python(code, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    remove_leftovers(tmp_path)
    assert len(names(tmp_path)) == 3, "a process that runs keeps its temporaries"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(names(tmp_path)) == 3
    assert target.read_bytes() == before
    assert torch.equal(load_file(target)["weight"], BIG)

    with atomic_path(target) as own:
        remove_leftovers(tmp_path)
        assert names(tmp_path) == sorted([own.name, target.name])
        own.write_bytes(OLD)
    assert target.read_bytes() == OLD and names(tmp_path) == [target.name]


def test_only_what_is_nobodys_any_more_is_removed(tmp_path: Path) -> None:
    process = python("")
    process.wait()
    host = sha256(platform.node().encode()).hexdigest()[:8]
    elsewhere = "0" * 8
    gone = f".dreambooth_pl-{host}-{process.pid}-01234567.png"
    old = f".dreambooth_pl-{elsewhere}-{process.pid}-00000000.ckpt"
    kept = [
        f".dreambooth_pl-{host}-{os.getpid()}-01234567.png",
        f".dreambooth_pl-{elsewhere}-{process.pid}-01234567.png",
        f".dreambooth_pl-{process.pid}",
        ".hidden.png",
        "a.png.tmp",
    ]
    for name in (gone, old, *kept):
        (tmp_path / name).write_bytes(b"half")
    yesterday = time.time() - 25 * 60 * 60
    os.utime(tmp_path / old, (yesterday, yesterday))
    os.utime(tmp_path / kept[-1], (yesterday, yesterday))
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(kept)
    remove_leftovers(tmp_path / "no such folder")
