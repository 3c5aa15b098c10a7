"""What the command lines share: devices by name, counts, quiet libraries, the terminal's width."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec

import torch
from rich.console import Console

from dreambooth_pl.bounds import Bounds
from dreambooth_pl.errors import UserError
from dreambooth_pl.stop_signals import Stopped

INTERRUPTED = 130  # exit status of a process that Ctrl-C has ended
_BROKEN_PIPE = 141  # what shells report for a process whose reader has left
_PIPE_WIDTH = 160  # columns of a pipe or a file, which have no width of their own: nothing squeezed
P = ParamSpec("P")


def tells_mistakes(main: Callable[P, int]) -> Callable[P, int]:
    """Have `main` tell a user's mistake, or how a signal has ended it, in place of a traceback.

    It returns 1 for a mistake, and what shells report for the signal: 130, 143 or 129.
    """

    @functools.wraps(main)
    def told(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except Stopped as stopped:
            name = signal.Signals(stopped.signum).name
            print(f"Stopped by {name}. {stopped.advice}".rstrip(), file=sys.stderr)
            return stopped.status

    return told


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Exit with the status of `main`; without a traceback where its output's reader has left.

    That is what `... | head` does, and no fault of the command.
    """
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        if not _output_is_broken():
            raise
        status = _BROKEN_PIPE
    sys.exit(status)


def _output_is_broken() -> bool:
    """Tell whether standard output has lost its reader; if so, let what is left go nowhere."""
    output = sys.stdout.fileno()
    try:
        os.write(output, b"\n")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)  # or exiting fails, too
        return True
    return False


def find_device(name: str) -> torch.device:
    """Return the device of this name; ``auto`` is CUDA's where there is one.

    Raises:
        UserError: it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name} is not there. Use cpu, or leave it out.") from error
    return device


def whole_number(bounds: Bounds) -> Callable[[str], int]:
    """Return the reader of an option that is a whole number."""
    return lambda text: _bounded(text, int, bounds)


def real_number(bounds: Bounds) -> Callable[[str], float]:
    """Return the reader of an option that is a number."""
    return lambda text: _bounded(text, float, bounds)


positive = whole_number(Bounds(1, 1_000_000, too_high="too many"))
"""Reads an option that counts from 1."""


def _bounded(text: str, kind: type, bounds: Bounds) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = text  # no number, which the bounds tell as well
    mistake = bounds.mistake(value, whole=kind is int)
    if mistake:
        raise argparse.ArgumentTypeError(mistake)
    return value


def table_width() -> int:
    """Return how many columns tables on standard output may take."""
    return Console().width if sys.stdout.isatty() else _PIPE_WIDTH


def quiet_libraries() -> None:
    """Silence what the libraries say at every start and no user can act on."""
    for name, level in (
        ("lightning.pytorch", logging.WARNING),
        ("lightning.fabric", logging.WARNING),
        ("huggingface_hub", logging.ERROR),
        ("diffusers.models.modeling_utils", logging.ERROR),  # casting, where no part refuses it
    ):
        logging.getLogger(name).setLevel(level)
    warnings.filterwarnings("ignore", module=r"timm|open_clip|diffusers|transformers")
    for message in (
        ".*does not have many workers.*",
        ".*no `val(idation)?_dataloader`.*",
        ".*overridden `transfer_batch_to_device`.*",
        ".*module\\(s\\) in eval mode.*",
        ".*callbacks used to create the checkpoint need to be provided.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        "grad and param do not obey the gradient layout contract",  # rows of a matrix, on purpose
    ):
        warnings.filterwarnings("ignore", message=message)
