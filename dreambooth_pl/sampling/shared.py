"""Generation shared by the processes of a run.

One process leads: it decides what to generate, saves and scores. The others generate with it, whole
batches in turn. An image is therefore the same, bit for bit, however many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from PIL import Image

from dreambooth_pl import distributed
from dreambooth_pl.bases.base import Base
from dreambooth_pl.sampling import generation
from dreambooth_pl.sampling.generation import Progress
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings

T = TypeVar("T")
_helped = False  # whether the other processes wait for this one's requests


@dataclass(frozen=True)
class _Result:
    value: Any


def work_together(base: Base, lead: Callable[[], T]) -> T:
    """Call `lead` on the first rank, while the others help with all that it generates.

    All ranks call this with bases of equal weights. How long they wait for each other is not
    limited by the timeout of their process group.

    Args:
        base: generates.
        lead: asks `generate_together` for images, and takes all that it has asked for.

    Returns:
        What `lead` returns, on all ranks. It is pickled.
    """
    global _helped
    if distributed.count() == 1:
        return lead()
    if distributed.rank() == 0:
        _helped = True
        try:
            result = _Result(lead())
        finally:
            _helped = False
        return distributed.from_first(lambda: result).value
    while True:
        work = distributed.from_first(_nothing)
        if isinstance(work, _Result):
            return work.value
        for _ in _rounds(base, *work):
            pass


def generate_together(
    base: Base,
    requests: Sequence[ImageRequest],
    settings: SamplingSettings,
    progress: Progress | None = None,
) -> Iterator[Image.Image]:
    """Generate images as `generation.generate` does; within `work_together` with all processes.

    The arguments, images and errors are those of `generation.generate`.
    """
    if not _helped:
        return generation.generate(base, requests, settings, progress)
    return _led(base, list(requests), settings, progress)


def _led(
    base: Base, requests: list[ImageRequest], settings: SamplingSettings, progress: Progress | None
) -> Iterator[Image.Image]:
    distributed.from_first(lambda: (requests, settings))
    done = 0
    for images in _rounds(base, requests, settings):
        done += len(images)
        if progress is not None:
            progress(done, len(requests))
        yield from images


def _rounds(
    base: Base, requests: list[ImageRequest], settings: SamplingSettings
) -> Iterator[list[Image.Image]]:
    """Generate a batch on each rank, then the next; yield each round's images on the first rank.

    The others yield empty lists.
    """
    size, rank = settings.batch_size, distributed.rank()
    for start in range(0, len(requests), size * distributed.count()):
        own = requests[start + rank * size :][:size]
        images = list(generation.generate(base, own, settings))
        gathered = distributed.gather(images)
        yield [image for batch in gathered or [] for image in batch]


def _nothing() -> None:
    """The first rank's part, which the others do not have."""
