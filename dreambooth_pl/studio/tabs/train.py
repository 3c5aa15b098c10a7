"""The tab Train: a preset, a button, and what the training shows while it runs."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from dreambooth_pl.errors import UserError
from dreambooth_pl.studio.context import Studio
from dreambooth_pl.studio.jobs.commands import resume_command, train_command
from dreambooth_pl.studio.jobs.job import Job, Kind
from dreambooth_pl.studio.jobs.job_queue import TRAIN
from dreambooth_pl.studio.presets import (
    DEFAULT_BASE,
    PRESETS,
    bases,
    config_files,
    name_of_run,
    preset_values,
    read_value,
    training_config,
    write_training_config,
)
from dreambooth_pl.studio.texts import Texts
from dreambooth_pl.studio.views.page_parts import job_line, kept_choice, run_choices, tells
from dreambooth_pl.studio.views.run_panel import queue_part, run_panel
from dreambooth_pl.studio.views.run_views import RunView, find_run_views, named_run

_ESTIMATE_LINES = 40
NEWEST = ""
"""The choice of the run that is at work, or was last."""


def train_tab(
    studio: Studio, texts: Texts, page: gr.Blocks, tab: gr.Tab, chosen: gr.Dropdown
) -> None:
    """Add the tab's content to a page.

    Args:
        studio, texts, page, tab: as for every tab.
        chosen: the subject that is chosen on the tab Photos.
    """
    gr.Markdown(texts("train.intro"))
    with gr.Row():
        subject = gr.Dropdown([], label=texts("train.subject"), filterable=False)
        base = gr.Dropdown(
            [(texts(f"base.{one}"), one) for one in bases()],
            value=DEFAULT_BASE,
            label=texts("train.base"),
            filterable=False,
        )
        other = gr.Textbox(label=texts("train.other"), info=texts("train.other_info"), max_lines=1)
    preset = gr.Radio([], label=texts("train.preset"), elem_id="train-preset")
    with gr.Accordion(texts("train.settings"), open=False, elem_id="train-settings"):
        gr.Markdown(texts("train.settings_info"))
        with gr.Row():
            key = gr.Dropdown([], label=texts("train.key"), elem_id="train-key", interactive=False)
            value = gr.Dropdown(
                [], label=texts("train.value"), allow_custom_value=True, elem_id="train-value"
            )
        about = gr.Markdown(texts("train.reading"), elem_id="train-about")
        with gr.Row():
            put = gr.Button(texts("train.put"), elem_id="train-put")
            reset = gr.Button(texts("train.reset"))
        changed = gr.HTML(elem_id="train-changed")
    changes = gr.State({})
    with gr.Row():
        start = gr.Button(texts("train.start"), variant="primary", elem_id="train-start")
        estimate = gr.Button(texts("train.estimate"), elem_id="train-estimate")
    estimated_html = gr.HTML(elem_id="train-estimated")
    waiting = gr.HTML(elem_id="train-queue")
    with gr.Row():
        run = gr.Dropdown([], label=texts("train.run"), elem_id="train-run", filterable=False)
        stop = gr.Button(texts("train.stop"), variant="stop", elem_id="train-stop")
        go_on = gr.Button(texts("train.go_on"), elem_id="train-go-on")
        cancel = gr.Button(texts("train.cancel"), elem_id="train-cancel")
    panel = gr.HTML(elem_id="train-panel")
    last = gr.State("")

    def preset_choices(base: str) -> list[tuple[str, str]]:
        found = []
        for one in PRESETS:
            values = preset_values(base, one)
            numbers = texts(
                "train.preset_numbers",
                steps=values["trainer.max_steps"],
                images=values["data.num_class_images"],
            )
            found.append((f"{texts(f'preset.{one}')} ({numbers})", one))
        return found

    def refresh(chosen: str | None, base: str, preset: str | None) -> tuple:
        names = studio.subjects.names()
        return (
            gr.Dropdown(choices=names, value=kept_choice(names, chosen)),
            gr.Radio(choices=preset_choices(base), value=preset or PRESETS[1]),
        )

    def offer_keys() -> tuple:
        if not studio.keys:
            return gr.skip(), gr.skip(), gr.skip()
        choices = [one["key"] for one in studio.keys]
        return gr.Dropdown(choices=choices, interactive=True), "", gr.Timer(active=False)

    def describe(key: str | None, base: str, preset: str | None) -> tuple:
        found = next((one for one in studio.keys if one["key"] == key), None)
        if found is None:
            return gr.skip(), gr.skip()
        now = preset_values(base, preset or PRESETS[1]).get(found["key"], found["default"])
        options = ["true", "false"] if found["kind"] == "flag" else list(found["choices"])
        options += ["null"] if found["optional"] and options else []
        told = f"`{key}`: {found['help']} {texts('train.now', value=_written(now))}"
        return gr.Dropdown(choices=options, value=_written(now)), told

    @tells
    def change(key: str | None, value: str | None, changes: dict) -> tuple[dict, str]:
        if not key:
            raise UserError(texts("train.no_key"))
        changes = {**changes, key: read_value(str(value or ""))}
        return changes, _changed(changes, texts)

    def request(
        kind: Kind, chosen: str, base: str, preset: str, other: str, changes: dict, *more: str
    ) -> None:
        one = studio.subjects.get(chosen)
        if not any(one.photos.iterdir()):
            raise UserError(texts("train.no_photos"))
        files = config_files(base, preset)
        config = training_config(studio.workspace, one, base, preset, other or "", changes)

        def commands(folder: Path) -> list:
            own = write_training_config(folder, one.name, config)
            return [(*train_command([*files, own]), *more)]

        facts = {"run_name": name_of_run(base, preset, one), "subject": one.name}
        studio.queue.add(kind, f"{one.name}, {texts(f'preset.{preset}')}", commands, facts)

    @tells
    def begin(*form: Any) -> tuple[str, str, str]:
        request(TRAIN, *form)
        return NEWEST, queue_part(studio, texts), ""

    @tells
    def ask_estimate(*form: Any) -> str:
        request("estimate", *form, "--dry-run")
        return estimated()

    def estimated() -> str:
        jobs = studio.queue.jobs("estimate")
        if not jobs:
            return ""
        lines = "\n".join(jobs[0].log_lines(_ESTIMATE_LINES))
        told = f'<pre class="st-pre" tabindex="0">{escape(lines)}</pre>' if lines else ""
        return job_line(studio, jobs[0], texts) + told

    def job_of(name: str) -> Job | None:
        """Return the job that works in a run, or was the last to; of no name: the newest."""
        jobs = studio.queue.jobs(TRAIN)
        if name == NEWEST:
            states = [(job, studio.queue.state(job)) for job in jobs]
            running = [job for job, state in states if state == "running"]
            begun = [job for job, state in states if state != "queued"]
            return next(iter([*running, *begun]), None)
        folder = (studio.workspace.runs / name).relative_to(studio.workspace.root)
        return next((job for job in jobs if job.run == str(folder)), None)

    def shown(name: str) -> tuple[RunView | None, Job | None]:
        job = job_of(name)
        runs = find_run_views(studio.workspace.runs)
        if name == NEWEST and job is not None:
            folder = studio.workspace.root / (job.run or "")
            return next((run for run in runs if run.folder == folder), None), job
        if name == NEWEST:
            return next(iter(runs), None), None
        return next((run for run in runs if run.name == name), None), job

    def look(name: str | None, last: str) -> tuple:
        view, job = shown(name or NEWEST)
        state = studio.queue.state(job) if job is not None else ""
        html = run_panel(studio, view, job, texts)
        names = [(texts("train.newest"), NEWEST)]
        names += [(one, one) for one in run_choices(studio)]
        seen = f"{html}{names}{state}{queue_part(studio, texts)}"
        if seen == last:
            return (gr.skip(),) * 6
        resumable = view is not None and view.resumable and state not in ("running", "queued")
        return (
            html,
            gr.Dropdown(choices=names, value=name or NEWEST),
            queue_part(studio, texts),
            gr.Button(interactive=state == "running"),
            gr.Button(interactive=resumable),
            seen,
        )

    @tells
    def end(name: str | None) -> None:
        job = job_of(name or NEWEST)
        if job is None:
            raise UserError(texts("train.none_runs"))
        studio.queue.stop(job)

    @tells
    def continue_run(name: str | None) -> None:
        view, job = shown(name or NEWEST)
        view = named_run(studio.workspace.runs, view.name if view else None)
        if job is not None and studio.queue.state(job) == "running":
            raise UserError(texts("train.still_runs"))
        folder = str(view.folder.relative_to(studio.workspace.root))
        studio.queue.add(TRAIN, view.name, lambda _: [resume_command(view)], {"run": folder})

    def cancel_all() -> str:
        for job in studio.queue.jobs(TRAIN):
            if studio.queue.state(job) == "queued":
                studio.queue.stop(job)
        return queue_part(studio, texts)

    watched = [panel, run, waiting, stop, go_on, last]
    hidden = {"show_progress": "hidden"}
    page.load(refresh, [subject, base, preset], [subject, preset], **hidden)
    page.load(look, [run, last], watched, **hidden)
    tab.select(refresh, [chosen, base, preset], [subject, preset], **hidden)
    base.change(refresh, [subject, base, preset], [subject, preset], **hidden)
    until_read = gr.Timer(1)
    until_read.tick(offer_keys, None, [key, about, until_read], queue=False, **hidden)
    key.change(describe, [key, base, preset], [value, about], **hidden)
    put.click(change, [key, value, changes], [changes, changed], **hidden)
    reset.click(lambda: ({}, ""), None, [changes, changed], **hidden)
    start.click(
        begin, [subject, base, preset, other, changes], [run, waiting, last], **hidden
    ).then(look, [run, last], watched, **hidden)
    estimate.click(ask_estimate, [subject, base, preset, other, changes], estimated_html, **hidden)
    gr.Timer(3).tick(estimated, None, estimated_html, queue=False, **hidden)
    stop.click(end, run, None, **hidden)
    go_on.click(continue_run, run, None, **hidden)
    cancel.click(cancel_all, None, waiting, **hidden)
    run.change(look, [run, last], watched, **hidden)
    gr.Timer(2).tick(look, [run, last], watched, queue=False, **hidden)


def _changed(changes: dict[str, Any], texts: Texts) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(key)}</th><td>{escape(_written(value))}</td></tr>"
        for key, value in changes.items()
    )
    caption = escape(texts("train.changed"))
    return f'<table class="st-table"><caption>{caption}</caption><tbody>{rows}</tbody></table>'


def _written(value: Any) -> str:
    """Return a value as a config file writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
