"""What an evaluation leaves in a run's folder: contact sheets and every image's scores."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth_pl.contact_sheet import contact_sheet
from dreambooth_pl.protocols import Plan
from dreambooth_pl.sampling import save_png
from dreambooth_pl.scoring import ImageScores

SCORES = "scores.json"
COLUMNS = 4  # of contact sheets


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """A plan's images and their scores, in the plan's order."""

    plan: Plan
    images: Sequence[Image.Image]
    scores: ImageScores


def save_record(
    folder: Path,
    facts: Mapping[str, Any],
    scored: Mapping[str, ScoredImages],
    ceiling: ImageScores | None,
) -> None:
    """Write ``scores.json`` and one contact sheet per set of images; each whole or not at all.

    Args:
        folder: exists.
        facts: what the scores depend on besides prompts and seeds; JSON types, with the keys
            ``run`` and ``protocol``.
        scored: by the name of the set: ``tuned``, ``base``.
        ceiling: scores of the real photos; None for a single photo.
    """
    record = {
        **facts,
        "images": {
            name: [
                {
                    "label": label,
                    "prompt": request.prompt,
                    "class_text": class_text,
                    "seed": request.seed,
                    **scores,
                }
                for label, request, class_text, scores in zip(
                    s.plan.labels,
                    s.plan.requests,
                    s.plan.class_texts,
                    _per_image(s.scores),
                    strict=True,
                )
            ]
            for name, s in scored.items()
        },
        "real_photos": [] if ceiling is None else _per_image(ceiling),
    }
    unfinished = folder / f".{SCORES}.{os.getpid()}.tmp"
    try:
        unfinished.write_text(json.dumps(record, indent=2, allow_nan=False), encoding="utf-8")
        unfinished.replace(folder / SCORES)
    finally:
        unfinished.unlink(missing_ok=True)
    for name, s in scored.items():
        title = f"{facts['run']}, {facts['protocol']}: {name}"
        sheet = contact_sheet(s.images, _labels(s), COLUMNS, title)
        save_png(sheet, folder / f"{name}.png", {"title": title})


def _per_image(scores: ImageScores) -> list[dict[str, float]]:
    """Turn columns of scores into one dictionary per image."""
    columns = {field.name: getattr(scores, field.name) for field in fields(scores)}
    columns = {name: column.tolist() for name, column in columns.items() if column is not None}
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    return rows


def _labels(scored: ScoredImages) -> list[str]:
    return [
        f"{request.prompt}\nseed {request.seed}\n"
        f"DINO {row['dino']:.2f}, CLIP-I {row['clip_i']:.2f}, CLIP-T {row['clip_t']:.2f}"
        for request, row in zip(scored.plan.requests, _per_image(scored.scores), strict=True)
    ]
