"""Rows of scores as a terminal table, markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence

from rich.table import Table

from dreambooth_pl.contact_sheet import contact_sheet
from dreambooth_pl.scores import Interval, Row

__all__ = ["FORMATS", "contact_sheet", "to_csv", "to_json", "to_markdown", "to_table"]

SCORES = {"dino": "DINO", "clip_i": "CLIP-I", "clip_t": "CLIP-T"}  # field of a Row: its heading
FORMATS = ("table", "markdown", "csv", "json")


def to_table(rows: Sequence[Row], narrow: bool = False) -> Table:
    """Build a table for the terminal: mean [low, high] of each score.

    Args:
        rows: in their order.
        narrow: put the intervals below the means, for terminals of few columns.
    """
    caption = "Mean and 95 % bootstrap interval; higher is better."
    table = Table(title=f"Protocol: {_protocols(rows)}", caption=caption)
    table.add_column("run", overflow="fold")
    table.add_column("images", justify="right")
    for heading in SCORES.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = _cells(row)
        if narrow:
            cells = [cell.replace(" [", "\n[") for cell in cells]
        table.add_row(row.run, str(row.n_images), *cells)
    return table


def to_markdown(rows: Sequence[Row]) -> str:
    """Write a GitHub table: mean [low, high] of each score."""
    headings = ["run", "protocol", "images", *SCORES.values()]
    lines = [_markdown_line(headings), _markdown_line(["---", "---", "---:"] + ["---:"] * 3)]
    for row in rows:
        name = row.run.replace("|", "\\|")
        lines.append(_markdown_line([name, row.protocol, str(row.n_images), *_cells(row)]))
    return "\n".join(lines) + "\n"


def to_csv(rows: Sequence[Row]) -> str:
    """Write CSV: run, protocol, n_images and for each score mean, low, high; empty where none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("", "_low", "_high")
    writer.writerow(
        ["run", "protocol", "n_images", *(name + end for name in SCORES for end in ends)]
    )
    for row in rows:
        values = []
        for name in SCORES:
            score = getattr(row, name)
            values += [None] * 3 if score is None else list(score.as_dict().values())
        writer.writerow([row.run, row.protocol, row.n_images, *values])
    return text.getvalue()


def to_json(rows: Sequence[Row]) -> str:
    """Write a list of ``{"run", "protocol", "n_images", "dino", "clip_i", "clip_t"}``.

    Each score is ``{"mean", "low", "high"}``, or null where the row has none. Rows that have
    CLIP-T of the text with the identifier kept carry it as ``clip_t_identifier``.
    """
    records = []
    for row in rows:
        record: dict = {"run": row.run, "protocol": row.protocol, "n_images": row.n_images}
        record |= {name: _as_dict(getattr(row, name)) for name in SCORES}
        if row.clip_t_identifier is not None:
            record["clip_t_identifier"] = row.clip_t_identifier.as_dict()
        records.append(record)
    return json.dumps(records, indent=2, allow_nan=False) + "\n"


def _protocols(rows: Sequence[Row]) -> str:
    return ", ".join(dict.fromkeys(row.protocol for row in rows))


def _as_dict(score: Interval | None) -> dict[str, float | None] | None:
    return None if score is None else score.as_dict()


def _cells(row: Row) -> list[str]:
    return [_cell(getattr(row, name)) for name in SCORES]


def _cell(score: Interval | None) -> str:
    if score is None:
        return "-"
    if math.isnan(score.low):
        return f"{score.mean:.3f}"
    return f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
