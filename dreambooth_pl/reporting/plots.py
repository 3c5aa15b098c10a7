"""Plots of scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from dreambooth_pl.evaluation.bootstrap import Interval
from dreambooth_pl.evaluation.results import Row
from dreambooth_pl.files.atomic import atomic_path

DPI = 150


def fidelity_figure(
    rows_by_scale: Mapping[str, Mapping[float, Row]],
    floor: Row | None = None,
    ceiling: Row | None = None,
    title: str = "",
) -> Figure:
    """Draw fidelity to the subject (DINO) against fidelity to the prompt (CLIP-T) over LoRA scales.

    Stronger adapters make images truer to the subject and less true to the prompt; the plot shows
    what one costs in the other. Bars are 95 % intervals.

    Args:
        rows_by_scale: for each method's name a row for each scale; rows have DINO and CLIP-T.
        floor: the untuned base's row: a cross.
        ceiling: the real photos' row, which has no CLIP-T: a line.
        title: above the plot.
    """
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for name, rows in rows_by_scale.items():
        scales = sorted(rows)
        points = [_point(rows[scale]) for scale in scales]
        axes.errorbar(
            [clip_t.mean for clip_t, _ in points],
            [dino.mean for _, dino in points],
            xerr=_bars([clip_t for clip_t, _ in points]),
            yerr=_bars([dino for _, dino in points]),
            marker="o",
            elinewidth=0.5,
            label=name,
        )
        for scale, (clip_t, dino) in zip(scales, points, strict=True):
            axes.annotate(
                f"{scale:g}",
                (clip_t.mean, dino.mean),
                textcoords="offset points",
                xytext=(5, 5),
                fontsize="small",
            )
    if floor is not None:
        clip_t, dino = _point(floor)
        axes.plot(clip_t.mean, dino.mean, "x", color="black", label="floor: untuned base")
    if ceiling is not None and "dino" in ceiling.scores:
        style = {"linestyle": "--", "color": "grey"}
        axes.axhline(ceiling.scores["dino"].mean, label="ceiling: real photos", **style)
    axes.set_xlabel("CLIP-T: fidelity to the prompt")
    axes.set_ylabel("DINO: fidelity to the subject")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def fidelity_plot(
    rows_by_scale: Mapping[str, Mapping[float, Row]],
    path: str | Path,
    floor: Row | None = None,
    ceiling: Row | None = None,
    title: str = "",
) -> None:
    """Write `fidelity_figure` as a PNG; it appears complete or not at all."""
    figure = fidelity_figure(rows_by_scale, floor, ceiling, title)
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def _point(row: Row) -> tuple[Interval, Interval]:
    assert row.scores.keys() >= {"clip_t", "dino"}, f"{row.run} lacks DINO or CLIP-T"
    return row.scores["clip_t"], row.scores["dino"]


def _bars(scores: list[Interval]) -> list[list[float]]:
    """Lengths of error bars below and above; 0 where a score has no interval."""
    ends = [(s.mean - s.low, s.high - s.mean) for s in scores]
    clean = [[0.0 if math.isnan(length) else max(length, 0.0) for length in pair] for pair in ends]
    return [list(side) for side in zip(*clean, strict=True)]
