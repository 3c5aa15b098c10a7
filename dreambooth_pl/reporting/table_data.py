"""Rows of scores as data: CSV and JSON; and which scores and groups rows have."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from dreambooth_pl.evaluation.bootstrap import Interval
from dreambooth_pl.evaluation.comparison import Comparison
from dreambooth_pl.evaluation.results import Row
from dreambooth_pl.metrics.scores import SCORES, Score, Table, table_scores
from dreambooth_pl.reporting.paper import PaperTable


def headings(table: Table) -> dict[str, str]:
    """Return the headings of a table's columns by the names of their scores.

    The table of fidelity says in its caption that higher is better; others bear arrows.

    >>> headings("fidelity")
    {'dino': 'DINO', 'clip_i': 'CLIP-I', 'clip_t': 'CLIP-T'}
    >>> headings("preservation")
    {'pres': 'PRES ↓', 'pres_change': 'PRES change ↓', 'drift': 'drift ↓'}
    """
    return {score.name: _heading(score) for score in table_scores(table)}


def to_csv(rows: Sequence[Row]) -> str:
    """Write CSV: run, protocol, n_images and for each score mean, low, high; empty where none.

    Scores beyond the three of fidelity have columns where a row has them; those of groups are
    named `GROUP.SCORE`.
    """
    always = list(headings("fidelity"))
    names = [*always, *(name for name in SCORES if name not in always and has(rows, name))]
    of_groups = [(group, name) for group in groups_of(rows) for name in _scores_of(rows, group)]
    columns = [*names, *(f"{group}.{name}" for group, name in of_groups)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("", "_low", "_high")
    writer.writerow(
        ["run", "protocol", "n_images", *(name + end for name in columns for end in ends)]
    )
    for row in rows:
        scores = [row.scores.get(name) for name in names]
        scores += [of_group(row, group, name) for group, name in of_groups]
        values: list[float | None] = []
        for score in scores:
            values += [None] * 3 if score is None else list(score.as_dict().values())
        writer.writerow([row.run, row.protocol, row.n_images or None, *values])
    return text.getvalue()


def to_json(
    rows: Sequence[Row],
    comparisons: Sequence[Comparison] = (),
    paper: Sequence[PaperTable] = (),
) -> str:
    """Write a list of `{"run", "protocol", "n_images", "dino", "clip_i", "clip_t"}`.

    Each score is `{"mean", "low", "high"}`, or null where the row has none. Further scores and
    `groups` are there where the row has them. A paired difference carries its two runs as
    `difference`; a line of the paper carries the paper as `source`.
    """
    records = [_record(row) for row in rows]
    records += [
        _record(c.difference) | {"difference": [c.first, c.second]} for c in comparisons
    ]  # fmt: skip
    records += [_record(row) | {"source": table.source} for table in paper for row in table.rows]
    return json.dumps(records, indent=2, allow_nan=False) + "\n"


def has(rows: Sequence[Row], name: str) -> bool:
    """Whether a row has the score."""
    return any(name in row.scores for row in rows)


def groups_of(rows: Sequence[Row]) -> list[str]:
    """Names of the groups that rows have, in their order."""
    return list(dict.fromkeys(group for row in rows for group in row.groups))


def of_group(row: Row, group: str, name: str) -> Interval | None:
    """A row's score over one group; None where it has none."""
    return row.groups.get(group, {}).get(name)


def has_group(rows: Sequence[Row], group: str, name: str) -> bool:
    """Whether a row has the score over the group."""
    return any(of_group(row, group, name) is not None for row in rows)


def _record(row: Row) -> dict:
    record: dict = {"run": row.run, "protocol": row.protocol, "n_images": row.n_images or None}
    record |= dict.fromkeys(headings("fidelity"))
    record |= {name: row.scores[name].as_dict() for name in SCORES if name in row.scores}
    if row.groups:
        record["groups"] = {
            group: {name: score.as_dict() for name, score in scores.items()}
            for group, scores in row.groups.items()
        }
    return record


def _scores_of(rows: Sequence[Row], group: str) -> list[str]:
    return [name for name in SCORES if has_group(rows, group, name)]


def _heading(score: Score) -> str:
    if score.table == "fidelity" and score.higher_is_better:
        return score.heading
    return f"{score.heading} {'↑' if score.higher_is_better else '↓'}"
