"""What all command lines do at their start and end."""

import io
import os
import subprocess
import sys
import warnings

import pytest

from dreambooth_pl.commands.common import quiet_libraries
from dreambooth_pl.errors import UserError
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.start import run_command, tells_mistakes, with_home

SHOWS_MUCH = (
    "from dreambooth_pl.start import run_command\n"
    "run_command(lambda: print('a line of a table\\n' * 100_000))"
)


def test_no_traceback_where_the_reader_has_left() -> None:
    command = [sys.executable, "-c", SHOWS_MUCH]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "a line of a table\n"
        process.stdout.close()  # as `| head -1` does
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_any_other_broken_pipe_is_an_error() -> None:
    def main() -> int:
        raise BrokenPipeError("a worker's")

    with pytest.raises(BrokenPipeError, match="a worker's"):
        run_command(main)


@pytest.mark.parametrize(("status", "code"), [(0, 0), (3, 3), (None, None)])
def test_exits_with_the_commands_status(status: int | None, code: int | None) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: status)
    assert ended.value.code == code


def test_a_mistake_of_the_users_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    @tells_mistakes
    def main(error: Exception | None) -> int:
        if error is not None:
            raise error
        return 3

    assert main(None) == 3
    assert main(UserError("no such file")) == 1
    assert capsys.readouterr().err == "error: no such file\n"
    with pytest.raises(ValueError, match="ours"):
        main(ValueError("ours"))


SHOWS_ALL = r"""
from dreambooth_pl.start import run_command
from dreambooth_pl.reporting.text_table import TextTable, render_table
row = ("ein H\u00fcndchen \u4e8c \udcff", "0.5")
table = TextTable("scores", ("run", "DINO \u2191"), (row,), "")
run_command(lambda: print(render_table(table, "table"), end=""))
"""
NARROW = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
}


@pytest.mark.parametrize("name", NARROW)
def test_a_table_can_be_written_in_every_encoding(name) -> None:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONIO", "LC_", "LANG"))}
    done = subprocess.run(
        [sys.executable, "-c", SHOWS_ALL], env=own | NARROW[name], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    encoding = {"locale": "ascii"}.get(name, name)
    lines = done.stdout.decode(encoding).splitlines()
    if name == "utf-8":
        assert "DINO ↑" in lines[2] and "Hündchen 二 \\udcff" in lines[4]
        return
    assert "DINO ^" in lines[2] and lines[1].startswith("+---")
    assert ("Hündchen" if name == "cp1252" else r"H\xfcndchen") + r" \u4e8c \udcff" in lines[4]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-"])
def test_a_stream_may_be_closed(closed) -> None:
    code = (
        "import sys\nfrom dreambooth_pl.start import run_command\n"
        "run_command(lambda: [print(sys.stdout.isatty()), print(1, file=sys.stderr)] and 3)"
    )
    command = f'"{sys.executable}" -c "$0" {closed}'
    done = subprocess.run(["sh", "-c", command, code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_output_that_finds_no_room_is_told() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", SHOWS_MUCH], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "error: Cannot write the output: No space left on device.\n"


def test_progress_goes_on_without_a_reader() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    reporter = ProgressReporter(Gone())
    reporter.line("a line")
    with reporter.task("images", total=2) as task:
        task.update(2)


def test_a_warning_is_one_line_without_code(monkeypatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    with warnings.catch_warnings():
        quiet_libraries()
    told = warnings.formatwarning("something\nodd", UserWarning, "path.py", 3, "code()")
    assert told == "warning: something odd\n"


def test_a_home_folder_is_found_where_shells_do_not_look(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for text, found in {
        "~/photos": "/home/me/photos",
        "--data.instance_dir=~/my photos": "--data.instance_dir=/home/me/my photos",
        "--fidelity.clip=local-dir:~/clip": "--fidelity.clip=local-dir:/home/me/clip",
        "local-dir:~/clip": "local-dir:/home/me/clip",
    }.items():
        assert with_home(text) == found
    for text in ("--data.class_dir=~", "~", "a ~/b", "--prompt=about ~/", "x~/y"):
        assert with_home(text) == text
