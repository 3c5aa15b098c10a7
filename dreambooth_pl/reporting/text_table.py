"""A table of text, written for a terminal, as GitHub markdown or as LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\u2191": r"$\uparrow$",
    "\u2193": r"$\downarrow$",
    "[": "{[}",  # after the \\ of a line, or of a rule, a bare bracket would open an option
    "]": "{]}",
    **{letter: f"\\{letter}" for letter in "&%$#_"},
}


@dataclass(frozen=True)
class TextTable:
    """Cells of text under headings."""

    title: str
    """A line above."""
    headings: tuple[str, ...]
    """One per column."""
    rows: tuple[tuple[str, ...], ...]
    """Each with one cell per column; the first `text_columns` are left-aligned."""
    caption: str = ""
    """A line below."""
    groups: tuple[tuple[str, int], ...] = ()
    """Label and width of groups of columns, from the left; columns without a group stand under an
    empty label. Empty where no columns are grouped."""
    text_columns: int = 1
    """How many columns from the left hold text and not numbers."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.headings) for row in self.rows), "a cell per heading"
        assert not self.groups or sum(n for _, n in self.groups) == len(self.headings)

    def _grouped_headings(self, separator: str) -> list[str]:
        labels = [label for label, width in self.groups for _ in range(width)]
        labels = labels or [""] * len(self.headings)
        return [
            f"{label}{separator}{heading}" if label else heading
            for label, heading in zip(labels, self.headings, strict=True)
        ]

    def to_rich(self, narrow: bool = False) -> Table:
        """Build a table for the terminal; `narrow` puts intervals below their means."""
        table = Table(title=self.title or None, caption=self.caption or None)
        for column, heading in enumerate(map(Text, self._grouped_headings("\n"))):
            if column < self.text_columns:
                table.add_column(heading, overflow="fold")
            else:
                table.add_column(heading, justify="right", no_wrap=True)
        for row in self.rows:
            name, *cells = row
            if narrow:
                cells = [cell.replace(" [", "\n[") for cell in cells]
            table.add_row(*map(Text, [name, *cells]))  # as Text, brackets are no markup
        return table

    def to_markdown(self) -> str:
        """Write a GitHub table, without title and caption."""
        numbers = len(self.headings) - self.text_columns
        rule = ["---"] * self.text_columns + ["---:"] * numbers
        lines = [self._grouped_headings(" "), rule, *self.rows]
        return "".join(f"| {' | '.join(map(_markdown_cell, cells))} |\n" for cells in lines)

    def to_latex(self) -> str:
        """Write a `table` environment that needs the package booktabs."""
        alignment = "l" * self.text_columns + "r" * (len(self.headings) - self.text_columns)
        lines = [r"\begin{table}", r"\centering"]
        if self.title or self.caption:
            words = f"{self.title}. {self.caption}" if self.title else self.caption
            lines.append(rf"\caption{{{escape_latex(words.strip())}}}")
        lines += [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
        if self.groups:
            lines += self._latex_groups()
        lines += [_latex_line(self.headings), r"\midrule"]
        lines += [_latex_line(row) for row in self.rows]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        return "\n".join(lines) + "\n"

    def _latex_groups(self) -> list[str]:
        cells, rules, start = [], [], 1
        for label, width in self.groups:
            cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(label)}}}")
            if label:
                rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
            start += width
        return [" & ".join(cells) + r" \\", " ".join(rules)]


def render_table(table: TextTable, form: str, width: int = 120) -> str:
    """Write one table as `table`, `markdown`, `csv` or `latex`; ends with a line break."""
    if form == "markdown":
        return table.to_markdown()
    if form == "latex":
        return table.to_latex()
    text = io.StringIO()
    if form == "csv":
        csv.writer(text, lineterminator="\n").writerows([table.headings, *table.rows])
    else:
        # A console measures nothing wider than itself.
        narrow = Console(width=10_000).measure(table.to_rich()).maximum > width
        Console(width=width, file=text, color_system=None).print(table.to_rich(narrow))
    return text.getvalue()


def escape_latex(text: str) -> str:
    r"""Write `text` so that LaTeX prints it as it is.

    >>> print(escape_latex("sks_dog & 95 %"))
    sks\_dog \& 95 \%
    """
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + r" \\"


def _markdown_cell(text: str) -> str:
    return text.replace("|", "\\|")
