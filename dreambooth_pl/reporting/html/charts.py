"""Line charts as geometry, which the template draws as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 360, 220  # of the drawing
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 10, 36  # margins, for the numbers on the axes


@dataclass(frozen=True)
class Line:
    """A line of a chart."""

    name: str
    points: tuple[tuple[float, float], ...]
    """x and y, by x."""
    intervals: tuple[tuple[float, float], ...] = ()
    """Ends of each point's interval; none for a line without."""
    colour: int = 0
    """Number of its colour, the same in all charts that a legend is about."""


@dataclass(frozen=True)
class Chart:
    """A chart of at least one line of at least one point."""

    title: str
    x_label: str
    lines: tuple[Line, ...]
    levels: Mapping[str, float] = field(default_factory=dict)
    """Horizontal lines, such as floor and ceiling, by their names."""
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def summary(self) -> str:
        """The chart in words, for those who cannot see it."""
        lines = (
            f"{line.name} from {line.points[0][1]:.3f} at {line.points[0][0]:g} to "
            f"{line.points[-1][1]:.3f} at {line.points[-1][0]:g}"
            for line in self.lines
        )
        levels = (f"{name} {value:.3f}" for name, value in self.levels.items())
        return f"{self.title} over {self.x_label}: {'; '.join([*lines, *levels])}."

    @cached_property
    def x_ticks(self) -> list[tuple[float, str]]:
        """Places and texts of the numbers below."""
        return [(self.x(value), f"{value:g}") for value in _ticks(*self._x_ends)]

    @cached_property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Places and texts of the numbers on the left."""
        return [(self.y(value), f"{value:g}") for value in _ticks(*self._y_ends)]

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the plane."""
        return _LEFT, _TOP, self.width - _RIGHT, self.height - _BOTTOM

    def x(self, value: float) -> float:
        """Return the place of a value of x."""
        left, _, right, _ = self.frame
        return _place(value, self._x_ends, left, right)

    def y(self, value: float) -> float:
        """Return the place of a value of y."""
        _, top, _, bottom = self.frame
        return _place(value, self._y_ends, bottom, top)

    def path(self, line: Line) -> str:
        """Return the points of a line as SVG takes them."""
        return " ".join(f"{self.x(x)},{self.y(y)}" for x, y in line.points)

    @cached_property
    def _x_ends(self) -> tuple[float, float]:
        return _ends([x for line in self.lines for x, _ in line.points])

    @cached_property
    def _y_ends(self) -> tuple[float, float]:
        values = [y for line in self.lines for _, y in line.points]
        values += [end for line in self.lines for ends in line.intervals for end in ends]
        low, high = _ends([*values, *self.levels.values()])
        rim = 0.05 * (high - low)
        return low - rim, high + rim


def legend(charts: Sequence[Chart]) -> list[tuple[int, str]]:
    """Return colour and name of the lines of several charts, each once."""
    return sorted({(line.colour, line.name) for chart in charts for line in chart.lines})


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    values = MaxNLocator(nbins=5).tick_values(low, high)
    return [round(float(value), 10) for value in values if low <= value <= high]


def _place(value: float, ends: tuple[float, float], start: float, stop: float) -> float:
    low, high = ends
    return round(start + (value - low) / (high - low) * (stop - start), 2)
