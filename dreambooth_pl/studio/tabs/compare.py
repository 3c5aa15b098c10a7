"""The tab Compare: scores of runs with intervals, the scale curve, paired differences, sheets."""

from __future__ import annotations

from html import escape

import gradio as gr

from dreambooth_pl.errors import UserError
from dreambooth_pl.studio.context import Studio
from dreambooth_pl.studio.jobs.commands import evaluate_command
from dreambooth_pl.studio.jobs.job import Job
from dreambooth_pl.studio.texts import Texts
from dreambooth_pl.studio.views.page_parts import (
    box,
    job_line,
    kept_choice,
    log_part,
    picture,
    tells,
)
from dreambooth_pl.studio.views.run_views import find_run_views, named_run

PROTOCOLS = ("short", "probes", "dreambench")
TABLE = "table.md"
"""What `evaluate.py --save` writes its tables to, in Markdown."""
_REPORT = "report.html"


def compare_tab(studio: Studio, texts: Texts, page: gr.Blocks, tab: gr.Tab) -> None:
    """Add the tab's content to a page."""
    gr.Markdown(texts("compare.intro"))
    runs = gr.Dropdown([], label=texts("compare.runs"), multiselect=True, elem_id="compare-runs")
    with gr.Row():
        protocol = gr.Dropdown(
            [(texts(f"compare.protocol.{one}"), one) for one in PROTOCOLS],
            value=PROTOCOLS[0],
            label=texts("compare.prompts"),
            filterable=False,
        )
        scales = gr.Textbox(
            label=texts("compare.scales"), info=texts("compare.scales_info"), max_lines=1
        )
    paired = gr.Checkbox(False, label=texts("compare.paired"))
    ask = gr.Button(texts("compare.ask"), variant="primary", elem_id="compare-ask")
    with gr.Row():
        history = gr.Dropdown([], label=texts("compare.history"), filterable=False, scale=3)
        stop = gr.Button(texts("job.stop"), variant="stop")
    state = gr.HTML(elem_id="compare-state")
    tables = gr.Markdown(elem_id="compare-tables")
    result = gr.HTML(elem_id="compare-result")
    last = gr.State("")

    def refresh(chosen: list[str] | None) -> gr.Dropdown:
        names = [run.name for run in find_run_views(studio.workspace.runs) if run.finished]
        kept = [name for name in chosen or () if name in names] or names[:1]
        return gr.Dropdown(choices=names, value=kept)

    @tells
    def begin(names: list[str] | None, protocol: str, scales: str, paired: bool) -> tuple:
        chosen = [named_run(studio.workspace.runs, name) for name in names or ()]
        numbers = _numbers(scales, texts)
        job = studio.queue.add(
            "evaluate",
            ", ".join(run.name for run in chosen),
            lambda folder: [
                evaluate_command(
                    chosen, protocol, numbers, paired, studio.workspace.results / folder.name
                )
            ],
        )
        return gr.Dropdown(choices=_history(studio), value=job.folder.name), ""

    @tells
    def end(number: str | None) -> None:
        for job in studio.queue.jobs("evaluate"):
            if job.folder.name == number:
                studio.queue.stop(job)

    def look(number: str | None, last: str) -> tuple:
        choices = _history(studio)
        number = kept_choice([value for _, value in choices], number)
        job = next(
            (job for job in studio.queue.jobs("evaluate") if job.folder.name == number), None
        )
        html = box(texts("compare.empty")) if job is None else _result(studio, job, texts)
        seen = f"{html}{choices}{job and job_line(studio, job, texts)}"
        if seen == last:
            return (gr.skip(),) * 5
        line = job_line(studio, job, texts) if job else ""
        return line, _tables(studio, job), html, gr.Dropdown(choices=choices, value=number), seen

    hidden = {"show_progress": "hidden"}
    watched = [state, tables, result, history, last]
    page.load(refresh, runs, runs, **hidden)
    page.load(look, [history, last], watched, **hidden)
    tab.select(refresh, runs, runs, **hidden)
    ask.click(begin, [runs, protocol, scales, paired], [history, last], **hidden)
    stop.click(end, history, None, **hidden)
    history.change(look, [history, last], watched, **hidden)
    gr.Timer(2).tick(look, [history, last], watched, queue=False, **hidden)


def _numbers(text: str, texts: Texts) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise UserError(texts("compare.no_numbers", text=text)) from error


def _history(studio: Studio) -> list[tuple[str, str]]:
    return [
        (f"{job.number} · {job.title}", job.folder.name) for job in studio.queue.jobs("evaluate")
    ]


def _tables(studio: Studio, job: Job | None) -> str:
    """Return the tables of a finished evaluation, in Markdown."""
    path = studio.workspace.results / (job.folder.name if job else "") / TABLE
    if job is None or studio.queue.state(job) != "done" or not path.is_file():
        return ""
    return path.read_text(encoding="utf-8")


def _result(studio: Studio, job: Job, texts: Texts) -> str:
    out = studio.workspace.results / job.folder.name
    parts = []
    if (out / TABLE).is_file() and studio.queue.state(job) == "done":
        if (out / _REPORT).is_file():
            address = studio.files.address(out / _REPORT)
            label = escape(texts("compare.report"))
            parts.append(f'<p><a href="{address}" target="_blank" rel="noopener">{label}</a></p>')
        sheets = [*sorted(out.glob("*.png")), *sorted(out.glob("*/*.png"))]
        shown = "".join(
            picture(studio, path, path.relative_to(out).with_suffix("").as_posix())
            for path in sheets
        )
        parts.append(f'<div class="st-sheets">{shown}</div>')
    return "".join([*parts, log_part(job, texts, 40)])
