"""What an evaluation writes where it is told to: tensors, images, tables, plots, contact sheets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.comparison import Comparison
from dreambooth_pl.evaluation.image_folder import INDEX, listed_files
from dreambooth_pl.evaluation.protocols import protocol_name
from dreambooth_pl.evaluation.record import save_record, save_sets
from dreambooth_pl.evaluation.results import Result, references, without_scale
from dreambooth_pl.evaluation.run_images import BASE, CLASS, TUNED, folder_of
from dreambooth_pl.evaluation.subject import ScoredImages
from dreambooth_pl.files.atomic import atomic_folder, copy_file, write_text
from dreambooth_pl.files.leftovers import remove_leftovers
from dreambooth_pl.reporting.paper import PaperTable
from dreambooth_pl.reporting.plots import fidelity_plot
from dreambooth_pl.reporting.tables import render

PLOT = "fidelity.png"
_TABLES = {"table": "txt", "markdown": "md", "csv": "csv", "latex": "tex", "json": "json"}


def save_results(
    results: Sequence[Result],
    out: Path,
    comparisons: Sequence[Comparison] = (),
    paper: Sequence[PaperTable] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write score tensors and tables in all formats.

    `scores.safetensors` and `scores.json` hold what the rows are computed from.

    Raises:
        UserError: the folder cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out)
        sets, index = {}, []
        for number, result in enumerate(results):
            names = [f"{number:03d}.{part}" for part in range(len(result.sets))]
            sets |= zip(names, result.sets, strict=True)
            index.append(
                {
                    "role": result.role,
                    "name": result.name,
                    "protocol": result.protocol,
                    "n_images": result.n_images,
                    "distance": result.distance,
                    "sets": names,
                }
            )
        save_sets(out, sets, {"lines": index})
        rows = [result.row for result in results]
        for form, suffix in _TABLES.items():
            text = render(rows, form, 160, comparisons=comparisons, paper=paper, notes=notes)
            write_text(out / f"table.{suffix}", text)
    except OSError as error:
        raise UserError(f"--save: cannot write to {out}: {error.strerror or error}.") from error


def save_images(results: Sequence[Result], protocol: str, out: Path) -> dict[str, Path]:
    """Copy each run's images, scores and contact sheets to a folder of its name below `out`.

    Returns:
        By the name of the run's row its folder, which `evaluate_folder.score_folder` takes.
    """
    saved = {}
    for result in results:
        if result.run is None:
            continue
        target = out / re.sub(r"[^A-Za-z0-9._-]+", "-", result.name).strip("-.")
        while target in saved.values():  # such as `a b` and `a-b`
            target = target.with_name(f"{target.name}-again")
        remove_leftovers(target)
        for what in (TUNED, BASE, CLASS + TUNED, CLASS + BASE):
            source = folder_of(result.run, protocol, what)
            if source.is_dir():
                _copy(source, target / what)
        for path in folder_of(result.run, protocol).parent.iterdir():
            if path.is_file() and not path.name.startswith("."):
                copy_file(path, target / path.name)
        saved[result.name] = target
    return saved


def save_folder_record(
    results: Sequence[Result], scored: Mapping[str, ScoredImages], out: Path
) -> Path:
    """Write tensors and contact sheets of a folder of images that was scored; return where."""
    facts = {"run": results[-1].name, "protocol": results[-1].protocol}
    save_record(out / "images", facts, scored, None)
    return out / "images"


def save_plots(results: Sequence[Result], protocol: str, out: Path | None = None) -> list[Path]:
    """Plot fidelity against prompt fidelity over the LoRA scales of each run.

    One plot per run in its evaluation folder, and one of all runs in `out`, for each group of
    runs that share ceiling and floor. Runs at a single scale have none.

    Returns:
        The files written.
    """
    written = []
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        if result.run is not None and result.run.scale is not None:
            groups.setdefault((result.group, result.run.instance_dir), []).append(result)
    for number, own in enumerate(groups.values()):
        subject = own[0].sets[0].subject
        ends = references(own[0], results)
        of_run: dict[tuple, list[Result]] = {}
        for result in own:
            of_run.setdefault((result.run.folder, result.run.adapter), []).append(result)
        of_run = {key: runs for key, runs in of_run.items() if len(runs) > 1}
        curves = {
            without_scale(runs[0]): {result.run.scale: result.row for result in runs}
            for runs in of_run.values()
        }
        floor, ceiling = (ends[role].row if role in ends else None for role in ("floor", "ceiling"))
        title = f"{protocol_name(protocol)}: {subject}"
        for runs, (name, curve) in zip(of_run.values(), curves.items(), strict=True):
            path = runs[0].run.evaluation / protocol_name(protocol) / PLOT
            fidelity_plot({name: curve}, path, floor, ceiling, title)
            written.append(path)
        if out is not None and curves:
            path = out / (PLOT if len(groups) == 1 else f"fidelity_{number}.png")
            fidelity_plot(curves, path, floor, ceiling, title)
            written.append(path)
    return written


def _copy(source: Path, target: Path) -> None:
    """Copy a folder's images as its index lists them; what lies at the target from before goes."""
    with atomic_folder(target, replace=True) as folder:
        for name in [*listed_files(source), INDEX]:
            copy_file(source / name, folder / name)
