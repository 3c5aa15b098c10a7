"""Plots by their axes' data, and by the PNG that is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dreambooth_pl.evaluation.bootstrap import Interval
from dreambooth_pl.evaluation.results import Row
from dreambooth_pl.reporting.plots import DPI, fidelity_figure, fidelity_plot


def row(dino: float, clip_t: float | None) -> Row:
    means = {"dino": dino, "clip_t": clip_t}
    scores = {n: Interval(m, m - 0.01, m + 0.02) for n, m in means.items() if m is not None}
    return Row("run", "probes", 8, scores)


CURVES = {"sks": {0.8: row(0.6, 0.25), 0.2: row(0.3, 0.31)}, "oue": {0.4: row(0.5, 0.28)}}


def test_axes_hold_the_scores_in_order_of_scale() -> None:
    figure = fidelity_figure(CURVES, row(0.25, 0.32), row(0.7, None), "title")
    (axes,) = figure.axes
    sks, oue = axes.containers
    assert sks.lines[0].get_xydata().tolist() == [[0.31, 0.3], [0.25, 0.6]]
    assert oue.lines[0].get_xydata().tolist() == [[0.28, 0.5]]
    horizontal, vertical = sks.lines[2]
    assert horizontal.get_segments()[0].ravel() == pytest.approx([0.30, 0.3, 0.33, 0.3])
    assert vertical.get_segments()[1].ravel() == pytest.approx([0.25, 0.59, 0.25, 0.62])
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["floor: untuned base"].get_xydata().tolist() == [[0.32, 0.25]]
    assert lines["ceiling: real photos"].get_ydata() == [0.7, 0.7]
    assert [text.get_text() for text in axes.texts] == ["0.2", "0.8", "0.4"]
    labels = {text.get_text() for text in axes.get_legend().get_texts()}
    assert labels == {"sks", "oue", "floor: untuned base", "ceiling: real photos"}
    assert "CLIP-T" in axes.get_xlabel() and "DINO" in axes.get_ylabel()


def test_png_is_written_whole(tmp_path: Path) -> None:
    fidelity_plot(CURVES, tmp_path / "plot.png", row(0.25, 0.32), row(0.7, None))
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]
    with Image.open(tmp_path / "plot.png") as image:
        image.load()
        assert image.size == (round(6.4 * DPI), round(4.8 * DPI))
        colours = {colour[:3] for _, colour in image.getcolors(2**24)}
    assert (255, 255, 255) in colours
    assert (31, 119, 180) in colours, "the first curve's blue"
