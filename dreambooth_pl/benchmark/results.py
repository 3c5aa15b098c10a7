"""Result files of a benchmark: tables of variants and of runs, contact sheet, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dreambooth_pl.benchmark.jobs import Job
from dreambooth_pl.benchmark.sheet import benchmark_sheet
from dreambooth_pl.benchmark.spec import Benchmark
from dreambooth_pl.benchmark.table import comparisons, job_lines, variant_lines
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.comparison import Comparison
from dreambooth_pl.evaluation.evaluate_runs import score_runs
from dreambooth_pl.evaluation.results import Row, distance_notes
from dreambooth_pl.files.atomic import write_text
from dreambooth_pl.files.png_metadata import save_png
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.reporting.html.report import REPORT, Report, save_report
from dreambooth_pl.reporting.html.sources import asked_of_runs, own_pairs, run_folders
from dreambooth_pl.reporting.tables import render, to_json
from dreambooth_pl.reporting.verdict import verdict
from dreambooth_pl.runs.finished import Run, read_run

TABLE = "table"  # .md and .json: ceiling, floor, one row per variant, differences
RUNS_TABLE = "runs"  # .md and .json: one row per run
SHEET = "contact_sheet.png"


@dataclass(frozen=True)
class Results:
    """Scores of a benchmark."""

    rows: tuple[Row, ...]
    """Ceiling, floor and one row per variant; empty if no run could be evaluated."""
    differences: tuple[Comparison, ...]
    """Differences of each variant from the first."""
    notes: tuple[str, ...]
    """How diversity was measured, which variants could not be compared, and the verdict."""
    failures: tuple[str, ...]
    """One message for each run that could not be evaluated."""


def write_results(
    benchmark: Benchmark,
    jobs: Sequence[Job],
    folders: Mapping[str, Path],
    out: Path,
    device: str | torch.device,
    reporter: ProgressReporter,
    command: Sequence[str] = (),
) -> Results:
    """Evaluate the complete runs, and write the tables, the contact sheet and the report.

    Args:
        benchmark: the checked benchmark.
        jobs: all its jobs.
        folders: folders of the complete runs, by the job's name; at least one.
        out: the benchmark's folder, where the files go.
        device: where images are generated and encoded.
        reporter: shows the progress.
        command: words of the command that does all this again, for the report.
    """
    failures: list[str] = []

    def failed(run: Run, error: UserError) -> None:
        failures.append(str(error))

    runs = [read_run(folders[job.name]) for job in jobs if job.name in folders]
    lines = score_runs(
        runs,
        benchmark.protocol,
        device=device,
        reporter=reporter,
        failed=failed,
        measures=False,  # whoever generates the images
    )
    own = job_lines(jobs, folders, lines)
    if not own:
        return Results((), (), (), tuple(failures))
    means = variant_lines(own, jobs, lines)
    rows = [line.row for line in means]
    differences, not_compared = comparisons(own)
    found = [*distance_notes(means), *not_compared]
    notes = [*found, verdict(means)]
    of_runs = [entry.line.row for entry in own]
    write_text(out / f"{TABLE}.md", render(rows, "markdown", comparisons=differences, notes=notes))
    write_text(out / f"{TABLE}.json", to_json(rows, differences))
    write_text(out / f"{RUNS_TABLE}.md", render(of_runs, "markdown"))
    write_text(out / f"{RUNS_TABLE}.json", to_json(of_runs))
    sheet = benchmark_sheet(own, benchmark.protocol, benchmark.name)
    if sheet is not None:
        save_png(sheet, out / SHEET, {"title": benchmark.name})
    of_rows = {entry.line.name: entry.line.run for entry in own if entry.line.run is not None}
    report = Report(
        title=f"Benchmark {benchmark.name}",
        command=tuple(command),
        asked=asked_of_runs([entry.line for entry in own], benchmark.protocol),
        results=means,
        comparisons=differences,
        details=of_runs,
        notes=found,
        sheets={name: own_pairs(name, run, benchmark.protocol) for name, run in of_rows.items()},
        runs=run_folders([entry.line for entry in own]),
    )
    save_report(report, out / REPORT, reporter)
    return Results(tuple(rows), tuple(differences), tuple(notes), tuple(failures))
