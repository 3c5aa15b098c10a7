"""Evaluation protocols: which images are drawn of a subject, and the text each is held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dreambooth_pl.sampling import ImageRequest, probe_requests

PROBES = "probes"


@dataclass(frozen=True)
class Plan:
    """What a protocol asks of one subject; the tuples run in parallel, one entry per image.

    Attributes:
        labels: short names.
        requests: prompts, with the identifier, and seeds.
        class_texts: the prompts without the identifier, which CLIP-T compares with.
    """

    labels: tuple[str, ...]
    requests: tuple[ImageRequest, ...]
    class_texts: tuple[str, ...]

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts, with the identifier."""
        return tuple(request.prompt for request in self.requests)


def probes_plan(identifier: str, class_noun: str, seed: int) -> Plan:
    """Plan the protocol ``probes``: the images that training draws to show its progress.

    Four plain images of the subject from four seeds, then one of each probe prompt.
    """
    with_identifier = probe_requests(identifier, class_noun, seed)
    without = probe_requests("", class_noun, seed)
    return Plan(
        labels=tuple(label for label, _ in with_identifier),
        requests=tuple(request for _, request in with_identifier),
        class_texts=tuple(request.prompt for _, request in without),
    )


PROTOCOLS: dict[str, Callable[[str, str, int], Plan]] = {PROBES: probes_plan}
"""Each protocol's plan, as a function of identifier, class noun and seed."""
