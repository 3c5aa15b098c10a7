"""The contact sheet of a benchmark: a row per run, its final probe images side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from dreambooth_pl.benchmark.table import JobLine
from dreambooth_pl.contact_sheet import image_table
from dreambooth_pl.protocols import PROBES as PROBES_PROTOCOL
from dreambooth_pl.run_folder import PROBES
from dreambooth_pl.run_images import TUNED, folder_of
from dreambooth_pl.runs import Run
from dreambooth_pl.sampling import probe_requests


def benchmark_sheet(entries: Sequence[JobLine], title: str) -> Image.Image | None:
    """Lay out the runs' final probes: four plain images from four seeds, then the four prompts.

    Runs that drew none (and whose evaluation did not, either) are left out.

    Args:
        entries: at least one.
        title: a line above all.

    Returns:
        RGB image; None if no run has probe images.
    """
    runs = {entry.line.name: entry.line.run for entry in entries if entry.line.run is not None}
    shown = [(name, images) for name, run in runs.items() if (images := final_probes(run))]
    if not shown:
        return None
    nouns = {run.class_noun for run in runs.values()}
    prompts = [
        request.prompt
        for _, request in probe_requests("[V]", nouns.pop() if len(nouns) == 1 else "[class]", 0)
    ]
    labels = [
        f"{prompt} ({prompts[: i + 1].count(prompt)})" if prompts.count(prompt) > 1 else prompt
        for i, prompt in enumerate(prompts)
    ]
    pictures = []
    for _, paths in shown:
        row = []
        for path in paths:
            with Image.open(path) as file:
                row.append(file.convert("RGB"))
        pictures.append(row)
    return image_table(pictures, [name for name, _ in shown], labels, title)


def final_probes(run: Run) -> list[Path]:
    """Return the files of a run's last round of probes, else of the evaluation's; or nothing."""
    rounds = sorted(path for path in (run.folder / PROBES).glob("step_*") if path.is_dir())
    folders = [*rounds[-1:], folder_of(run, PROBES_PROTOCOL, TUNED)]
    wanted = len(probe_requests("", run.class_noun, seed=0))
    for folder in folders:
        images = sorted(folder.glob("*.png"))
        if len(images) == wanted:
            return images
    return []
