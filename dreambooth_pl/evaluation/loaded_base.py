"""The one base that an evaluation holds in memory."""

from __future__ import annotations

import gc

import torch

from dreambooth_pl.bases.base import Base, load_base
from dreambooth_pl.runs.finished import Run

BaseKey = tuple[str, str | None, str | None, str]
"""Name, revision, variant and dtype of a base: the arguments of `load_base`."""


def base_of(run: Run) -> BaseKey:
    """Return the base that a run adapts, held as it held it."""
    return (run.base, run.revision, run.variant, run.frozen_dtype)


class LoadedBase:
    """Keeps the last base loaded, for neighbouring runs mostly share it.

    The old base goes before the next is loaded, so that memory never holds two. That takes callers
    that keep no reference to it themselves.

    Args:
        device: where bases go.
    """

    def __init__(self, device: str | torch.device) -> None:
        self.device = device
        self._key: BaseKey | None = None
        self._base: Base | None = None

    def of(self, run: Run) -> Base:
        """Return the base of a run, with whatever adapters it was left with.

        Raises:
            UserError: it cannot be had.
        """
        key = base_of(run)
        if key != self._key:
            self._key = self._base = None
            gc.collect()  # modules and pipelines refer to each other in circles
            self._base = load_base(*key).to(self.device)
            self._key = key
        return self._base
