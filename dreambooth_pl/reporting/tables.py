"""Rows of scores as terminal tables, markdown, CSV, LaTeX or JSON.

A score that no row has takes no column. Besides the table of fidelity there are those of side
effects (preservation, diversity, copies, drift) and of groups (live and object subjects, kinds of
prompt), where the rows have them; paired differences and the paper's own results stand below, where
they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from dreambooth_pl.evaluation.bootstrap import Interval
from dreambooth_pl.evaluation.comparison import Comparison
from dreambooth_pl.evaluation.results import LIVE, OBJECT, Row
from dreambooth_pl.metrics.scores import Table
from dreambooth_pl.reporting.paper import PaperTable
from dreambooth_pl.reporting.table_data import (
    groups_of,
    has,
    has_group,
    headings,
    of_group,
    to_csv,
    to_json,
)
from dreambooth_pl.reporting.text_table import TextTable, render_table

TABLE_FORMATS = ("table", "markdown", "csv", "latex", "json")
GROUPS_PER_TABLE = 3
_WIDE = 110  # columns of a terminal that takes a table of so many groups
_SUBJECT_GROUPS = (LIVE, OBJECT)
_SIDE_EFFECTS: dict[Table, str] = {
    "preservation": "Preservation of the class",
    "variety": "Variety, copies, and CLIP-T with the identifier in the text",
}
"""Titles of the tables beside that of fidelity."""
INTERVALS = "Mean and 95 % bootstrap interval"
_NO_SCORE = "-"


def render(
    rows: Sequence[Row],
    form: str,
    width: int = 120,
    comparisons: Sequence[Comparison] = (),
    paper: Sequence[PaperTable] = (),
    notes: Sequence[str] = (),
) -> str:
    """Write rows, and what stands below them, in one of `TABLE_FORMATS`; ends with a line break.

    Args:
        rows: in their order.
        form: one of `TABLE_FORMATS`.
        width: columns of the terminal, for `table`; in few the intervals go below the means.
        comparisons: differences between methods.
        paper: tables of the paper, marked as of another base.
        notes: lines to stand below tables, such as the distance that diversity uses.
    """
    assert form in TABLE_FORMATS, form
    if form == "csv":
        return to_csv([*rows, *(c.difference for c in comparisons), *_paper_rows(paper)])
    if form == "json":
        return to_json(rows, comparisons, paper)
    groups_per_table = 2 if form == "table" and width < _WIDE else GROUPS_PER_TABLE
    all_tables = tables(rows, form == "markdown", comparisons, groups_per_table)
    all_tables += [_paper_table(table) for table in paper]
    if form == "table":
        return _to_terminal(all_tables, width) + "".join(f"{note}\n" for note in notes)
    if form == "latex":
        comments = "".join(f"% {note}\n" for note in notes)
        return _LATEX_HEAD + comments + "\n".join(table.to_latex() for table in all_tables)
    return _markdown(all_tables) + "".join(f"\n{note}\n" for note in notes)


def tables(
    rows: Sequence[Row],
    protocol_column: bool = False,
    comparisons: Sequence[Comparison] = (),
    groups_per_table: int = GROUPS_PER_TABLE,
) -> list[TextTable]:
    """Build the tables of rows: fidelity, then what else there is.

    Args:
        rows: in their order.
        protocol_column: name the protocol in a column; it stands in the title otherwise.
        comparisons: differences to stand in tables of their own.
        groups_per_table: how many groups stand side by side.
    """
    title = "" if protocol_column else f"Protocol: {_protocols(rows)}"
    caption = f"{INTERVALS}; higher is better."
    found = [_table(rows, headings("fidelity"), title, caption, protocol_column)]
    found += _side_effects(rows)
    found += _group_tables(rows, groups_per_table)
    if comparisons:
        differences = [comparison.difference for comparison in comparisons]
        title = f"Paired differences: {_protocols(differences)}"
        caption = f"{INTERVALS} over the same prompts and seeds; without 0 in it, one is better."
        found.append(_table(differences, headings("fidelity"), title, caption, signed=True))
        found += _side_effects(differences, signed=True)
    return found


def _table(
    rows: Sequence[Row],
    scores: dict[str, str],
    title: str,
    caption: str,
    protocol_column: bool = False,
    signed: bool = False,
) -> TextTable:
    protocol = ["protocol"] if protocol_column else []
    return TextTable(
        title=title,
        headings=("run", *protocol, "images", *scores.values()),
        rows=tuple(
            (
                row.run,
                *([row.protocol] if protocol_column else []),
                str(row.n_images or _NO_SCORE),
                *(score_text(row.scores.get(name), signed) for name in scores),
            )
            for row in rows
        ),
        caption=caption,
        text_columns=2 if protocol_column else 1,
    )


def _side_effects(rows: Sequence[Row], signed: bool = False) -> Iterator[TextTable]:
    """Yield the tables of side effects that there are, with the rows that have one."""
    for table, title in _SIDE_EFFECTS.items():
        scores = {name: heading for name, heading in headings(table).items() if has(rows, name)}
        own = [row for row in rows if any(name in row.scores for name in scores)]
        if own:
            yield TextTable(
                title=f"Paired differences: {title}" if signed else title,
                headings=("run", *scores.values()),
                rows=tuple(
                    (row.run, *(score_text(row.scores.get(name), signed) for name in scores))
                    for row in own
                ),
                caption=f"{INTERVALS}; ↓ lower is better, ↑ higher is better.",
            )


def _group_tables(rows: Sequence[Row], per_table: int) -> Iterator[TextTable]:
    """Yield tables of means by group: subjects first, then kinds of prompt."""
    groups = groups_of(rows)
    of_subjects = [group for group in _SUBJECT_GROUPS if group in groups]
    of_prompts = [group for group in groups if group not in _SUBJECT_GROUPS]
    for title, names in (("By subject", of_subjects), ("By kind of prompt", of_prompts)):
        for start in range(0, len(names), per_table):
            yield _group_table(rows, title, names[start : start + per_table])


def _group_table(rows: Sequence[Row], title: str, groups: Sequence[str]) -> TextTable:
    titles = headings("fidelity")
    columns = [(group, name) for group in groups for name in titles if has_group(rows, group, name)]
    widths = [(group, sum(1 for own, _ in columns if own == group)) for group in groups]
    lines = []
    for row in rows:
        scores = [of_group(row, group, name) for group, name in columns]
        if any(score is not None for score in scores):
            cells = [_NO_SCORE if score is None else f"{score.mean:.3f}" for score in scores]
            lines.append((row.run, *cells))
    heads = ("run", *(titles[name] for _, name in columns))
    spans = (("", 1), *((group, width) for group, width in widths if width))
    return TextTable(title, heads, tuple(lines), "Means; higher is better.", spans)


def _paper_table(table: PaperTable) -> TextTable:
    scores = {
        name: heading
        for kind in ("fidelity", *_SIDE_EFFECTS)
        for name, heading in headings(kind).items()
        if has(table.rows, name)
    }
    return TextTable(
        title=f"For orientation, of another base: {table.title}",
        headings=("run", *scores.values()),
        rows=tuple(
            (row.run, *(score_text(row.scores.get(name)) for name in scores)) for row in table.rows
        ),
        caption=f"{table.source}. Not comparable with the rows above.",
    )


def _paper_rows(paper: Sequence[PaperTable]) -> Iterator[Row]:
    for table in paper:
        yield from table.rows


def _to_terminal(all_tables: Sequence[TextTable], width: int) -> str:
    return "\n".join(render_table(table, "table", width) for table in all_tables)


def _markdown(all_tables: Sequence[TextTable]) -> str:
    """Write tables one below the other; those after the first under their titles."""
    first, *others = all_tables
    parts = [first.to_markdown()]
    parts += [f"\n{table.title}\n\n{table.to_markdown()}\n{table.caption}\n" for table in others]
    return "".join(parts)


def _protocols(rows: Sequence[Row]) -> str:
    return ", ".join(dict.fromkeys(row.protocol for row in rows))


def score_text(score: Interval | None, signed: bool = False) -> str:
    """Write a score with its interval.

    >>> score_text(Interval(0.25, 0.2, 0.3)), score_text(Interval(0.25, math.nan, math.nan), True)
    ('0.250 [0.200, 0.300]', '+0.250')
    """
    if score is None:
        return _NO_SCORE
    sign = "+" if signed else ""
    if math.isnan(score.low):
        return f"{score.mean:{sign}.3f}"
    return f"{score.mean:{sign}.3f} [{score.low:{sign}.3f}, {score.high:{sign}.3f}]"


_LATEX_HEAD = "% needs \\usepackage{booktabs}\n"
