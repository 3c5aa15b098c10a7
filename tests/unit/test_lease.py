"""Who works in a folder, told by a file alone."""

from __future__ import annotations

import io
import json
import platform
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from dreambooth_pl.benchmark.executors.parcel import Changes, files_in, pack, unpack
from dreambooth_pl.errors import UserError
from dreambooth_pl.files import lease
from dreambooth_pl.files.folder_lock import leased, taking_turns
from dreambooth_pl.files.lease import HeldError, Lease

BEAT = 0.1


def of_another_machine(path: Path, beat: int = 0) -> None:
    content = {"owner": "other", "host": "far-away", "pid": 1, "beat": beat}
    temporary = path.with_name("other")
    temporary.write_text(json.dumps(content))
    temporary.rename(path)


def test_a_lease_is_taken_kept_and_given_up(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    first, second = Lease(path, BEAT), Lease(path, BEAT)
    first.take()
    with first.kept(), pytest.raises(HeldError, match=f"on {platform.node()}"):
        second.take()
    assert not path.exists()
    second.take()
    assert second.renew() and not first.renew()
    first.release()
    assert path.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["lease"]


def test_a_lease_that_nobody_renews_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    of_another_machine(path)
    began = time.monotonic()
    Lease(path, BEAT).take()
    assert time.monotonic() - began >= 3 * BEAT
    of_another_machine(path)
    ended = threading.Event()

    def renew() -> None:
        beat = 1
        while not ended.wait(BEAT):
            of_another_machine(path, beat)
            beat += 1

    thread = threading.Thread(target=renew)
    thread.start()
    with pytest.raises(HeldError, match="process 1 on far-away"):
        Lease(path, BEAT).take()
    ended.set()
    thread.join()


def test_a_process_that_has_ended_here_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['Lease'](sys.argv[2]).take()"
    subprocess.run([sys.executable, "-c", code, lease.__file__, str(path)], check=True)
    began = time.monotonic()
    Lease(path, beat=60.0).take()
    assert time.monotonic() - began < 30


def test_an_attempt_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    first, second = Lease(path, BEAT), Lease(path, BEAT)
    first.take()
    began = time.monotonic()
    second.seize()
    assert time.monotonic() - began >= 2 * BEAT
    assert not first.renew() and second.renew()


def test_a_second_benchmark_is_told_of_the_first(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Lease.__init__, "__defaults__", (BEAT,))
    with (
        leased(tmp_path),
        pytest.raises(UserError, match="Another benchmark is at work in .*--out"),
        leased(tmp_path),
    ):
        pass
    of_another_machine(tmp_path / ".lease")
    with taking_turns(tmp_path, across_machines=True):
        assert json.loads((tmp_path / ".lease").read_text())["host"] == platform.node()
    assert not (tmp_path / ".lease").exists()


def test_what_travels_and_in_which_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for name in ("run/lora/w", "run/checkpoints/last.ckpt", "run/metrics.csv", "run/.lease"):
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    changes = Changes([here / "run"])
    assert changes.since_last() == []
    (here / "run/metrics.csv").write_text("longer than before")
    (here / "run/new.png").touch()
    assert {path.name for path in changes.since_last()} == {"metrics.csv", "new.png"}
    assert changes.since_last() == []
    archive = pack(here, files_in([here / "run"]))
    written = unpack(archive, there)
    names = [path.relative_to(there).as_posix() for path in written]
    assert names[-2:] == ["run/checkpoints/last.ckpt", "run/lora/w"]
    assert set(names[:-2]) == {"run/metrics.csv", "run/new.png"}
    for name in names:
        assert (there / name).read_bytes() == (here / name).read_bytes()
    escaping = pack(tmp_path / "here/run", [here / "run/new.png"])
    assert unpack(escaping, there) == [there / "new.png"]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as evil:
        evil.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(ValueError, match="outside its folder"):
        unpack(buffer.getvalue(), there)
    assert not (tmp_path / "outside").exists()
