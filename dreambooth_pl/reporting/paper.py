"""The DreamBooth paper's own results, from ``facts/paper.yaml``, as rows to stand beside ours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files

import yaml

from dreambooth_pl.evaluation.bootstrap import Interval
from dreambooth_pl.evaluation.results import Row


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        title: which table, over how many subjects.
        source: the paper.
        rows: its lines; the paper gives no intervals, and no number of images, which is 0 here.
    """

    title: str
    source: str
    rows: tuple[Row, ...]


def paper_table(name: str) -> PaperTable:
    """Return a table of the paper: ``fidelity``, ``prior`` or ``class_noun``.

    >>> paper_table("fidelity").rows[1].scores["dino"].mean
    0.696
    """
    text = files("dreambooth_pl").joinpath("facts", "paper.yaml").read_text(encoding="utf-8")
    facts = yaml.safe_load(text)
    table = facts["tables"][name]
    rows = tuple(_row(table["title"], **values) for values in table["rows"])
    return PaperTable(table["title"], facts["source"], rows)


def _row(title: str, run: str, **scores: float) -> Row:
    means = {name: Interval(score, math.nan, math.nan) for name, score in scores.items()}
    return Row(run, f"paper: {title}", n_images=0, scores=means)
