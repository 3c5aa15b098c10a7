"""The contact sheet of a benchmark: a row per run, what it drew side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from dreambooth_pl.benchmark.table import JobLine
from dreambooth_pl.evaluation.protocols import PROBES as PROBES_PROTOCOL
from dreambooth_pl.evaluation.run_images import TUNED, folder_of, plan_of
from dreambooth_pl.files.contact_sheet import image_table
from dreambooth_pl.prompts import fill
from dreambooth_pl.runs.finished import Run
from dreambooth_pl.runs.folder import PROBES
from dreambooth_pl.sampling.requests import probe_requests

COLUMNS = 8
"""Most prompts that a sheet shows of a protocol."""


def benchmark_sheet(entries: Sequence[JobLine], protocol: str, title: str) -> Image.Image | None:
    """Lay out the runs' final probes, four plain images from four seeds and the four prompts.

    Where no run drew any, it shows what the evaluation drew: the first image each of up to
    `COLUMNS` prompts, spread over those that the protocol asks of all runs. Runs without images
    are left out.

    Args:
        entries: at least one.
        protocol: that the runs were evaluated under.
        title: a line above all.

    Returns:
        RGB image; None if there is nothing to show.
    """
    runs = {entry.line.name: entry.line.run for entry in entries if entry.line.run is not None}
    nouns = {run.class_noun for run in runs.values()}
    noun = nouns.pop() if len(nouns) == 1 else "[class]"
    shown = {name: images for name, run in runs.items() if (images := final_probes(run))}
    prompts = [request.prompt for _, request in probe_requests("[V]", noun, 0)]
    if not shown:
        templates, shown = evaluation_images(runs, protocol)
        prompts = [fill(template, "[V]", noun) for template in templates]
    if not shown or not prompts:
        return None
    labels = [
        f"{prompt} ({prompts[: i + 1].count(prompt)})" if prompts.count(prompt) > 1 else prompt
        for i, prompt in enumerate(prompts)
    ]
    pictures = []
    for paths in shown.values():
        row = []
        for path in paths:
            with Image.open(path) as file:
                row.append(file.convert("RGB"))
        pictures.append(row)
    return image_table(pictures, list(shown), labels, title)


def final_probes(run: Run) -> list[Path]:
    """Return the files of a run's last round of probes, else of the evaluation's; or nothing."""
    rounds = sorted(path for path in (run.folder / PROBES).glob("step_*") if path.is_dir())
    folders = [*rounds[-1:], folder_of(run, PROBES_PROTOCOL, TUNED)]
    wanted = len(probe_requests("", run.class_noun, seed=0))
    for folder in folders:
        images = sorted(folder.glob("[!.]*.png"))
        if len(images) == wanted:
            return images
    return []


def evaluation_images(
    runs: Mapping[str, Run], protocol: str
) -> tuple[list[str], dict[str, list[Path]]]:
    """Choose among the images that the evaluation drew of each run.

    Returns:
        Up to `COLUMNS` prompt templates that the protocol asks of all runs, spread evenly over
        them, and by run the first image of each.
    """
    plans = {name: plan_of(run, protocol).templates for name, run in runs.items()}
    shared = [
        template
        for template in dict.fromkeys(next(iter(plans.values())))
        if all(template in templates for templates in plans.values())
    ]
    count = min(COLUMNS, len(shared))
    chosen = [shared[i * len(shared) // count] for i in range(count)]
    images = {}
    for name, run in runs.items():
        drawn = sorted(folder_of(run, protocol, TUNED).glob("[!.]*.png"))
        if len(drawn) == len(plans[name]):
            images[name] = [drawn[plans[name].index(template)] for template in chosen]
    return chosen, images
