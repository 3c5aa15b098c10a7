"""Write `report.html`: the whole of an evaluation on one page."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dreambooth_pl.evaluation.comparison import Comparison
from dreambooth_pl.evaluation.results import Result, Row
from dreambooth_pl.files.atomic import write_text
from dreambooth_pl.metrics.scores import SCORES
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.reporting.html.charts import legend
from dreambooth_pl.reporting.html.curves import MAX_LINES, charts_over_scale, charts_over_steps
from dreambooth_pl.reporting.html.origins import settings_of, versions
from dreambooth_pl.reporting.html.pictures import (
    Pair,
    extremes,
    link,
    spread,
    thumbnails,
)
from dreambooth_pl.reporting.html.score_tables import BAR_WIDTH, score_tables
from dreambooth_pl.reporting.paper import PaperTable
from dreambooth_pl.reporting.verdict import verdict

REPORT = "report.html"
MANY = 100
"""From so many thumbnails on, making them shows its progress."""


@dataclass(frozen=True)
class Report:
    """What a report is about. Names and prompts may hold anything: the page escapes them."""

    title: str
    command: tuple[str, ...]
    """Words of the command that makes it again."""
    asked: Mapping[str, str]
    """What was evaluated, by what it is: photos, prompts, encoders."""
    results: Sequence[Result]
    """Ceiling, floor and what was evaluated, as the table has them."""
    comparisons: Sequence[Comparison] = ()
    paper: Sequence[PaperTable] = ()
    details: Sequence[Row] = ()
    """Rows below the others, such as each run of a benchmark's variants."""
    notes: Sequence[str] = ()
    """Sentences below the tables."""
    sheets: Mapping[str, Sequence[Pair]] = field(default_factory=dict)
    """Images of each run, by the name of its row."""
    runs: Mapping[str, Path] = field(default_factory=dict)
    """Folders of the runs, by the names of their rows."""


def save_report(report: Report, path: Path, reporter: ProgressReporter | None = None) -> None:
    """Write the page.

    Args:
        report: its content.
        path: of the file; images are linked to relatively to it.
        reporter: shows how many of `MANY` and more thumbnails are made; None shows nothing.

    Raises:
        UserError: it cannot be written, or an image cannot be read.
    """
    environment = Environment(
        loader=PackageLoader("dreambooth_pl.reporting.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = files("dreambooth_pl.reporting.html") / "templates"
    style, script = (folder.joinpath(f"report.{kind}").read_text() for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {"style": Markup(style), "script": Markup(script), "script_hash": Markup(digest)}
    page = environment.get_template("report.html.j2")
    write_text(path, page.render(_content(report, path, reporter) | own))


def _content(report: Report, path: Path, reporter: ProgressReporter | None) -> dict[str, Any]:
    sheets = spread(report.sheets)
    ends = extremes([pair for pairs in report.sheets.values() for pair in pairs])
    pairs = [pair for own in sheets.values() for pair in own]
    shown = [path for pair in pairs for path in (pair.tuned, pair.base) if path is not None]
    shown += [pair.tuned for end in ends for pair in (*end.best, *end.worst)]
    return {
        "report": report,
        "verdict": verdict(report.results),
        "command": shlex.join(report.command),
        "tables": score_tables(
            [(result.role, result.row) for result in report.results],
            report.comparisons,
            report.paper,
            report.details,
        ),
        "bar_width": BAR_WIDTH,
        "sheets": sheets,
        "hidden_pairs": sum(map(len, report.sheets.values())) - sum(map(len, sheets.values())),
        "extremes": ends,
        "over_steps": charts_over_steps(report.runs),
        "over_scale": charts_over_scale(report.results),
        "max_lines": MAX_LINES,
        "legend_of": legend,
        "headings": {name: score.heading for name, score in SCORES.items()},
        "settings": settings_of(report.runs),
        "versions": versions(),
        "thumbnail": _thumbnails(shown, reporter).__getitem__,
        "link": lambda target: link(target, path),
    }


def _thumbnails(paths: Sequence[Path], reporter: ProgressReporter | None) -> dict[Path, str]:
    count = len(set(paths))
    if reporter is None or count < MANY:
        return thumbnails(paths)
    with reporter.task("thumbnails of the report", count) as task:
        return thumbnails(paths, task.update)
