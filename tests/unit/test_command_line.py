"""What all command lines do at their end."""

import subprocess
import sys

import pytest

from dreambooth_pl.errors import UserError
from dreambooth_pl.start import run_command, tells_mistakes

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
