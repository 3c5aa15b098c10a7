"""What an evaluation leaves on disk: score tensors, every image's scores, contact sheets.

`scores.safetensors` holds the tensors, [subject, prompt, image] with NaN where there is no image,
by `SET.SCORE`. `scores.json` says what their places mean, repeats every image's scores for
people, and names all that they depend on. Tables are computed from the tensors alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.protocols import ImagePlan
from dreambooth_pl.evaluation.score_set import ScoreSet
from dreambooth_pl.evaluation.subject import ScoredImages
from dreambooth_pl.files.atomic import atomic_path, write_text
from dreambooth_pl.files.contact_sheet import contact_sheet
from dreambooth_pl.files.leftovers import remove_leftovers
from dreambooth_pl.files.png_metadata import save_png
from dreambooth_pl.metrics.scores import SCORES, Scope, table_scores

SCORES_FILE = "scores.json"
TENSORS = "scores.safetensors"
REAL_PHOTOS_SET = "real_photos"  # the set of the ceiling
COLUMNS = 4  # of contact sheets


def save_record(
    folder: Path,
    facts: Mapping[str, Any],
    scored: Mapping[str, ScoredImages],
    ceiling: ScoreSet | None,
) -> None:
    """Write tensors, index and one contact sheet per set of images; each whole or not at all.

    Args:
        folder: made when needed.
        facts: what the scores depend on besides prompts and seeds; JSON types, with the keys
            `run` and `protocol`.
        scored: by the name of the set: `tuned`, `base`.
        ceiling: scores of the real photos; None for a single photo.
    """
    remove_leftovers(folder)
    sets = {name: s.by_prompt for name, s in scored.items()}
    if ceiling is not None:
        sets[REAL_PHOTOS_SET] = ceiling
    details = {
        **facts,
        "images": {name: _image_entries(s) for name, s in scored.items()},
        "class_images": {name: _class_entries(s) for name, s in scored.items()},
        "real_photos": [] if ceiling is None else _photo_entries(ceiling),
    }
    save_sets(folder, sets, details)
    for name, s in scored.items():
        title = f"{facts['run']}, {facts['protocol']}: {name}"
        sheet = contact_sheet(s.images, _labels(s), COLUMNS, title)
        save_png(sheet, folder / f"{name}.png", {"title": title})
        if s.class_images:
            sheet = contact_sheet(
                s.class_images.own, _plain_labels(s.class_images.plan), COLUMNS, f"{title}, class"
            )
            save_png(sheet, folder / f"class_{name}.png", {"title": f"{title}, class"})


def save_sets(
    folder: Path, sets: Mapping[str, ScoreSet], details: Mapping[str, Any] | None = None
) -> None:
    """Write score sets as tensors and index; `details` are further keys of the index.

    The index comes last: where it is, the tensors are.
    """
    tensors: dict[str, Tensor] = {}
    for name, own in sets.items():
        for score, values in own.scores.items():
            tensors[f"{name}.{score}"] = values[None].contiguous()
        for score, values in own.class_scores.items():
            tensors[f"{name}.{score}"] = values[None, None].contiguous()
    index = {
        name: {
            "subject": own.subject,
            "live": own.live,
            "templates": own.templates,
            "kinds": own.kinds,
        }
        for name, own in sets.items()
    }
    record = {**(details or {}), "tensors": TENSORS, "sets": index}
    with atomic_path(folder / TENSORS) as temporary:
        save_file(tensors, temporary)
    write_text(folder / SCORES_FILE, json.dumps(record, indent=2, allow_nan=False) + "\n")


def read_sets(folder: Path) -> dict[str, ScoreSet]:
    """Read the score sets that `save_sets` or `save_record` wrote, by their names.

    Raises:
        UserError: there are none, or the files are damaged.
    """
    try:
        index = json.loads((folder / SCORES_FILE).read_text(encoding="utf-8"))["sets"]
        tensors = load_file(folder / TENSORS)
        return {name: _read_set(name, entry, tensors) for name, entry in index.items()}
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{folder} holds no scores of an evaluation ({SCORES_FILE} with {TENSORS}), or damaged "
            f"ones: {error}. Evaluate again."
        ) from error


def _read_set(name: str, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ScoreSet:
    own = {
        score: tensors[f"{name}.{score}"][0] for score in SCORES if f"{name}.{score}" in tensors
    }  # scores that are not known, such as another version's, are passed over
    return ScoreSet(
        subject=entry["subject"],
        live=entry["live"],
        templates=tuple(entry["templates"]),
        kinds=tuple(entry["kinds"]),
        scores={key: tensor for key, tensor in own.items() if not _is_of_class(key)},
        class_scores={key: tensor[0] for key, tensor in own.items() if _is_of_class(key)},
    )


def _is_of_class(name: str) -> bool:
    return SCORES[name].scope in (Scope.CLASS, Scope.CLASS_PAIR)


def _photo_entries(ceiling: ScoreSet) -> list[dict[str, Any]]:
    """Return each photo's scores: they stand in one row, as images of one prompt."""
    return _per_image({name: values[0] for name, values in ceiling.scores.items()})


def _image_entries(scored: ScoredImages) -> list[dict[str, Any]]:
    plan = scored.plan
    return [
        {
            "label": label,
            "prompt": request.prompt,
            "class_text": class_text,
            "template": template,
            "seed": request.seed,
            **scores,
        }
        for label, request, class_text, template, scores in zip(
            plan.labels,
            plan.requests,
            plan.class_texts,
            plan.templates,
            _per_image(scored.by_image),
            strict=True,
        )
    ]


def _class_entries(scored: ScoredImages) -> list[dict[str, Any]]:
    if scored.class_images is None:
        return []
    return [
        {"prompt": request.prompt, "seed": request.seed, **scores}
        for request, scores in zip(
            scored.class_images.plan.requests,
            _per_image(scored.by_prompt.class_scores),
            strict=True,
        )
    ]


def _per_image(scores: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """Turn columns of scores into one dictionary per image."""
    assert all(torch.isfinite(values).all() for values in scores.values())
    columns = {name: values.tolist() for name, values in scores.items()}
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, values, strict=True)) for values in rows]


def _labels(scored: ScoredImages) -> list[str]:
    shown = [score for score in table_scores("fidelity") if score.name in scored.by_image]
    return [
        label + "\n" + ", ".join(f"{score.heading} {row[score.name]:.2f}" for score in shown)
        for label, row in zip(_plain_labels(scored.plan), _per_image(scored.by_image), strict=True)
    ]


def _plain_labels(plan: ImagePlan) -> list[str]:
    return [
        request.prompt + (f"\nseed {request.seed}" if request.seed >= 0 else "")
        for request in plan.requests
    ]
