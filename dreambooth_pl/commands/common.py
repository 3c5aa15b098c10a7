"""What the command lines share: devices by name, counts, quiet libraries, the terminal's width."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console

from dreambooth_pl.bounds import Bounds
from dreambooth_pl.errors import UserError

_PIPE_WIDTH = 160  # columns of a pipe or a file, which have no width of their own: nothing squeezed


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
        ("transformers", logging.ERROR),  # a report of each file's weights; `bases.checks` looks
        ("diffusers.models.modeling_utils", logging.ERROR),  # casting, where no part refuses it
    ):
        logging.getLogger(name).setLevel(level)
    warnings.formatwarning = _one_line  # after Lightning, which has a form of its own
    warnings.filterwarnings("ignore", module=r"timm|open_clip|diffusers|transformers")
    for message in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*no `val(idation)?_dataloader`.*",
        ".*overridden `transfer_batch_to_device`.*",
        ".*module\\(s\\) in eval mode.*",
        ".*callbacks used to create the checkpoint need to be provided.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        "grad and param do not obey the gradient layout contract",  # rows of a matrix, on purpose
    ):
        warnings.filterwarnings("ignore", message=message)


def _one_line(message: Warning | str, *_: Any) -> str:
    """Return a warning without the line of the library's code that it came from."""
    return f"warning: {' '.join(str(message).split())}\n"
