"""Variants' lines: macro averages worked out by hand; the contact sheet of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.benchmark.jobs import Job
from dreambooth_pl.benchmark.spec import Subject, Variant
from dreambooth_pl.benchmark.table import comparisons, job_lines, variant_lines
from dreambooth_pl.evaluation.results import Result
from dreambooth_pl.evaluation.score_set import ScoreSet
from dreambooth_pl.files.contact_sheet import image_table
from dreambooth_pl.metrics.encoders import EncoderSettings
from dreambooth_pl.runs.finished import Run
from dreambooth_pl.sampling.settings import SamplingSettings

SMALL = (BaseSpec("bases/small"), EncoderSettings())
LARGE = (BaseSpec("bases/large"), EncoderSettings())


def job(variant: str, subject: str | None, seed: int) -> Job:
    owner = Subject(subject, Path(subject), "dog") if subject else None
    name = f"{subject}-{variant}-{seed}"
    return Job(name, owner, Variant(variant, (), {}), seed, Path("out") / name, {})


def folder_of(job_: Job) -> Path:
    return job_.folder / "lightning_logs/name/version_0"


def folders(jobs: Sequence[Job]) -> dict[str, Path]:
    return {job_.name: folder_of(job_) for job_ in jobs}


def scores(subject: str, values: Sequence[float], live: bool = True) -> ScoreSet:
    """One image for each of the prompts p0, p1, ...; DINO as given, CLIP-T half of it."""
    dino = torch.tensor([[value] for value in values])
    names = tuple(f"p{n}" for n in range(len(values)))
    kinds = ("",) * len(values)
    return ScoreSet(subject, live, names, kinds, {"dino": dino, "clip_t": dino / 2})


def line_of(job_: Job, values: Sequence[float], group=SMALL, live: bool = True) -> Result:
    subject = job_.subject.name if job_.subject else "dog"
    run = Run(
        folder=folder_of(job_),
        base_spec=group[0],
        instance_dir=Path(subject),
        identifier="sks",
        class_noun="dog",
        seed=job_.seed,
        sampling=SamplingSettings(),
        encoders=EncoderSettings(),
    )
    sets = (scores(subject, values, live),)
    return Result("run", str(run.folder), "probes", sets, run=run, group=group)


def reference(role: str, value: float, subject: str, group=SMALL, n_images=None) -> Result:
    own = (scores(subject, [value, value]),)
    return Result(role, f"{role} ({subject})", "probes", own, n_images, group=group)


def test_macro_over_subjects_of_the_mean_over_seeds() -> None:
    """Subject b lost a seed: it still weighs as much as a."""
    jobs = [job("x", "a", 1), job("x", "a", 2), job("x", "b", 1), job("x", "b", 2)]
    lines = [
        reference("ceiling", 0.9, "a", n_images=5),
        reference("floor", 0.1, "a"),
        line_of(jobs[0], [0.3, 0.5]),
        line_of(jobs[1], [0.5, 0.7]),
        reference("ceiling", 0.7, "b", n_images=4),
        reference("floor", 0.3, "b"),
        line_of(jobs[2], [0.8, 1.0]),
    ]
    own = job_lines(jobs, folders(jobs[:3]), lines)
    assert [entry.line.name for entry in own] == ["x, a, seed 1", "x, a, seed 2", "x, b, seed 1"]
    ceiling, floor, variant = (line.row for line in variant_lines(own, jobs, lines))
    assert [r.run for r in (ceiling, floor, variant)] == ["real photos", "base", "x (3 of 4 runs)"]
    assert [r.n_images for r in (ceiling, floor, variant)] == [9, 4, 6]
    assert ceiling.scores["dino"].mean == pytest.approx((0.9 + 0.7) / 2)
    assert floor.scores["dino"].mean == pytest.approx((0.1 + 0.3) / 2)
    assert variant.scores["dino"].mean == pytest.approx(((0.4 + 0.6) / 2 + 0.9) / 2)
    assert variant.scores["clip_t"].mean == pytest.approx(variant.scores["dino"].mean / 2)
    # two subjects: a resample is one, the other or both; 1/4 of them is each end
    assert (variant.scores["dino"].low, variant.scores["dino"].high) == pytest.approx((0.5, 0.9))


def test_each_base_has_its_own_ceiling_and_floor() -> None:
    jobs = [job("x", None, 1), job("y", None, 1), job("z", None, 1)]
    lines = [
        reference("ceiling", 0.9, "dog"),
        reference("floor", 0.1, "dog"),
        line_of(jobs[0], [0.5]),
        line_of(jobs[2], [0.7]),
        reference("ceiling", 0.8, "dog", LARGE),
        reference("floor", 0.2, "dog", LARGE),
        line_of(jobs[1], [0.6], LARGE),
    ]
    own = job_lines(jobs, folders(jobs), lines)
    rows = [line.row for line in variant_lines(own, jobs, lines)]
    assert [(row.run, round(row.scores["dino"].mean, 6)) for row in rows] == [
        ("real photos (small)", 0.9),
        ("base (small)", 0.1),
        ("real photos (large)", 0.8),
        ("base (large)", 0.2),
        ("x", 0.5),
        ("y", 0.6),
        ("z", 0.7),
    ]


def test_live_and_object_subjects_have_their_own_means() -> None:
    jobs = [job("x", name, 1) for name in ("cat", "dog", "can")]
    lines = [reference("ceiling", 0.9, "cat"), reference("floor", 0.1, "cat")]
    values = {"cat": 0.2, "dog": 0.6, "can": 0.8}
    for job_ in jobs:
        name = job_.subject.name
        lines.append(line_of(job_, [values[name]], live=name != "can"))
    own = job_lines(jobs, folders(jobs), lines)
    groups = variant_lines(own, jobs, lines)[-1].row.groups
    means = {name: group["dino"].mean for name, group in groups.items()}
    assert means == pytest.approx({"live": 0.4, "object": 0.8})


def test_variants_are_compared_where_both_have_runs() -> None:
    jobs = [job(v, s, seed) for v in ("x", "y") for s in ("a", "b") for seed in (1, 2)]
    values = [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]]
    better = [[0.2, 0.2], [0.5, 0.4], [0.9, 0.6], [9.0, 9.0]]
    lines = [line_of(job_, v) for job_, v in zip(jobs, values + better, strict=True)]
    own = job_lines(jobs, folders(jobs), lines)[:-1]  # without y of b's second seed
    (found,), notes = comparisons(own)
    assert notes == []
    assert found.difference.run == "y - x"
    # a: (0.1 + 0 + 0.2 + 0) / 4; b, of one seed: (0.4 + 0) / 2
    assert found.difference.scores["dino"].mean == pytest.approx((0.075 + 0.2) / 2)
    assert found.difference.scores["clip_t"].mean == pytest.approx(
        found.difference.scores["dino"].mean / 2
    )
    assert (
        found.difference.scores["dino"].low,
        found.difference.scores["dino"].high,
    ) == pytest.approx((0.075, 0.2))


def test_what_cannot_be_compared_is_said() -> None:
    jobs = [job("x", "a", 1), job("y", "a", 2), job("z", "a", 1)]
    lines = [line_of(jobs[0], [0.1, 0.2]), line_of(jobs[1], [0.1, 0.2]), line_of(jobs[2], [0.3])]
    found, notes = comparisons(job_lines(jobs, folders(jobs), lines))
    assert found == []
    assert notes[0] == "y and x have no subject and seed in common."
    assert notes[1].startswith("z and x drew different images")


def test_image_table_puts_every_picture_in_its_cell() -> None:
    colours = [[(255, 0, 0), (0, 160, 0)], [(0, 0, 255), (90, 90, 0)], [(9, 99, 199), (200, 9, 99)]]
    rows = [[Image.new("RGB", (64, 64), colour) for colour in row] for row in colours]
    sheet = image_table(rows, ["one", "a longer label", "w" * 60], ["left", "right"], "title")
    counts = {colour: n for n, colour in sheet.getcolors(sheet.width * sheet.height)}
    pixels = np.asarray(sheet)
    centres = {}
    for r, row_ in enumerate(colours):
        for c, colour in enumerate(row_):
            assert counts[colour] == 128 * 128  # enlarged by a whole factor, nothing over it
            where = np.argwhere((pixels == colour).all(axis=-1))
            centres[r, c] = where.mean(axis=0)
    for r in range(3):
        assert centres[r, 0][0] == centres[r, 1][0]
        assert centres[r, 0][1] < centres[r, 1][1]
    assert centres[0, 0][0] < centres[1, 0][0] < centres[2, 0][0]
    assert centres[0, 0][1] == centres[1, 0][1] == centres[2, 0][1]
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edge == 255).all(), "ink touches the border"
    # ink stands left of the first column in every row's height, and above the first row
    left = pixels[:, : int(centres[0, 0][1]) - 64]
    for r in range(3):
        middle = int(centres[r, 0][0])
        assert (left[middle - 64 : middle + 64] < 128).any()
