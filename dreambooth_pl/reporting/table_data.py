"""Rows of scores as data: CSV and JSON; and which scores and groups rows have."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from dreambooth_pl.evaluation.comparison import Comparison
from dreambooth_pl.evaluation.intervals import Interval, Row
from dreambooth_pl.reporting.paper import PaperTable

SCORES = {"dino": "DINO", "clip_i": "CLIP-I", "clip_t": "CLIP-T"}  # field of a Row: its heading
# The floor's PRES is that of the base, so that `pres_base` needs no column of a table.
PRESERVATION = {"pres": "PRES ↓", "pres_change": "PRES change ↓", "drift": "drift ↓"}
VARIETY = {"div": "DIV ↑", "copy": "copy ↓", "clip_t_identifier": "CLIP-T with [V] ↑"}
SIDE_EFFECTS = PRESERVATION | VARIETY
# Fields that CSV and JSON have where a row has them.
OPTIONAL = ("clip_t_identifier", "pres", "pres_base", "pres_change", "div", "copy", "drift")


def to_csv(rows: Sequence[Row]) -> str:
    """Write CSV: run, protocol, n_images and for each score mean, low, high; empty where none.

    Scores beyond the three of fidelity have columns where a row has them; those of groups are
    named ``GROUP.SCORE``.
    """
    names = [*SCORES, *(name for name in OPTIONAL if has(rows, name))]
    of_groups = [(group, name) for group in groups_of(rows) for name in _scores_of(rows, group)]
    columns = [*names, *(f"{group}.{name}" for group, name in of_groups)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("", "_low", "_high")
    writer.writerow(
        ["run", "protocol", "n_images", *(name + end for name in columns for end in ends)]
    )
    for row in rows:
        scores = [getattr(row, name) for name in names]
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
    """Write a list of ``{"run", "protocol", "n_images", "dino", "clip_i", "clip_t"}``.

    Each score is ``{"mean", "low", "high"}``, or null where the row has none. Further scores and
    ``groups`` are there where the row has them. A paired difference carries its two runs as
    ``difference``; a line of the paper carries the paper as ``source``.
    """
    records = [_record(row) for row in rows]
    records += [
        _record(c.difference) | {"difference": [c.first, c.second]} for c in comparisons
    ]  # fmt: skip
    records += [_record(row) | {"source": table.source} for table in paper for row in table.rows]
    return json.dumps(records, indent=2, allow_nan=False) + "\n"


def has(rows: Sequence[Row], name: str) -> bool:
    """Whether a row has the score."""
    return any(getattr(row, name) is not None for row in rows)


def groups_of(rows: Sequence[Row]) -> list[str]:
    """Names of the groups that rows have, in their order."""
    return list(dict.fromkeys(group for row in rows for group in row.groups or {}))


def of_group(row: Row, group: str, name: str) -> Interval | None:
    """A row's score over one group; None where it has none."""
    return (row.groups or {}).get(group, {}).get(name)


def has_group(rows: Sequence[Row], group: str, name: str) -> bool:
    """Whether a row has the score over the group."""
    return any(of_group(row, group, name) is not None for row in rows)


def _record(row: Row) -> dict:
    record: dict = {"run": row.run, "protocol": row.protocol, "n_images": row.n_images or None}
    record |= {name: _as_dict(getattr(row, name)) for name in SCORES}
    found = {name: getattr(row, name) for name in OPTIONAL}
    record |= {name: score.as_dict() for name, score in found.items() if score is not None}
    if row.groups:
        record["groups"] = {
            group: {name: score.as_dict() for name, score in scores.items()}
            for group, scores in row.groups.items()
        }
    return record


def _scores_of(rows: Sequence[Row], group: str) -> list[str]:
    return [name for name in (*SCORES, *OPTIONAL) if has_group(rows, group, name)]


def _as_dict(score: Interval | None) -> dict[str, float | None] | None:
    return None if score is None else score.as_dict()
