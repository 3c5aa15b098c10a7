"""A check, before work starts, that it fits into memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import torch

from dreambooth_pl.memory.available import available_memory, in_words
from dreambooth_pl.memory.exhausted import OutOfMemoryError

SWITCH = "DREAMBOOTH_PL_MEMORY_CHECK"
"""Environment variable; `off` lets work start that is not expected to fit."""
SCRATCH = 1.6
"""Memory that a CPU took in training and generating, over the bytes of tensors that were counted:
1.6 at batches of 16 and 64 photos of 128 px and 4 of 512 px on the miniature. Operations have
scratch memory, and the allocator keeps some of what is freed."""

log = logging.getLogger(__name__)


def check_memory(
    bound: int, need: Callable[[], int], device: torch.device, what: str, remedy: str
) -> str | None:
    """Check that work fits into the memory that is available.

    Args:
        bound: bytes that it surely does not exceed, for a quick answer in the common case.
        need: returns the bytes of the tensors that it holds at once; may take seconds.
        device: where it runs.
        what: the work, for the message.
        remedy: a sentence that names what to lower.

    Returns:
        A note if it may just not fit, else None.

    Raises:
        OutOfMemoryError: it evidently does not fit.
    """
    available = available_memory(device)
    if available is None or bound <= available.size / 2 or os.environ.get(SWITCH) == "off":
        return None
    try:
        needed = need()
    except (RuntimeError, NotImplementedError) as error:
        log.info("no estimate of the memory for %s: %s", what, error)
        return None
    numbers = (
        f"{what} takes about {in_words(SCRATCH * needed)} of memory, and {available.place} has "
        f"{in_words(available.size)} available"
    )
    if needed > available.size:  # the tensors alone
        raise OutOfMemoryError(
            f"{numbers}. {remedy} If you know that it fits, set the environment variable "
            f"{SWITCH} to off."
        )
    doubtful = SCRATCH * needed > available.size
    return f"{numbers}, which may not be enough. {remedy}" if doubtful else None
