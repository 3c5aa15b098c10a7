"""The model card, README.md of an export: usage, settings, scores and licence."""

from __future__ import annotations

from pathlib import Path

import yaml

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.record import REAL_PHOTOS_SET, SCORES_FILE, read_sets
from dreambooth_pl.evaluation.results import row_of
from dreambooth_pl.export.origin import Origin
from dreambooth_pl.files.dotted_keys import flatten
from dreambooth_pl.reporting.tables import render
from dreambooth_pl.runs.finished import EVALUATION

SHEET = "probes.png"
_ROWS = ((REAL_PHOTOS_SET, "real photos (ceiling)"), ("base", "untuned base (floor)"))
_SETTINGS = (
    "seed_everything",
    "model.adapter",
    "model.lora",
    "model.train_text_encoder",
    "model.prior_loss_weight",
    "model.learning_rate",
    "model.text_encoder_learning_rate",
    "data.resolution",
    "data.batch_size",
    "data.instance_prompt",
    "data.num_class_images",
    "trainer.max_steps",
    "sampling",
)


def model_card(origin: Origin, form: str, usage: str, note: str = "") -> str:
    """Return the text of the model card, in Markdown.

    Args:
        origin: the run.
        form: the format of the export, in words.
        usage: how to load the export, in Markdown.
        note: further information, such as the scales of a merged model.
    """
    subject = f"{origin.identifier} {origin.class_noun}".strip()
    front = {
        "tags": ["dreambooth", "text-to-image", "diffusers", "dreambooth_pl"],
        "base_model": origin.base,
    }
    if origin.licence:
        front["license"] = origin.licence
    if subject:
        front["instance_prompt"] = f"a {subject}"
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False).strip()}\n---",
        f"# {origin.name}",
        f"One subject, taught to `{origin.base}` by DreamBooth (arXiv 2208.12242); {form}."
        + (f" Its words are **{subject}**." if subject else ""),
    ]
    if origin.probe_sheet:
        parts.append(f"![Generated images]({SHEET})")
    parts += ["## Use", usage]
    parts += [note] if note else []
    if settings := _settings(origin):
        parts += ["## Settings", settings]
    if scores := _scores(origin):
        parts += ["## Scores", scores]
    licence = (
        f"`{origin.base}` is under {origin.licence}"
        if origin.licence
        else (f"The licence of `{origin.base}` holds for what is derived from it")
    )
    parts += ["## Licence", f"{licence}; mind the rights in the photos, too."]
    return "\n\n".join(parts) + "\n"


def _settings(origin: Origin) -> str:
    leaves = flatten(origin.config)
    chosen = {
        key: value
        for key, value in leaves.items()
        if any(key == name or key.startswith(f"{name}.") for name in _SETTINGS)
    }
    if not chosen:
        return ""
    rows = [f"| `{key}` | {value} |" for key, value in chosen.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _scores(origin: Origin) -> str:
    """Return the tables of the run's evaluations, one per protocol that has scores."""
    if origin.folder is None:
        return ""
    texts = []
    for path in sorted((origin.folder / EVALUATION).glob(f"*/{SCORES_FILE}")):
        try:
            sets = read_sets(path.parent)
        except UserError:
            continue
        names = [*_ROWS, ("tuned", origin.name)]
        rows = [row_of(title, path.parent.name, [sets[n]]) for n, title in names if n in sets]
        texts.append(render(rows, "markdown").strip())
    return "\n\n".join(texts)


def write_card(folder: Path, origin: Origin, text: str) -> None:
    """Write README.md into a folder, with the sheet of probe images that it shows."""
    (folder / "README.md").write_text(text, encoding="utf-8")
    if origin.probe_sheet:
        (folder / SHEET).write_bytes(origin.probe_sheet.read_bytes())
