"""The tab Take it with you: exports for other programs, the model card, a run as a zip."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import gradio as gr

from dreambooth_pl.errors import UserError
from dreambooth_pl.studio.context import Studio
from dreambooth_pl.studio.jobs.commands import export_commands, pack_run_command
from dreambooth_pl.studio.jobs.job import Job
from dreambooth_pl.studio.texts import Texts
from dreambooth_pl.studio.views.page_parts import (
    box,
    job_line,
    kept_choice,
    log_part,
    run_choices,
    tells,
)
from dreambooth_pl.studio.views.run_views import named_run

FORMATS = ("diffusers", "kohya", "peft", "merged")
_KINDS = ("export", "pack")
_SHOWN = 8
"""Exports that the page lists."""
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def take_tab(studio: Studio, texts: Texts, page: gr.Blocks, tab: gr.Tab) -> None:
    """Add the tab's content to a page."""
    gr.Markdown(texts("take.intro"))
    run = gr.Dropdown([], label=texts("take.run"), elem_id="take-run", filterable=False)
    form = gr.Radio(
        [(texts(f"take.format.{one}"), one) for one in FORMATS],
        value=FORMATS[0],
        label=texts("take.for"),
        elem_id="take-format",
    )
    single = gr.Checkbox(False, label=texts("take.single"), visible=False)
    where = gr.Markdown(texts(f"take.where.{FORMATS[0]}"))
    with gr.Row():
        export = gr.Button(texts("take.export"), variant="primary", elem_id="take-export")
        pack = gr.Button(texts("take.pack"), elem_id="take-pack")
    result = gr.HTML(elem_id="take-result")
    with gr.Accordion(texts("take.card"), open=False, elem_id="take-card-fold"):
        card = gr.Markdown(elem_id="take-card")
    last = gr.State("")

    def refresh(chosen: str | None) -> gr.Dropdown:
        names = run_choices(studio, with_adapter=True)
        return gr.Dropdown(choices=names, value=kept_choice(names, chosen))

    def explain(form: str) -> tuple:
        return texts(f"take.where.{form}"), gr.Checkbox(visible=form == "merged")

    @tells
    def begin(name: str | None, form: str, single: bool) -> str:
        view = named_run(studio.workspace.runs, name)
        if form not in FORMATS:
            raise UserError(texts("take.for"))
        studio.queue.add(
            "export",
            f"{view.name}, {form}",
            lambda folder: export_commands(
                view, form, single, studio.workspace.results / folder.name
            ),
            {"format": form},
        )
        return ""

    @tells
    def pack_run(name: str | None) -> str:
        view = named_run(studio.workspace.runs, name)

        def commands(folder: Path) -> list:
            out = studio.workspace.results / folder.name
            out.mkdir()
            return [pack_run_command(view, out)]

        studio.queue.add("pack", view.name, commands)
        return ""

    def look(last: str) -> tuple:
        jobs = studio.queue.jobs(*_KINDS)[:_SHOWN]
        html = "".join(_job(studio, job, texts) for job in jobs) or box(texts("take.empty"))
        shown = _newest_card(studio, jobs)
        seen = html + shown
        return (gr.skip(),) * 3 if seen == last else (html, shown, seen)

    hidden = {"show_progress": "hidden"}
    page.load(refresh, run, run, **hidden)
    page.load(look, last, [result, card, last], **hidden)
    tab.select(refresh, run, run, **hidden)
    form.change(explain, form, [where, single], **hidden)
    export.click(begin, [run, form, single], last, **hidden)
    pack.click(pack_run, run, last, **hidden)
    gr.Timer(2).tick(look, last, [result, card, last], queue=False, **hidden)


def _job(studio: Studio, job: Job, texts: Texts) -> str:
    line = job_line(studio, job, texts)
    state = studio.queue.state(job)
    if state == "failed":
        return line + log_part(job, texts)
    if state != "done":
        return line
    links = "".join(
        f'<a class="st-download" href="{studio.files.address(path)}" download>'
        f"{escape(texts('take.download', name=path.name, size=_size(path)))}</a>"
        for path in sorted((studio.workspace.results / job.folder.name).glob("*.zip"))
    )
    return f"{line}<p>{links}</p>"


def _newest_card(studio: Studio, jobs: list[Job]) -> str:
    """Return the model card of the newest export, in Markdown."""
    for job in jobs:
        if job.kind == "export" and studio.queue.state(job) == "done":
            for path in (studio.workspace.results / job.folder.name).glob("*/README.md"):
                text = _FRONT.sub("", path.read_text(encoding="utf-8"))
                return re.sub(r"^!\[.*\]\(.*\)$", "", text, flags=re.MULTILINE)
    return ""


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
