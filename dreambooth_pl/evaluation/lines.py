"""The lines of an evaluation: each a name and the score sets that its row is computed from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.comparison import Comparison, compare
from dreambooth_pl.evaluation.intervals import Row
from dreambooth_pl.evaluation.score_tensors import PROMPT_SCORES, ScoreSet, row_of, stack
from dreambooth_pl.runs.finished import Run

Role = Literal["ceiling", "floor", "run"]
REAL_PHOTOS = "real photos"  # how ceiling and floor are called
BASE = "base"


@dataclass(frozen=True, eq=False)
class Line:
    """What one row of a table is about.

    Attributes:
        role: ceiling, floor or what is evaluated.
        name, protocol: as the row shows them.
        sets: what it is computed from; none for the ceiling of a single photo.
        n_images: as the row shows it; None for the number of the prompts' images.
        run: whose line it is; None for ceiling, floor and averages.
        group: equal for the lines that share base and encoders, so that averages make sense.
        distance: what diversity was measured with.
    """

    role: Role
    name: str
    protocol: str
    sets: tuple[ScoreSet, ...]
    n_images: int | None = None
    run: Run | None = None
    group: Hashable = None
    distance: str | None = None

    def row(self) -> Row:
        """Compute the row."""
        if not self.sets:
            return Row(self.name, self.protocol, self.n_images or 0, None, None, None)
        return row_of(self.name, self.protocol, self.sets, self.n_images)


def averages(lines: Sequence[Line]) -> list[Line]:
    """Return ceiling, floor and what is evaluated as means over subjects, where there are several.

    For each base with its encoders: the ceilings of all subjects, their floors, and a line for the
    runs of each config (``sks`` of ``sks/version_3``) and LoRA scale that are about more than one
    subject. Nothing where there is no such config.
    """
    found = []
    for group in dict.fromkeys(line.group for line in lines):
        own = [line for line in lines if line.group == group]
        of_config: dict[tuple[str, float | None], list[Line]] = {}
        for line in own:
            if line.role == "run" and line.run is not None:
                config = line.run.folder.absolute().parent.name
                of_config.setdefault((config, line.run.scale), []).append(line)
        several = {key: runs for key, runs in of_config.items() if len(_subjects(runs)) > 1}
        if not several:
            continue
        for role, name in (("ceiling", REAL_PHOTOS), ("floor", BASE)):
            found.append(_mean(role, name, [line for line in own if line.role == role]))
        for (config, scale), runs in several.items():
            name = config if scale is None else f"{config}, scale {scale:g}"
            found.append(_mean("run", name, runs))
    return found


def distance_notes(lines: Sequence[Line]) -> list[str]:
    """Return a sentence for each distance that the lines' diversity was measured with."""
    measured = (line for line in lines if any("div" in own.scores for own in line.sets))
    return [f"DIV by {distance}." for distance in dict.fromkeys(line.distance for line in measured)]


def compare_lines(
    first: str, first_lines: Sequence[Line], second: str, second_lines: Sequence[Line]
) -> Comparison:
    """Compare two methods, each with a line per subject (and run of it), in pairs.

    Raises:
        UserError: they are not about the same subjects and prompts.
    """
    mine, other = (
        sorted((own for line in lines for own in line.sets), key=lambda own: own.subject)
        for lines in (first_lines, second_lines)
    )
    if [(own.subject, own.templates) for own in mine] != [
        (own.subject, own.templates) for own in other
    ]:
        raise UserError(
            f"{first} and {second} are not about the same subjects and prompts ("
            f"{_content(mine)} against {_content(other)}), so they cannot be compared in pairs."
        )
    names = (*PROMPT_SCORES, "pres", "drift")
    return compare(
        first, second, first_lines[0].protocol, _stacked(mine, names), _stacked(other, names)
    )


def _stacked(sets: Sequence[ScoreSet], names: Sequence[str]) -> dict[str, Tensor]:
    found = {name: stack(sets, name) for name in names}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _content(sets: Sequence[ScoreSet]) -> str:
    return ", ".join(f"{own.subject}: {len(own.templates)} prompts" for own in sets)


def short_names(
    values: Sequence[Hashable], short: Callable[[Any], str], long: Callable[[Any], str] = str
) -> dict[Any, str]:
    """Name each distinct value by ``short``, or all by ``long`` if two would be the same."""
    names = {value: short(value) for value in values}
    if len(set(names.values())) < len(names):
        return {value: long(value) for value in values}
    return names


def _mean(role: Role, name: str, lines: Sequence[Line]) -> Line:
    sets = tuple(own for line in lines for own in line.sets)
    counts = [line.row().n_images for line in lines]
    title = f"{name} (mean of {len(_subjects(lines))} subjects)"
    first = lines[0]
    return Line(
        role, title, first.protocol, sets, sum(counts), group=first.group, distance=first.distance
    )


def _subjects(lines: Sequence[Line]) -> set[str]:
    return {own.subject for line in lines for own in line.sets}
