"""Out of memory, on the CPU or a GPU, as one message that says what to lower."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dreambooth_pl.errors import UserError
from dreambooth_pl.memory.available import in_words

_ON_GPU = ("cuda", "cublas", "cudnn", "hip", "mps")
_TEXTS = re.compile(
    r"(?i)not enough memory|out of memory|can(no|')t allocate memory|bad_alloc|alloc_failed"
    r"|can't start new thread"
)
"""How libraries say it in errors of other types."""
_ASKED = re.compile(r"(?i)allocate ([\d.]+) ?(bytes|[KMGT]i?B)?")
_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


class OutOfMemoryError(UserError):
    """Memory ran out, or is sure to: the user can only ask for less."""


@contextmanager
def tells_out_of_memory(remedy: str) -> Iterator[None]:
    """Turn running out of memory into an `OutOfMemoryError`; all other errors pass.

    It is also a decorator.

    Args:
        remedy: a sentence that names the keys or options to lower.

    Raises:
        OutOfMemoryError: memory ran out in the block, whatever error a library made of it.
    """
    try:
        yield
    except Exception as error:
        found = out_of_memory(error)
        if found is None or isinstance(error, OutOfMemoryError):
            raise
        raise OutOfMemoryError(f"{_told(found)} {remedy}") from error


def out_of_memory(error: BaseException) -> BaseException | None:
    """Return the error that says that memory ran out, `error` itself or what led to it, or None."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if _says_so(one):
            return one
        seen.add(id(one))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return None


def _says_so(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    # what libraries written in C++ or Rust raise; a UserError may quote a path that says anything
    return not isinstance(error, UserError) and bool(_TEXTS.search(str(error)))


def _told(error: BaseException) -> str:
    text = str(error)
    on_gpu = isinstance(error, torch.OutOfMemoryError) or any(
        word in text.lower() for word in _ON_GPU
    )
    asked = _ASKED.search(text)
    more = ""
    if asked:
        unit = _UNITS[(asked[2] or "b")[0].lower()]
        more = f": {in_words(float(asked[1]) * unit)} more were asked for"
    return f"Out of memory on the {'GPU' if on_gpu else 'CPU'}{more}."
