"""Curves as SVG, drawn without a library, in the colours of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 300, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 8, 8, 20

Points = Sequence[tuple[int, float]]
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Line:
    """A curve of a chart, or a level: a curve that does not change."""

    label: str
    points: Points
    kind: str = "main"
    """main, second, floor or ceiling: its look."""


def chart(title: str, lines: Sequence[Line], best: int | None = None, best_label: str = "") -> str:
    """Return a chart with its title and legend as HTML; empty without points.

    Args:
        title: what is drawn.
        lines: the curves.
        best: a step to mark.
        best_label: what to call it.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    steps = [step for line in lines for step, _ in line.points]
    values = [value for line in lines for _, value in line.points]
    first, last = min(steps), max(max(steps), min(steps) + 1)
    low, high = min(values), max(values)
    pad = 0.08 * (high - low) or 0.05
    low, high = low - pad, high + pad

    def x(step: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (step - first) / (last - first)

    def y(value: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    drawn = [_axes(first, last, low + pad, high - pad, x, y)]
    for line in lines:
        points = list(line.points)
        if line.kind in ("floor", "ceiling"):
            points = [(first, points[-1][1]), (last, points[-1][1])]
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        drawn.append(f'<polyline class="st-line {line.kind}" points="{path}"/>')
        if line.kind in ("main", "second") and len(points) < 40:
            drawn += [
                f'<circle class="st-dot {line.kind}" cx="{x(s):.1f}" cy="{y(v):.1f}" r="2.5"/>'
                for s, v in points
            ]
    if best is not None and first <= best <= last:
        at = f"{x(best):.1f}"
        drawn.append(f'<line class="st-best" x1="{at}" x2="{at}" y1="{_TOP}" y2="{HEIGHT - 20}"/>')
    said = "; ".join(f"{line.label} {line.points[-1][1]:.3g}" for line in lines)
    said += f"; {best_label} {best}" if best is not None and best_label else ""
    legend = "".join(
        f'<span class="st-key {line.kind}">{escape(line.label)} '
        f"<b>{line.points[-1][1]:.3g}</b></span>"
        for line in lines
    )
    if best is not None and best_label:
        legend += f'<span class="st-key best">{escape(best_label)} <b>{best}</b></span>'
    return (
        f'<figure class="st-chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}: '
        f'{escape(said)}">{"".join(drawn)}</svg><p class="st-legend">{legend}</p></figure>'
    )


def _axes(first: int, last: int, low: float, high: float, x: Scale, y: Scale) -> str:
    bottom = HEIGHT - _BOTTOM
    texts = [
        f'<text x="{_LEFT - 4}" y="{y(value) + 3:.1f}" text-anchor="end">{value:.3g}</text>'
        for value in (low, high)
    ]
    texts += [
        f'<text x="{x(step):.1f}" y="{HEIGHT - 5}" text-anchor="{anchor}">{step}</text>'
        for step, anchor in ((first, "start"), (last, "end"))
    ]
    return f'<path class="st-axis" d="M{_LEFT} {_TOP}V{bottom}H{WIDTH - _RIGHT}"/>' + "".join(texts)
