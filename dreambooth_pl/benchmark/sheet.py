"""Contact sheet of a benchmark: one row of generated images per run."""

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
"""Maximum number of a protocol's prompts on a sheet."""


def benchmark_sheet(entries: Sequence[JobLine], protocol: str, title: str) -> Image.Image | None:
    """Lay out the images of the runs in a table, one row per run.

    The sheet shows the probe images of each run's last round: four of the plain prompt with
    different seeds, and one of each of four other prompts. If no run has probe images, it shows
    images of the evaluation: the first image of up to `COLUMNS` prompts, spread evenly over the
    prompts that the protocol uses for all runs. Runs without images are left out.

    Args:
        entries: at least one job with its line.
        protocol: protocol of the evaluation.
        title: heading of the sheet.

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
    """Return the image files of a run's last round of probes.

    Without these, return the files of the evaluation under the protocol of the probes. The list is
    empty if there are none, too.
    """
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
    """Choose images of the evaluation, the same prompts for each run.

    Args:
        runs: the runs by the name of their row.
        protocol: protocol of the evaluation.

    Returns:
        Up to `COLUMNS` prompt templates, spread evenly over those that the protocol uses for all
        runs, and the first image of each of them, by run. Runs with missing images are left out.
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
        generated = sorted(folder_of(run, protocol, TUNED).glob("[!.]*.png"))
        if len(generated) == len(plans[name]):
            images[name] = [generated[plans[name].index(template)] for template in chosen]
    return chosen, images
