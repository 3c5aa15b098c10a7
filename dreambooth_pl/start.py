"""How a script of the project starts and ends: signals, mistakes, and output that nobody reads."""

from __future__ import annotations

import codecs
import functools
import importlib
import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, ParamSpec, TextIO

from dreambooth_pl.errors import UserError
from dreambooth_pl.stop_signals import STOP, Stopped

_PLAIN = {"↑": "^", "↓": "v", "…": ".", "─": "-", "━": "-", "│": "|", "┃": "|", "±": "~"}
"""ASCII characters, each as wide as what it stands for: tables keep their columns."""
_BOXES = range(0x2500, 0x2580)  # corners and crossings of tables
_PLAINLY = "dreambooth_pl.plain"
_BROKEN_PIPE = 141  # what shells report for a process whose reader has left
_HOME = re.compile(r"(--[\w.-]+=)?(local-dir:)?~(?=/)")
P = ParamSpec("P")


def run_command(command: str | Callable[[], int | None]) -> NoReturn:
    """Run a command, and exit with its status.

    It exits without a traceback where its output's reader has left. That is what `... | head` does,
    and no fault of the command.

    Args:
        command: its function, or the name of a module in `commands` whose `main` it is. By name the
            libraries are loaded here, where signals are answered already.
    """
    _open_missing_streams()
    write_plainly(sys.stdout, sys.stderr)
    sys.argv[1:] = map(with_home, sys.argv[1:])
    try:
        with STOP.handled():
            if isinstance(command, str):
                with STOP.loading():
                    main = importlib.import_module(f"dreambooth_pl.commands.{command}").main
            else:
                main = command
            status = main()
            sys.stdout.flush()
    except Stopped as stopped:
        status = _tell(stopped)
    except OSError as error:
        status = _status_of_broken_output(error)
    sys.exit(status)


def with_home(text: str) -> str:
    """Return a path, or an option with a path, with the home folder in place of `~`.

    Shells do this, but neither for `--key=~/folder` nor in config files.
    """
    found = _HOME.match(text)
    return (
        text
        if found is None
        else f"{found[1] or ''}{found[2] or ''}" + os.path.expanduser(text[found.end() - 1 :])
    )


def tells_mistakes(main: Callable[P, int]) -> Callable[P, int]:
    """Have `main` tell a user's mistake, or how a signal has ended it, in place of a traceback.

    It returns 1 for a mistake, and what shells report for the signal: 130, 143 or 129.
    """

    @functools.wraps(main)
    def told(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            with STOP.handled():
                return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except Stopped as stopped:
            return _tell(stopped)

    return told


def write_plainly(*streams: TextIO) -> None:
    """Have streams write something similar for characters that their encodings do not have.

    Arrows become ASCII, and letters of file names their codes: no text is an error.
    """
    codecs.register_error(_PLAINLY, _plain_characters)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAINLY)


def _plain_characters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(map(_plain_character, letters)), error.end


def _plain_character(letter: str) -> str:
    if ord(letter) in _BOXES:
        return _PLAIN.get(letter, "+")
    return _PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode()


def _tell(stopped: Stopped) -> int:
    with suppress(OSError):  # a terminal that has hung up
        print(stopped, file=sys.stderr, flush=True)
    return stopped.status


def _open_missing_streams() -> None:
    """Open standard streams that the process was started without; their text goes nowhere."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _status_of_broken_output(error: OSError) -> int:
    """Return the exit status where standard output takes no more; else raise the error.

    What is left of the output goes nowhere, or exiting would fail, too.
    """
    output = sys.stdout.fileno()
    try:
        os.write(output, b"\n")
    except OSError as broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
        if isinstance(broken, BrokenPipeError):
            return _BROKEN_PIPE
        print(f"error: Cannot write the output: {broken.strerror or broken}.", file=sys.stderr)
        return 1
    raise error
