"""Runs to results: generate a protocol's images, score them beside ceiling and floor.

The ceiling is the real photos against each other, the floor is the untuned base on the same prompts
and seeds. Runs that share base, subject and encoders form a group and share both. What is generated
and scored stays in `RUN/evaluation/<protocol>/` (see `run_images` and `record`), and an interrupted
evaluation goes on from there. Nothing is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dreambooth_pl.adapters import load_adapters
from dreambooth_pl.data.photos import read_photo, vet_folder
from dreambooth_pl.evaluation.group import Failed, Group, GroupScorer, telling
from dreambooth_pl.evaluation.loaded_base import LoadedBase, base_of
from dreambooth_pl.evaluation.protocols import PROBES, protocol_name
from dreambooth_pl.evaluation.results import Result, short_names
from dreambooth_pl.evaluation.run_images import CLASS_IMAGES, ImageGenerator
from dreambooth_pl.evaluation.subject import SubjectScorer
from dreambooth_pl.metrics.encoders import EncoderSettings
from dreambooth_pl.metrics.measure import load_measure
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.prompts import is_live
from dreambooth_pl.runs.finished import Run


def score_runs(
    runs: Sequence[Run],
    protocol: str = PROBES,
    encoders: EncoderSettings | None = None,
    device: str | torch.device = "cpu",
    reporter: ProgressReporter | None = None,
    class_images: int = CLASS_IMAGES,
    failed: Failed | None = None,
) -> list[Result]:
    """Generate and score the images of runs under a protocol.

    Args:
        runs: at least one; a run named twice counts once.
        protocol: `probes`, `dreambench` or the path of a YAML file of prompts.
        encoders: measure all runs with these instead of each with its own.
        device: where images are generated and encoded.
        reporter: shows how far it has come; None shows nothing.
        class_images: how many images of "a CLASS" by run and base, for PRES and drift; 0 for
            neither.
        failed: is told of runs that cannot be evaluated, which are left out; None to raise.

    Returns:
        For each group of runs with the same base, subject and encoders: `real photos` (ceiling; no
        CLIP-T), `base` (floor, over the distinct prompts and seeds of the group's runs) and a
        result per run, in the order given. With more than one group the first two carry in
        parentheses what tells the groups apart.

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
    bases = LoadedBase(device)
    load_measure_once = lru_cache(maxsize=1)(lambda settings: load_measure(settings, device))

    # A function, so that nothing of it refers to a group's base when the next group's is loaded.
    def score_group(group: Group, suffix: str) -> list[Result]:
        members: list[Run] = []
        for run in groups[group]:  # tell of an adapter that does not fit before generating
            with telling(failed, run):
                measure = load_measure_once(group.encoders)
                load_adapters(bases.of(run), run.lora_file)
                members.append(run)
        if not members:
            return []
        photos = with_photos[members[0]]
        scorer = SubjectScorer(
            measure,
            [read_photo(path) for path in photos],
            subjects[group.subject],
            is_live(members[0].class_noun),
        )
        generator = ImageGenerator(protocol, bases.of(members[0]), class_images, reporter)
        return GroupScorer(generator, scorer, group, suffix).results(members, names, photos, failed)

    suffixes = _distinguish(list(groups))
    return [
        result
        for group, suffix in zip(groups, suffixes, strict=True)
        for result in score_group(group, suffix)
    ]


def generate_images(
    runs: Sequence[Run],
    protocol: str = PROBES,
    device: str | torch.device = "cpu",
    reporter: ProgressReporter | None = None,
    shard: tuple[int, int] = (0, 1),
    class_images: int = CLASS_IMAGES,
) -> None:
    """Generate this rank's share of what `score_runs` wants of the same runs; keep it on disk.

    When all ranks are through, `score_runs` finds every image there, verifies it, and generates
    none.

    Args:
        runs: as for `score_runs`.
        protocol: as for `score_runs`.
        device: where images are generated.
        reporter: shows how far it has come; None shows nothing.
        shard: this rank, and how many ranks share the work.
        class_images: as for `score_runs`.

    Raises:
        UserError: as `score_runs`.
    """
    bases = LoadedBase(device)
    for run in runs:
        with telling(None, run):
            ImageGenerator(protocol, bases.of(run), class_images, reporter, shard).all_of(run)


def settle_batch_sizes(
    runs: Sequence[Run], protocol: str = PROBES, device: str | torch.device = "cpu"
) -> None:
    """Measure what `generate_images` would, so that ranks which share the work need not and agree.

    For one rank, before the others begin: what is measured is kept on disk.

    Args:
        runs: as for `generate_images`.
        protocol: as for `generate_images`.
        device: as for `generate_images`.
    """
    bases = LoadedBase(device)
    for run in runs:
        with telling(None, run):
            ImageGenerator(protocol, bases.of(run)).settings(run)


def _long_name(run: Run) -> str:
    """Name a run by its whole path."""
    name = str(run.adapter or run.folder)
    return name if run.scale is None else f"{name}, scale {run.scale:g}"


def _distinguish(groups: Sequence[Group]) -> list[str]:
    """Return for each group what tells it apart from the others, ` (so)`; empty if there is one.

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
