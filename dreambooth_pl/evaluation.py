"""Runs to table rows: draw a protocol's images, score them beside ceiling and floor.

The ceiling is the real photos against each other, the floor is the untuned base on the same prompts
and seeds. Runs that share base, subject and encoders form a group and share both. What is drawn and
scored stays in ``RUN/evaluation/<protocol>/``: images with their settings in the metadata, contact
sheets, and ``scores.json`` with every image's scores. Nothing is printed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dreambooth_pl.data.photos import read_photo, vet_folder
from dreambooth_pl.drawn_images import Drawing, copy_images, draw
from dreambooth_pl.encoders import Encoders, EncoderSettings, load_encoders
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation_record import ScoredImages, save_record
from dreambooth_pl.lora import load_lora, remove_lora
from dreambooth_pl.models import Base, load_base
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.protocols import PROBES, PROTOCOLS, Plan
from dreambooth_pl.runs import Run
from dreambooth_pl.sampling import SamplingSettings
from dreambooth_pl.scores import Interval, Row, interval, score_tensor
from dreambooth_pl.scoring import (
    ImageScores,
    RealPhotos,
    encode_real_photos,
    score_images,
    score_real_photos,
)

REAL_PHOTOS = "real photos"
BASE = "base"
TUNED = "tuned"
FOLDER = "evaluation"  # in a run's folder


@dataclass(frozen=True)
class _Group:
    """What runs must share to share ceiling and floor."""

    base: tuple[str, str | None, str | None]  # name, revision, variant
    subject: Path
    encoders: EncoderSettings


def evaluate(
    runs: Sequence[Run],
    protocol: str = PROBES,
    encoders: EncoderSettings | None = None,
    device: str | torch.device = "cpu",
    reporter: ProgressReporter | None = None,
) -> list[Row]:
    """Score runs under a protocol.

    Args:
        runs: at least one; a run named twice counts once.
        protocol: a key of ``PROTOCOLS``.
        encoders: measure all runs with these instead of each with its own.
        device: where images are drawn and encoded.
        reporter: shows how far the drawing has come; None shows nothing.

    Returns:
        For each group of runs with the same base, subject and encoders: the row ``real photos``
        (ceiling; no CLIP-T), the row ``base`` (floor, over the distinct prompts and seeds of the
        group's runs) and a row per run, in the order given. With more than one group the first two
        carry in parentheses what tells the groups apart.

    Raises:
        UserError: a run's base, photos, encoders or adapter cannot be had.
    """
    assert runs, "nothing to evaluate"
    runs = list({run.folder.resolve(): run for run in runs}.values())
    groups: dict[_Group, list[Run]] = {}
    for run in runs:
        base_key = (run.base, run.revision, run.variant)
        key = _Group(base_key, run.instance_dir.absolute(), encoders or run.encoders)
        groups.setdefault(key, []).append(run)
    names = _run_names(runs)
    photos = {}
    for group, members in groups.items():  # before anything slow begins
        with _naming(members[0]):
            photos[group] = vet_folder(group.subject).used

    # Neighbouring groups often differ in the subject alone.
    load_base_once, load_encoders_once = (
        lru_cache(maxsize=1)(load) for load in (load_base, load_encoders)
    )
    rows: list[Row] = []
    for group, suffix in zip(groups, _distinguish(list(groups)), strict=True):
        members = groups[group]
        with _naming(members[0]):
            loaded = load_encoders_once(group.encoders).to(device)
            base = load_base_once(*group.base).to(device)
        for run in members:  # an adapter that does not fit is told before anything is drawn
            with _naming(run):
                load_lora(base, run.lora_file)
        real = encode_real_photos(loaded, [read_photo(path) for path in photos[group]])
        scorer = _Scorer(protocol, base, loaded, real, reporter)
        floors = [scorer.floor(run) for run in members]
        tuned = [scorer.tuned(run, names[run.folder]) for run in members]
        ceiling = score_real_photos(real)
        for run, own_floor, own in zip(members, floors, tuned, strict=True):
            facts = scorer.facts(run, names[run.folder])
            facts["photos"] = [path.name for path in photos[group]]
            scored = {TUNED: own, BASE: own_floor}
            save_record(_folder(run, protocol), facts, scored, ceiling)
        distinct = list({id(floor): floor for floor in floors}.values())
        rows.append(_ceiling_row(REAL_PHOTOS + suffix, protocol, len(real), ceiling))
        rows.append(_row(BASE + suffix, protocol, distinct))
        rows += [
            _row(names[run.folder], protocol, [own])
            for run, own in zip(members, tuned, strict=True)
        ]
    return rows


class _Scorer:
    """Draws and scores the images of one group's runs."""

    def __init__(
        self,
        protocol: str,
        base: Base,
        encoders: Encoders,
        real: RealPhotos,
        reporter: ProgressReporter | None,
    ) -> None:
        self.protocol = protocol
        self.base = base
        self.encoders = encoders
        self.real = real
        self.reporter = reporter
        self._floors: dict[tuple[Plan, SamplingSettings], ScoredImages] = {}

    def floor(self, run: Run) -> ScoredImages:
        """Score the untuned base on the run's prompts and seeds; the same object for the same."""
        plan = self._plan(run)
        settings = replace(run.sampling, lora_scale_unet=0.0, lora_scale_text_encoder=0.0)
        drawing = Drawing(plan.requests, plan.labels, settings, adapter_sha256=None)
        folder = _folder(run, self.protocol) / BASE
        if (plan, settings) in self._floors:
            copy_images(self._floors[plan, settings].images, self.base, drawing, folder)
        else:
            remove_lora(self.base)
            self._floors[plan, settings] = self._scored(plan, drawing, folder, "base")
        return self._floors[plan, settings]

    def tuned(self, run: Run, name: str) -> ScoredImages:
        """Score the run's adapter."""
        plan = self._plan(run)
        load_lora(self.base, run.lora_file)
        drawing = Drawing(plan.requests, plan.labels, run.sampling, _file_hash(run.lora_file))
        return self._scored(plan, drawing, _folder(run, self.protocol) / TUNED, name)

    def facts(self, run: Run, name: str) -> dict[str, Any]:
        """Return what the run's scores depend on besides prompts and seeds."""
        clip, dino = self.encoders.clip, self.encoders.dino
        return {
            "run": name,
            "protocol": self.protocol,
            "identifier": run.identifier,
            "class_noun": run.class_noun,
            "base": {"name": self.base.name, "fingerprint": self.base.fingerprint},
            "adapter_sha256": _file_hash(run.lora_file),
            "sampling": asdict(run.sampling),
            "encoders": {
                "clip": {"name": clip.name, "fingerprint": clip.fingerprint()},
                "dino": {"name": dino.name, "fingerprint": dino.fingerprint()},
            },
        }

    def _plan(self, run: Run) -> Plan:
        return PROTOCOLS[self.protocol](run.identifier, run.class_noun, run.seed)

    def _scored(self, plan: Plan, drawing: Drawing, folder: Path, name: str) -> ScoredImages:
        with _progress(self.reporter, f"{self.protocol} of {name}", len(plan.requests)) as progress:
            images = draw(self.base, drawing, folder, progress)
        scores = score_images(self.encoders, images, self.real, plan.class_texts, plan.prompts)
        return ScoredImages(plan, images, scores)


def _row(name: str, protocol: str, scored: Sequence[ScoredImages]) -> Row:
    """Build the row over all images of ``scored``; equal prompts are one prompt."""
    prompts = [prompt for s in scored for prompt in s.plan.prompts]

    def score(field: str) -> Interval:
        return interval(
            score_tensor(torch.cat([getattr(s.scores, field) for s in scored]), prompts)
        )

    return Row(
        run=name,
        protocol=protocol,
        n_images=len(prompts),
        dino=score("dino"),
        clip_i=score("clip_i"),
        clip_t=score("clip_t"),
        clip_t_identifier=score("clip_t_identifier"),
    )


def _ceiling_row(name: str, protocol: str, n_photos: int, ceiling: ImageScores | None) -> Row:
    """Build the row of the real photos, resampled over photos."""
    if ceiling is None:
        return Row(name, protocol, n_photos, dino=None, clip_i=None, clip_t=None)
    photos = ["photo"] * n_photos
    dino, clip_i = (interval(score_tensor(s, photos)) for s in (ceiling.dino, ceiling.clip_i))
    return Row(name, protocol, n_photos, dino=dino, clip_i=clip_i, clip_t=None)


def _run_names(runs: Sequence[Run]) -> dict[Path, str]:
    """Name each run's folder shortly; by the whole path where short names are not unique."""
    return _short_names(
        [run.folder for run in runs], {run.folder: run.name for run in runs}.__getitem__
    )


def _distinguish(groups: Sequence[_Group]) -> list[str]:
    """Return for each group what tells it apart from the others, `` (so)``; empty if there is one.

    Only the aspects in which groups differ are named: subject, base, encoders.
    """
    aspects: list[tuple[list, Callable[[Any], str]]] = [
        ([g.subject for g in groups], lambda subject: subject.name),
        ([g.base for g in groups], lambda base: Path(base[0]).name),
        ([g.encoders for g in groups], lambda encoders: f"{encoders.clip} and {encoders.dino}"),
    ]
    parts: list[list[str]] = [[] for _ in groups]
    for values, short in aspects:
        if len(set(values)) > 1:
            names = _short_names(values, short)
            for part, value in zip(parts, values, strict=True):
                part.append(names[value])
    return [f" ({', '.join(part)})" if part else "" for part in parts]


def _short_names(values: Sequence[Hashable], short: Callable[[Any], str]) -> dict[Any, str]:
    """Name each distinct value by ``short``, or by its whole text if two would be the same."""
    names = {value: short(value) for value in values}
    if len(set(names.values())) < len(names):
        return {value: str(value) for value in values}
    return names


def _folder(run: Run, protocol: str) -> Path:
    return run.folder / FOLDER / protocol


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _progress(
    reporter: ProgressReporter | None, description: str, total: int
) -> Iterator[Callable[[int, int], None] | None]:
    if reporter is None:
        yield None
        return
    with reporter.task(description, total) as task:
        yield task.update


@contextmanager
def _naming(run: Run) -> Iterator[None]:
    """Say in a user's error which run it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"Run {run.folder}: {error}") from error
