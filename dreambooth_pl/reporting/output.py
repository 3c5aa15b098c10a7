"""What an evaluation writes where it is told to: tensors, images, tables, plots, contact sheets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.comparison import Comparison
from dreambooth_pl.evaluation.image_folder import INDEX, listed_files
from dreambooth_pl.evaluation.lines import Line
from dreambooth_pl.evaluation.protocols import protocol_name
from dreambooth_pl.evaluation.record import (
    SCORES_FILE,
    read_sets,
    save_record,
    save_sets,
)
from dreambooth_pl.evaluation.run_images import BASE, CLASS, TUNED, folder_of
from dreambooth_pl.evaluation.subject_scorer import ScoredImages
from dreambooth_pl.files.atomic import atomic_folder, copy_file, remove_leftovers, write_text
from dreambooth_pl.reporting.paper import PaperTable
from dreambooth_pl.reporting.plots import fidelity_plot
from dreambooth_pl.reporting.tables import render

PLOT = "fidelity.png"
_TABLES = {"table": "txt", "markdown": "md", "csv": "csv", "latex": "tex", "json": "json"}


def save_lines(
    lines: Sequence[Line],
    out: Path,
    comparisons: Sequence[Comparison] = (),
    paper: Sequence[PaperTable] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write score tensors and tables in all formats.

    ``scores.safetensors`` and ``scores.json`` hold what ``read_lines`` computes the same rows from.

    Raises:
        UserError: the folder cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out)
        sets, index = {}, []
        for number, line in enumerate(lines):
            names = [f"{number:03d}.{part}" for part in range(len(line.sets))]
            sets |= zip(names, line.sets, strict=True)
            index.append(
                {
                    "role": line.role,
                    "name": line.name,
                    "protocol": line.protocol,
                    "n_images": line.n_images,
                    "distance": line.distance,
                    "sets": names,
                }
            )
        save_sets(out, sets, {"lines": index})
        rows = [line.row() for line in lines]
        for form, suffix in _TABLES.items():
            text = render(rows, form, 160, comparisons=comparisons, paper=paper, notes=notes)
            write_text(out / f"table.{suffix}", text)
    except OSError as error:
        raise UserError(f"--save: cannot write to {out}: {error.strerror or error}.") from error


def read_lines(folder: Path) -> list[Line]:
    """Read what ``save_lines`` wrote: the same lines, but for the runs and groups.

    Raises:
        UserError: there is none of it.
    """
    sets = read_sets(folder)
    index = json.loads((folder / SCORES_FILE).read_text(encoding="utf-8")).get("lines")
    if index is None:
        raise UserError(f"{folder} holds the scores of one run, not a saved table.")
    return [
        Line(
            entry["role"],
            entry["name"],
            entry["protocol"],
            tuple(sets[name] for name in entry["sets"]),
            entry["n_images"],
            distance=entry["distance"],
        )
        for entry in index
    ]


def save_images(lines: Sequence[Line], protocol: str, out: Path) -> None:
    """Copy each run's images, scores and contact sheets to a folder of its name below ``out``.

    Each such folder is one that ``folder_evaluation.score_folder`` takes.
    """
    for line in lines:
        if line.run is None:
            continue
        target = out / re.sub(r"[^A-Za-z0-9._-]+", "-", line.name).strip("-.")
        remove_leftovers(target)
        for what in (TUNED, BASE, CLASS + TUNED, CLASS + BASE):
            source = folder_of(line.run, protocol, what)
            if source.is_dir():
                _copy(source, target / what)
        for path in folder_of(line.run, protocol).parent.iterdir():
            if path.is_file() and not path.name.startswith("."):
                copy_file(path, target / path.name)


def save_folder_record(
    lines: Sequence[Line], scored: Mapping[str, ScoredImages], out: Path
) -> None:
    """Write tensors and contact sheets of a folder of images that was scored."""
    facts = {"run": lines[-1].name, "protocol": lines[-1].protocol}
    save_record(out / "images", facts, scored, None)


def save_plots(lines: Sequence[Line], protocol: str, out: Path | None = None) -> list[Path]:
    """Plot fidelity against prompt fidelity over the LoRA scales of each run.

    One plot per run in its evaluation folder, and one of all runs in ``out``, for each group of
    runs that share ceiling and floor. Runs at a single scale have none.

    Returns:
        The files written.
    """
    written = []
    groups: dict[tuple, list[Line]] = {}
    for line in lines:
        if line.run is not None and line.run.scale is not None:
            groups.setdefault((line.group, line.run.instance_dir), []).append(line)
    for number, own in enumerate(groups.values()):
        subject = own[0].sets[0].subject
        references = {
            line.role: line.row()
            for line in lines
            if line.run is None
            and line.group == own[0].group
            and {part.subject for part in line.sets} == {subject}
        }
        of_run: dict[tuple, list[Line]] = {}
        for line in own:
            of_run.setdefault((line.run.folder, line.run.adapter), []).append(line)
        of_run = {key: runs for key, runs in of_run.items() if len(runs) > 1}
        curves = {
            _without_scale(runs[0]): {line.run.scale: line.row() for line in runs}
            for runs in of_run.values()
        }
        ends = (references.get("floor"), references.get("ceiling"))
        title = f"{protocol_name(protocol)}: {subject}"
        for runs, (name, curve) in zip(of_run.values(), curves.items(), strict=True):
            path = runs[0].run.evaluation / protocol_name(protocol) / PLOT
            fidelity_plot({name: curve}, path, *ends, title)
            written.append(path)
        if out is not None and curves:
            path = out / (PLOT if len(groups) == 1 else f"fidelity_{number}.png")
            fidelity_plot(curves, path, *ends, title)
            written.append(path)
    return written


def _without_scale(line: Line) -> str:
    return line.name.removesuffix(f", scale {line.run.scale:g}")


def _copy(source: Path, target: Path) -> None:
    """Copy a folder's images as its index lists them; what lies at the target from before goes."""
    with atomic_folder(target, replace=True) as folder:
        for name in [*listed_files(source), INDEX]:
            copy_file(source / name, folder / name)
