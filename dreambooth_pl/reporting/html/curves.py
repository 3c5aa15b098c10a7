"""Charts of scores over training steps, from the runs' logs, and over LoRA scales."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from dreambooth_pl.evaluation.results import Result, references, without_scale
from dreambooth_pl.metrics.scores import SCORES, curve_scores, table_scores
from dreambooth_pl.reporting.html.charts import Chart, Line
from dreambooth_pl.runs.folder import METRICS

MAX_LINES = 8  # of a chart; there are as many colours
_GROUP = "validation"  # of the log; six prompts that no evaluation uses
_ENDS = ("floor", "ceiling")

Curve = tuple[tuple[float, float], ...]


def charts_over_steps(folders: Mapping[str, Path]) -> list[Chart]:
    """Return a chart per score that the runs' logs hold, for up to `MAX_LINES` runs.

    Args:
        folders: of the runs, by their names. Runs without a log, or with a damaged one, are left
            out.
    """
    logs = {name: _read_log(folder / METRICS) for name, folder in folders.items()}
    logs = dict(list((name, log) for name, log in logs.items() if log)[:MAX_LINES])
    titles = {score.name: score.heading for score in curve_scores()}
    charts = []
    for score, title in {**titles, "drift": SCORES["drift"].heading, "score": "score"}.items():
        lines = [
            Line(name, curve, colour=colour)
            for colour, (name, log) in enumerate(logs.items())
            if len(curve := log.get(f"{_GROUP}/{score}", ())) > 1
        ]
        if lines:
            charts.append(Chart(title, "steps", tuple(lines), _levels(list(logs.values()), score)))
    return charts


def charts_over_scale(results: Sequence[Result]) -> list[Chart]:
    """Return a chart per score of fidelity over the LoRA scales of runs that have several."""
    of_run: dict[tuple, list[Result]] = {}
    for result in results:
        if result.run is not None and result.run.scale is not None:
            of_run.setdefault((result.run.folder, result.run.adapter), []).append(result)
    several = [
        sorted(own, key=lambda result: result.run.scale) for own in of_run.values() if len(own) > 1
    ][:MAX_LINES]
    charts = []
    for score in table_scores("fidelity"):
        lines = [_over_scale(own, score.name, colour) for colour, own in enumerate(several)]
        if not lines:
            continue
        levels = {}
        for role in _ENDS:
            ends = [references(own[0], results).get(role) for own in several]
            means = {
                end.row.scores[score.name].mean
                for end in ends
                if end and score.name in end.row.scores
            }
            if len(means) == 1:
                levels[role] = means.pop()
        charts.append(Chart(score.heading, "LoRA scale", tuple(lines), levels))
    return charts


def _over_scale(results: Sequence[Result], score: str, colour: int) -> Line:
    scores = [(own.run.scale, own.row.scores[score]) for own in results]
    name = without_scale(results[0])
    intervals = [(s.mean, s.mean) if math.isnan(s.low) else (s.low, s.high) for _, s in scores]
    points = tuple((scale, s.mean) for scale, s in scores)
    return Line(name, points, tuple(intervals), colour)


def _levels(logs: Sequence[Mapping[str, Curve]], score: str) -> dict[str, float]:
    """Return floor and ceiling of a score where all runs have the same."""
    levels = {}
    for end in _ENDS:
        curves = [log.get(f"{_GROUP}/{score}_{end}") for log in logs]
        values = {round(curve[-1][1], 6) for curve in curves if curve}
        if len(values) == 1:
            levels[end] = values.pop()
    return levels


def _read_log(path: Path) -> dict[str, Curve]:
    """Return the finite values of each column of a `metrics.csv` by step; nothing if damaged."""
    curves: dict[str, list[tuple[float, float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for name, text in row.items():
                    if name and name.startswith(f"{_GROUP}/") and text:
                        value = float(text)
                        if math.isfinite(value):
                            curves.setdefault(name, []).append((float(row["step"]), value))
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        return {}
    return {name: tuple(sorted(points)) for name, points in curves.items()}
