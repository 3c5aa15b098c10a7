"""Runs to table rows: draw a protocol's images, score them beside ceiling and floor.

The ceiling is the real photos against each other, the floor is the untuned base on the same prompts
and seeds. Runs that share base, subject and encoders form a group and share both. What is drawn and
scored stays in ``RUN/evaluation/<protocol>/`` (see ``run_images`` and ``evaluation_record``), and
an interrupted evaluation goes on from there. Nothing is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dreambooth_pl.adapters import load_adapters
from dreambooth_pl.bases.base import load_base
from dreambooth_pl.data.photos import Photos, vet_folder
from dreambooth_pl.evaluation.group_scorer import (
    Failed,
    Group,
    GroupScorer,
    Measure,
    base_of,
    telling,
)
from dreambooth_pl.evaluation.intervals import Row
from dreambooth_pl.evaluation.lines import BASE, REAL_PHOTOS, Line, short_names
from dreambooth_pl.evaluation.protocols import PROBES, protocol_name
from dreambooth_pl.evaluation.run_images import CLASS_IMAGES, TUNED, ImageGenerator
from dreambooth_pl.evaluation.subject_scorer import SubjectScorer
from dreambooth_pl.metrics.distances import load_distance
from dreambooth_pl.metrics.encoders import EncoderSettings, load_encoders
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.prompts import is_live
from dreambooth_pl.runs.finished import EVALUATION as FOLDER
from dreambooth_pl.runs.finished import Run

__all__ = [
    "BASE",
    "FOLDER",
    "REAL_PHOTOS",
    "TUNED",
    "generate_images",
    "evaluate",
    "score_runs",
    "settle_batch_sizes",
]


def evaluate(
    runs: Sequence[Run],
    protocol: str = PROBES,
    encoders: EncoderSettings | None = None,
    device: str | torch.device = "cpu",
    reporter: ProgressReporter | None = None,
    class_images: int = CLASS_IMAGES,
    failed: Failed | None = None,
) -> list[Row]:
    """Score runs under a protocol; see ``score_runs``.

    Returns:
        For each group of runs with the same base, subject and encoders: the row ``real photos``
        (ceiling; no CLIP-T), the row ``base`` (floor, over the distinct prompts and seeds of the
        group's runs) and a row per run, in the order given. With more than one group the first two
        carry in parentheses what tells the groups apart.
    """
    lines = score_runs(runs, protocol, encoders, device, reporter, class_images, failed)
    return [line.row() for line in lines]


def score_runs(
    runs: Sequence[Run],
    protocol: str = PROBES,
    encoders: EncoderSettings | None = None,
    device: str | torch.device = "cpu",
    reporter: ProgressReporter | None = None,
    class_images: int = CLASS_IMAGES,
    failed: Failed | None = None,
) -> list[Line]:
    """Draw and score runs under a protocol.

    Args:
        runs: at least one; a run named twice counts once.
        protocol: ``probes``, ``dreambench`` or the path of a YAML file of prompts.
        encoders: measure all runs with these instead of each with its own.
        device: where images are drawn and encoded.
        reporter: shows how far the drawing has come; None shows nothing.
        class_images: how many images of "a CLASS" are drawn by run and base, for PRES and drift;
            0 for neither.
        failed: is told of runs that cannot be evaluated, which are left out; None to raise.

    Returns:
        The lines of ``evaluate``'s rows.

    Raises:
        UserError: there is no such protocol; a run's base, photos, encoders or adapter cannot be
            had.
    """
    assert runs, "nothing to evaluate"
    protocol_name(protocol)
    runs = list({(run.folder.resolve(), run.adapter, run.scale): run for run in runs}.values())
    with_photos: dict[Run, list[Path]] = {}
    for run in runs:  # before anything slow begins
        with telling(failed, run):
            with_photos[run] = vet_folder(run.instance_dir).used
    groups: dict[Group, list[Run]] = {}
    for run in with_photos:
        key = Group(base_of(run), run.instance_dir.absolute(), encoders or run.encoders)
        groups.setdefault(key, []).append(run)
    names = short_names(runs, lambda run: run.name, _long_name)
    subjects = short_names([group.subject for group in groups], lambda path: path.name)

    # Neighbouring groups often differ in the subject alone.
    load_base_once = lru_cache(maxsize=1)(load_base)

    @lru_cache(maxsize=1)
    def load_measure(settings: EncoderSettings) -> Measure:
        loaded = load_encoders(settings).to(device)
        return Measure(loaded, load_distance(settings, loaded))

    lines: list[Line] = []
    for group, suffix in zip(groups, _distinguish(list(groups)), strict=True):
        members: list[Run] = []
        for run in groups[group]:  # an adapter that does not fit is told before anything is drawn
            with telling(failed, run):
                measure = load_measure(group.encoders)
                base = load_base_once(*group.base).to(device)
                load_adapters(base, run.lora_file)
                members.append(run)
        if not members:
            continue
        photos = with_photos[members[0]]
        scorer = SubjectScorer(
            measure.encoders,
            measure.distance,
            Photos(photos),
            subjects[group.subject],
            is_live(members[0].class_noun),
        )
        generator = ImageGenerator(protocol, base, class_images, reporter)
        lines += GroupScorer(generator, measure, scorer, group, suffix).lines(
            members, names, photos, failed
        )
    return lines


def generate_images(
    runs: Sequence[Run],
    protocol: str = PROBES,
    device: str | torch.device = "cpu",
    reporter: ProgressReporter | None = None,
    shard: tuple[int, int] = (0, 1),
    class_images: int = CLASS_IMAGES,
) -> None:
    """Draw this rank's share of what ``evaluate`` will want of the same runs; keep it on disk.

    When all ranks are through, ``evaluate`` finds every image there, verifies it, and draws none.

    Args:
        runs, protocol, device, reporter, class_images: as for ``evaluate``.
        shard: this rank, and how many ranks draw together.

    Raises:
        UserError: as ``evaluate``.
    """
    load_base_once = lru_cache(maxsize=1)(load_base)
    for run in runs:
        with telling(None, run):
            base = load_base_once(*base_of(run)).to(device)
            ImageGenerator(protocol, base, class_images, reporter, shard).all_of(run)


def settle_batch_sizes(
    runs: Sequence[Run], protocol: str = PROBES, device: str | torch.device = "cpu"
) -> None:
    """Measure what ``generate_images`` would, so that ranks which draw together need not and agree.

    For one rank, before the others begin: what is measured is kept on disk.

    Args:
        runs, protocol, device: as for ``generate_images``.
    """
    load_base_once = lru_cache(maxsize=1)(load_base)
    for run in runs:
        with telling(None, run):
            base = load_base_once(*base_of(run)).to(device)
            ImageGenerator(protocol, base).settings(run)


def _long_name(run: Run) -> str:
    """Name a run by its whole path."""
    name = str(run.adapter or run.folder)
    return name if run.scale is None else f"{name}, scale {run.scale:g}"


def _distinguish(groups: Sequence[Group]) -> list[str]:
    """Return for each group what tells it apart from the others, `` (so)``; empty if there is one.

    Only the aspects in which groups differ are named: subject, base, encoders.
    """
    aspects: list[tuple[list[Hashable], Callable[[Any], str]]] = [
        ([g.subject for g in groups], lambda subject: subject.name),
        ([g.base for g in groups], lambda base: Path(base[0]).name),
        ([g.encoders for g in groups], lambda encoders: f"{encoders.clip} and {encoders.dino}"),
    ]
    parts: list[list[str]] = [[] for _ in groups]
    for values, short in aspects:
        if len(set(values)) > 1:
            names = short_names(values, short)
            for part, value in zip(parts, values, strict=True):
                part.append(names[value])
    return [f" ({', '.join(part)})" if part else "" for part in parts]
