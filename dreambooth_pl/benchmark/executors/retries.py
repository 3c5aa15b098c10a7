"""Which failed calls run again, and how: lost ones as they were, large ones with half the batch."""

from __future__ import annotations

from collections import Counter

from dreambooth_pl.benchmark.executors.attempt import LOST, MEMORY
from dreambooth_pl.benchmark.executors.call import ScriptCall

MAX_LOST = 5
"""How often a call may lose its process or node; a call that always does would run for ever."""


class Retries:
    """Decides on further attempts. A mistake of the user's is never tried again.

    Args:
        lost: whether calls that were lost run again.
    """

    def __init__(self, lost: bool = True) -> None:
        self._max_lost = MAX_LOST if lost else 0
        self._lost: Counter[str] = Counter()

    def after(self, call: ScriptCall, why: str) -> tuple[ScriptCall, str] | None:
        """Return what to run instead of a failed call, and why, in words; None to let it fail.

        Args:
            call: as it was run.
            why: of its failure, as `attempt.cause` says.
        """
        if why == MEMORY:
            smaller = call.with_half_the_batch()
            return smaller and (smaller, f"memory was short; now with batches of {smaller.size}")
        if why == LOST and self._lost[call.name] < self._max_lost:
            self._lost[call.name] += 1
            return call, "its process or node was lost"
        return None
