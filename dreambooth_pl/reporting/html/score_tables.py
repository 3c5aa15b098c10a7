"""The tables of scores as the report shows them: each interval beside its bar."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dreambooth_pl.evaluation.bootstrap import Interval
from dreambooth_pl.evaluation.comparison import Comparison
from dreambooth_pl.evaluation.results import Role, Row
from dreambooth_pl.metrics.scores import Table
from dreambooth_pl.reporting.paper import PaperTable
from dreambooth_pl.reporting.table_data import groups_of, has, headings
from dreambooth_pl.reporting.tables import INTERVALS, score_text

BAR_WIDTH = 120  # in the units of the drawing
_PAD = 4  # so that the dot at an end is not cut
_BETTER = ("↓ lower is better, ↑ higher is better", "higher is better")
_DIFFERENCE = f"{INTERVALS} over the same prompts and seeds; without 0 in it, one is better."
_TITLES: dict[Table, str] = {
    "fidelity": "Fidelity to subject and prompt",
    "preservation": "Preservation of the class",
    "variety": "Variety, copies, and CLIP-T with the identifier in the text",
}


@dataclass(frozen=True)
class Bar:
    """An interval drawn as a bar on the axis of its column, in [0, `BAR_WIDTH`]."""

    mean: float
    low: float
    high: float
    marks: Mapping[str, float]
    """Where floor, ceiling or zero stand, by what they are."""


@dataclass(frozen=True)
class Cell:
    """A score in a table."""

    text: str
    """Its numbers."""
    bar: Bar
    """The same, drawn."""


@dataclass(frozen=True)
class ScoreTable:
    """A table of the report."""

    title: str
    caption: str
    headings: tuple[str, ...]
    """Of the scores."""
    rows: tuple[tuple[str, int, tuple[Cell | None, ...]], ...]
    """Name, number of images and cells; 0 images where the number does not matter, None for a
    score that makes no sense for the row."""


def score_tables(
    rows: Sequence[tuple[Role, Row]],
    comparisons: Sequence[Comparison] = (),
    paper: Sequence[PaperTable] = (),
    details: Sequence[Row] = (),
) -> list[ScoreTable]:
    """Build all tables of rows, differences and the paper's results that there are.

    Args:
        rows: each with its role, in their order.
        comparisons: differences between methods.
        paper: tables of the paper.
        details: the rows of each run, where `rows` are averages.
    """
    found = list(_tables(rows))
    for group in groups_of([row for _, row in rows]):
        parts = [
            (role, Row(row.run, row.protocol, 0, row.groups[group]))
            for role, row in rows
            if row.groups.get(group)
        ]
        found += _tables(parts, "fidelity", title=f"Fidelity: {group}")
    differences: list[tuple[Role, Row]] = [("run", own.difference) for own in comparisons]
    for table, title in _TITLES.items():
        title = f"Paired differences: {title}"
        found += _tables(differences, table, title=title, caption=_DIFFERENCE, signed=True)
    for table, title in _TITLES.items():
        found += _tables([("run", row) for row in details], table, title=f"Each run: {title}")
    for table in paper:
        lines: list[tuple[Role, Row]] = [("run", row) for row in table.rows]
        note = f"{table.source}. Of another base, and not comparable with the rows above."
        found += _tables(lines, title=f"The paper: {table.title}", caption=note)
    return found


def _tables(
    rows: Sequence[tuple[Role, Row]],
    *tables: Table,
    title: str = "",
    caption: str = "",
    signed: bool = False,
) -> Iterator[ScoreTable]:
    """Yield the tables (all if none is named) of which rows have scores."""
    for table in tables or _TITLES:
        names = {
            name: heading
            for name, heading in headings(table).items()
            if has([row for _, row in rows], name)
        }
        own = [(role, row) for role, row in rows if row.scores.keys() & names.keys()]
        if own:
            bars = {name: _bars(name, own, signed) for name in names}
            lines = (
                tuple(
                    Cell(score_text(row.scores[name], signed), bars[name][place])
                    if name in row.scores
                    else None
                    for name in names
                )
                for place, (_, row) in enumerate(own)
            )
            yield ScoreTable(
                title or _TITLES[table],
                caption or f"{INTERVALS}; {_BETTER[table == 'fidelity']}.",
                tuple(names.values()),
                tuple(
                    (row.run, row.n_images, cells)
                    for (_, row), cells in zip(own, lines, strict=True)
                ),
            )


def _bars(name: str, rows: Sequence[tuple[Role, Row]], signed: bool) -> list[Bar | None]:
    """Draw a column's intervals on one axis, which reaches over all of them."""
    scores = [row.scores.get(name) for _, row in rows]
    there = [score for score in scores if score is not None]
    marks = {"0": 0.0} if signed else {}
    for role in ("floor", "ceiling"):
        means = [row.scores[name].mean for own, row in rows if own == role and name in row.scores]
        if len(means) == 1:  # with several bases, it would be unclear whose it is
            marks[role] = means[0]
    ends = [value for score in there for value in _ends(score)] + list(marks.values())
    start, stop = min(ends), max(ends)
    stretch = (BAR_WIDTH - 2 * _PAD) / (stop - start) if stop > start else 0.0

    def place(value: float) -> float:
        return round(_PAD + (value - start) * stretch, 2) if stretch else BAR_WIDTH / 2

    placed = {what: place(value) for what, value in marks.items()}
    return [
        None if score is None else Bar(place(score.mean), *map(place, _ends(score)), placed)
        for score in scores
    ]


def _ends(score: Interval) -> tuple[float, float]:
    """Return the ends of an interval; of a score without one, its mean twice."""
    return (score.mean, score.mean) if math.isnan(score.low) else (score.low, score.high)
