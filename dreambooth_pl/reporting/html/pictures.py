"""The images of the report: pairs of base and tuned model, and the best and worst by score.

Thumbnails are part of the page, so that it stands alone; the full images are linked to.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dreambooth_pl.data.photos import read_photo
from dreambooth_pl.evaluation.record import SCORES_FILE
from dreambooth_pl.evaluation.run_images import BASE, TUNED
from dreambooth_pl.metrics.scores import Score, table_scores

MAX_PAIRS = 800
"""How many pairs of images a page shows at most."""
EXTREMES = 4
"""How many images are shown as the best, and as the worst, by each score."""
_BYTES = 5_600_000  # of all thumbnails, which base64 makes a third longer
_MOST = 24_000  # bytes of a thumbnail, however few there are
_LADDER = ((256, 80), (192, 80), (160, 75), (128, 70), (96, 65), (80, 55), (64, 45), (48, 30))
"""Longer side in pixels and quality of thumbnails, best first."""


@dataclass(frozen=True)
class Pair:
    """An image of the tuned model and, where there is one, the untuned base's on the same seed."""

    run: str
    """Name of the run's row."""
    prompt: str
    template: str
    seed: int
    """Below 0 if nobody knows it."""
    scores: Mapping[str, float]
    """Of the tuned model's image, by name."""
    tuned: Path
    base: Path | None


@dataclass(frozen=True)
class Extremes:
    """The best and the worst images by a score, each from its end inwards."""

    score: Score
    best: tuple[Pair, ...]
    worst: tuple[Pair, ...]


def read_pairs(
    run: str, record: Path, tuned: Sequence[Path], base: Sequence[Path] | None
) -> list[Pair]:
    """Return an evaluation's images with their scores.

    Args:
        run: name of the run's row.
        record: folder that `save_record` wrote to.
        tuned: files of the images, in the order of the record.
        base: the same of the untuned base; None without.
    """
    images = json.loads((record / SCORES_FILE).read_text(encoding="utf-8"))["images"]
    entries: list[dict[str, Any]] = images[TUNED]
    partners = base if base and BASE in images else [None] * len(tuned)
    names = [score.name for score in table_scores("fidelity")]
    return [
        Pair(
            run,
            entry["prompt"],
            entry["template"],
            entry["seed"],
            {name: entry[name] for name in names if name in entry},
            own,
            other,
        )
        for entry, own, other in zip(entries, tuned, partners, strict=True)
    ]


def spread(sheets: Mapping[str, Sequence[Pair]], most: int = MAX_PAIRS) -> dict[str, list[Pair]]:
    """Choose at most `most` pairs in all, the same share of each sheet, evenly over its prompts."""
    total = sum(map(len, sheets.values()))
    if total <= most:
        return {name: list(pairs) for name, pairs in sheets.items()}
    each = most // len(sheets)
    return {
        name: [pairs[i * len(pairs) // count] for i in range(count)]
        for name, pairs in sheets.items()
        if (count := min(each, len(pairs)))
    }


def extremes(pairs: Sequence[Pair]) -> list[Extremes]:
    """Return the best and the worst images by each score of fidelity; no image is both."""
    found = []
    for score in table_scores("fidelity"):
        own = [pair for pair in pairs if score.name in pair.scores]
        own.sort(key=lambda pair: pair.scores[score.name], reverse=score.higher_is_better)
        count = min(EXTREMES, len(own) // 2)
        if count:
            found.append(Extremes(score, tuple(own[:count]), tuple(own[: -count - 1 : -1])))
    return found


def thumbnails(
    paths: Sequence[Path], progress: Callable[[int], None] | None = None
) -> dict[Path, str]:
    """Return thumbnails as data URLs, small enough that a page with all of them is below 10 MB.

    Args:
        paths: image files, each as often as the page shows it.
        progress: called after each file with the number of files done.

    Raises:
        UserError: a file cannot be read.
    """
    room = min(_MOST, _BYTES // max(len(paths), 1))  # bytes for each
    made = {}
    for path in dict.fromkeys(paths):
        made[path] = "data:image/jpeg;base64," + base64.b64encode(_shrink(path, room)).decode()
        if progress is not None:
            progress(len(made))
    return made


def _shrink(path: Path, room: int) -> bytes:
    """Return an image as the best JPEG of `_LADDER` of at most `room` bytes, else as its last."""
    image = read_photo(path)
    data = b""
    for side, quality in _LADDER:
        if data and side > max(image.size):
            continue  # the same size once more
        small = image.copy()
        small.thumbnail((side, side))
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=quality, optimize=True)
        data = stream.getvalue()
        if len(data) <= room:
            break
    return data


def link(target: Path, page: Path) -> str:
    """Return a URL of a file relative to a page.

    >>> link(Path("out/a b/0?.png"), Path("out/report.html"))
    'a%20b/0%3F.png'
    """
    try:
        relative = os.path.relpath(target.absolute(), page.absolute().parent)
    except ValueError:  # another drive of Windows
        return target.absolute().as_uri()
    return quote(Path(relative).as_posix())
