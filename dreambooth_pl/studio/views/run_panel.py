"""A run as the tab Train shows it, finished or at work: state, probes, curves, log."""

from __future__ import annotations

from html import escape
from pathlib import Path

from dreambooth_pl.studio.context import Studio
from dreambooth_pl.studio.jobs.job import Job
from dreambooth_pl.studio.jobs.job_queue import TRAIN, is_stopping
from dreambooth_pl.studio.texts import Texts
from dreambooth_pl.studio.views.charts import Line, chart
from dreambooth_pl.studio.views.page_parts import box, log_part, picture, run_summary
from dreambooth_pl.studio.views.run_views import Progress, RunView, last_progress

_FRAME = 96
"""Side in pixels of an image of the film strip."""
_ROWS = 4
"""Probes that the film strip shows of each step; a contact sheet shows all."""


def run_panel(studio: Studio, run: RunView | None, job: Job | None, texts: Texts) -> str:
    """Return what is known about a run.

    Args:
        studio: that hands its images out.
        run: the run; None before it has written its configuration.
        job: the job that works in it, or was the last to; None for a run of the command line.
        texts: the language.
    """
    if run is None and job is None:
        return box(texts("train.empty"))
    parts = [_state(studio, run, job, texts)]
    if run is not None:
        parts += [_film(studio, run, texts), _curves(run, texts)]
    if job is not None:
        parts.append(log_part(job, texts))
    return "".join(parts)


def queue_part(studio: Studio, texts: Texts) -> str:
    """Return the trainings that wait, in their order."""
    jobs = [job for job in studio.queue.jobs(TRAIN) if studio.queue.state(job) == "queued"]
    if not jobs:
        return ""
    items = "".join(f"<li>{escape(job.title)}</li>" for job in reversed(jobs))
    return f'<p class="st-summary">{escape(texts("train.waiting"))}</p><ol>{items}</ol>'


def _state(studio: Studio, run: RunView | None, job: Job | None, texts: Texts) -> str:
    state = studio.queue.state(job) if job is not None else ""
    progress = last_progress(job) if job is not None and state == "running" else None
    step, steps = _step(run, progress), run.steps if run is not None else 0
    if state == "running" and job is not None and is_stopping(job):
        label = texts("train.state.stopping")
    elif state in ("running", "failed", "queued"):
        label = texts(f"train.state.{state}")
    elif run is not None and run.finished:
        label = texts("train.state.finished")
    else:
        label = texts("train.state.stopped")
    title = run.name if run is not None else job.title if job is not None else ""
    about = run_summary(run, texts) if run is not None else ""
    bar = ""
    if steps:
        bar = (
            f'<progress value="{step}" max="{steps}" aria-label="{escape(texts("train.bar"))}">'
            f"</progress>"
        )
    facts = [texts("train.step", step=step, steps=steps)] if steps else []
    if progress is not None:
        doing = f"{progress.what} {progress.done}/{progress.total}"
        facts += [] if progress.what == "training" else [doing]
        facts += [texts("train.rate", rate=progress.rate)] if progress.rate else []
        facts += [texts("job.left", time=progress.left)] if progress.left else []
    elif state == "running":
        facts.append(texts("job.starting"))
    if run is not None and (loss := run.curve("train/loss")):
        facts.append(texts("train.loss", loss=f"{loss[-1][1]:.4f}"))
    said = " · ".join(facts)
    mistake = box(job.mistake(), "bad") if job is not None and state == "failed" else ""
    return (
        f'<div class="st-state" data-state="{state or "none"}"><h3>{escape(title)}</h3>'
        f'<p>{escape(about)}</p><p role="status"><b>{escape(label)}</b> {escape(said)}</p>'
        f"{bar}</div>{mistake}"
    )


def _step(run: RunView | None, progress: Progress | None) -> int:
    """Return the step that a run is at, as far as its files tell."""
    if run is None:
        return 0
    if run.finished:
        return run.steps
    steps = [step + 1 for step, _ in run.curve("train/loss")[-1:]]
    steps += [step for step, _ in run.probes()[-1:]]
    if progress is not None and progress.what == "training":
        steps.append(progress.done)
    return max(steps, default=0)


def _film(studio: Studio, run: RunView, texts: Texts) -> str:
    probes = run.probes()
    if not probes:
        return box(texts("train.no_probes"))
    best = run.best_step()
    columns = "".join(_frame(studio, step, images, step == best, texts) for step, images in probes)
    title = escape(texts("train.film"))
    return (
        f'<h4>{title}</h4><div class="st-film" tabindex="0" role="region" aria-label="{title}">'
        f"{columns}</div>"
    )


def _frame(studio: Studio, step: int, images: list[Path], is_best: bool, texts: Texts) -> str:
    label = texts("train.at_step", step=step)
    mark = f' <span class="st-mark">{escape(texts("train.best"))}</span>' if is_best else ""
    shown = "".join(
        picture(studio, path, f"{label}: {_what(path)}", _FRAME)
        for path in [*images[:1], *images[1:][1 - _ROWS :]]  # the plain one, the varied ones
    )
    return (
        f'<div class="st-frame{" best" if is_best else ""}" data-step="{step}">{shown}'
        f"<p>{escape(label)}{mark}</p></div>"
    )


def _what(path: Path) -> str:
    """Return what a probe shows, by its file name: `00_first_1.png`."""
    return path.stem.partition("_")[2].replace("_", " ")


def _curves(run: RunView, texts: Texts) -> str:
    best, mark = run.best_step(), texts("train.best_step")
    floor, ceiling = texts("train.floor"), texts("train.ceiling")
    tuned = texts("train.tuned")
    charts = [
        chart(
            texts("train.fidelity"),
            [
                Line(tuned, run.curve("fidelity/dino")),
                Line(floor, run.curve("fidelity/dino_floor"), "floor"),
                Line(ceiling, run.curve("fidelity/dino_ceiling"), "ceiling"),
            ],
            best,
            mark,
        ),
        chart(
            texts("train.prompt"),
            [
                Line(tuned, run.curve("fidelity/clip_t")),
                Line(floor, run.curve("fidelity/clip_t_floor"), "floor"),
            ],
            best,
            mark,
        ),
        chart(texts("train.drift"), [Line(tuned, run.curve("validation/drift"))], best, mark),
        chart(texts("train.losses"), [Line(texts("train.loss_name"), run.curve("train/loss"))]),
    ]
    return f'<div class="st-charts">{"".join(charts)}</div>'
