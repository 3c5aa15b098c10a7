"""Pieces of HTML that several tabs show, and how they tell mistakes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import ParamSpec, TypeVar

import gradio as gr

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import WriteError
from dreambooth_pl.studio.context import Studio
from dreambooth_pl.studio.jobs.job import Job
from dreambooth_pl.studio.texts import Texts
from dreambooth_pl.studio.views.run_views import Progress, RunView, find_run_views, last_progress

P = ParamSpec("P")
T = TypeVar("T")


def tells(function: Callable[P, T]) -> Callable[P, T]:
    """Have an event's function show a user's mistake on the page."""

    @functools.wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (UserError, WriteError) as error:
            raise gr.Error(escape(str(error)), print_exception=False) from error

    return told


def box(text: str, kind: str = "") -> str:
    """Return a paragraph in a box; kind is empty, warn, bad or good."""
    return f'<p class="st-box {kind}">{escape(text)}</p>'


def run_choices(studio: Studio, with_adapter: bool = False) -> list[str]:
    """Return the names of runs, those that wrote last first.

    Args:
        studio: whose runs.
        with_adapter: whether only those that images can be generated with.
    """
    runs = find_run_views(studio.workspace.runs)
    return [run.name for run in runs if run.adapter is not None or not with_adapter]


def kept_choice(choices: Sequence[str], value: str | None) -> str | None:
    """Return a choice that was made if it is still there, else the first."""
    return value if value in choices else next(iter(choices), None)


def job_line(studio: Studio, job: Job, texts: Texts) -> str:
    """Return a job's state in a line: what it does, or how it has ended."""
    state = studio.queue.state(job)
    label = texts(f"job.{state}")
    kind = {"done": "good", "failed": "bad", "stopped": "warn"}.get(state, "")
    more = ""
    if state == "running":
        progress = last_progress(job)
        more = texts("job.starting") if progress is None else _said(progress, texts)
    elif state == "failed":
        more = job.mistake()
    title = escape(job.title)
    return (
        f'<p class="st-box {kind}" role="status"><b>{escape(label)}</b> {title}'
        f"{': ' if more else ''}{escape(more)}</p>"
    )


def _said(progress: Progress, texts: Texts) -> str:
    words = f"{progress.what} {progress.done}/{progress.total}"
    return f"{words}, {texts('job.left', time=progress.left)}" if progress.left else words


def log_part(job: Job, texts: Texts, count: int = 12) -> str:
    """Return the last lines of a job's log, folded away."""
    lines = "\n".join(job.log_lines(count))
    if not lines:
        return ""
    return (
        f'<details class="st-log"><summary>{escape(texts("job.log"))}</summary>'
        f'<pre tabindex="0">{escape(lines)}</pre></details>'
    )


def picture(studio: Studio, path: Path, alt: str, size: int | None = None) -> str:
    """Return an image that opens large."""
    address = studio.files.address(path)
    sides = f' width="{size}" height="{size}"' if size else ""
    return (
        f'<a class="st-open" href="{address}" target="_blank" rel="noopener">'
        f'<img src="{address}" alt="{escape(alt)}"{sides} loading="lazy"></a>'
    )


def run_summary(run: RunView, texts: Texts) -> str:
    """Return a run's subject and base in a line."""
    words = f"{run.setting('data.identifier', '')} {run.setting('data.class_noun', '')}".strip()
    return texts("train.about", words=words, base=run.setting("model.base", ""), steps=run.steps)
