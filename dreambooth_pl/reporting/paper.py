"""The DreamBooth paper's own results, from `facts/paper.yaml`, as rows to stand beside ours."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dreambooth_pl.evaluation.bootstrap import Interval
from dreambooth_pl.evaluation.results import Row
from dreambooth_pl.prompts import read_facts


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper."""

    title: str
    """Which table, over how many subjects."""
    source: str
    """The paper."""
    rows: tuple[Row, ...]
    """The paper gives no intervals, and no number of images, which is 0 here."""


def paper_table(name: str) -> PaperTable:
    """Return a table of the paper: `fidelity`, `prior` or `class_noun`.

    >>> paper_table("fidelity").rows[1].scores["dino"].mean
    0.696
    """
    facts = read_facts("paper")
    table = facts["tables"][name]
    rows = tuple(_row(table["title"], **values) for values in table["rows"])
    return PaperTable(table["title"], facts["source"], rows)


def _row(title: str, run: str, **scores: float) -> Row:
    means = {name: Interval(score, math.nan, math.nan) for name, score in scores.items()}
    return Row(run, f"paper: {title}", n_images=0, scores=means)
