"""The tab Generate: prompts to images, tuned and untuned side by side."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from dreambooth_pl.errors import UserError
from dreambooth_pl.studio.context import Studio
from dreambooth_pl.studio.jobs.commands import (
    FINAL,
    MAX_IMAGES,
    ImageForm,
    generate_command,
    reproduce_command,
)
from dreambooth_pl.studio.jobs.job import Job
from dreambooth_pl.studio.texts import Texts
from dreambooth_pl.studio.views.page_parts import (
    box,
    job_line,
    kept_choice,
    log_part,
    picture,
    run_choices,
    tells,
)
from dreambooth_pl.studio.views.run_views import named_run

PROMPT = "a {identifier} {class} in the snow"
_KINDS = ("generate", "reproduce")
_SAID = 4
"""Last lines of a reproduction, which say whether it is the same."""
_SLIDE = "this.closest('.st-set').style.setProperty('--cut', this.value + '%')"


def generate_tab(studio: Studio, texts: Texts, page: gr.Blocks, tab: gr.Tab) -> None:
    """Add the tab's content to a page."""
    gr.Markdown(texts("generate.intro"))
    with gr.Row():
        run = gr.Dropdown([], label=texts("generate.run"), elem_id="generate-run", filterable=False)
        checkpoint = gr.Dropdown(
            [(texts("generate.final"), FINAL)],
            value=FINAL,
            label=texts("generate.checkpoint"),
            filterable=False,
        )
    prompt = gr.Textbox(
        PROMPT, label=texts("generate.prompt"), info=texts("generate.prompt_info"), max_lines=3
    )
    negative = gr.Textbox(label=texts("generate.negative"), max_lines=2)
    with gr.Row():
        unet = gr.Slider(0, 2, 1, step=0.05, label=texts("generate.unet"), elem_id="generate-unet")
        text_encoder = gr.Slider(0, 2, 1, step=0.05, label=texts("generate.text_encoder"))
    with gr.Accordion(texts("generate.more"), open=False), gr.Row():
        seed = gr.Number(42, label=texts("generate.seed"), precision=0, minimum=0)
        images = gr.Number(
            4, label=texts("generate.images"), precision=0, minimum=1, maximum=MAX_IMAGES
        )
        steps = gr.Number(
            25, label=texts("generate.steps"), precision=0, minimum=1, maximum=1000,
            elem_id="generate-steps",
        )  # fmt: skip
        guidance = gr.Number(6.4, label=texts("generate.guidance"), minimum=0, maximum=100)
    beside = gr.Checkbox(True, label=texts("generate.beside"))
    ask = gr.Button(texts("generate.ask"), variant="primary", elem_id="generate-ask")
    with gr.Row():
        history = gr.Dropdown(
            [],
            label=texts("generate.history"),
            elem_id="generate-history",
            filterable=False,
            scale=3,
        )
        stop = gr.Button(texts("job.stop"), variant="stop")
        again = gr.Button(texts("generate.again"))
        reproduce = gr.Button(texts("generate.reproduce"))
    result = gr.HTML(elem_id="generate-result")
    last = gr.State("")
    fields = [
        *(run, checkpoint, prompt, negative, seed, images, steps, guidance),
        *(unet, text_encoder, beside),
    ]

    def refresh(chosen: str | None) -> gr.Dropdown:
        names = run_choices(studio, with_adapter=True)
        return gr.Dropdown(choices=names, value=kept_choice(names, chosen))

    @tells
    def choose(name: str | None) -> tuple:
        if not name:
            return (gr.skip(),) * 5
        view = named_run(studio.workspace.runs, name)
        choices = [(texts("generate.final"), FINAL), *((one, one) for one in view.checkpoints())]
        own = [view.setting(f"sampling.{key}", default) for key, default in _OWN_SETTINGS.items()]
        return gr.Dropdown(choices=choices, value=FINAL), *own

    @tells
    def begin(*values: Any) -> tuple:
        form = read_form(values, texts)
        view = named_run(studio.workspace.runs, form.run)
        job = studio.queue.add(
            "generate",
            f"{view.name}: {form.prompt}",
            lambda folder: [generate_command(form, view, studio.workspace.results / folder.name)],
            form.facts(),
        )
        return gr.Dropdown(choices=_history(studio), value=job.folder.name), ""

    @tells
    def fill_in(number: str | None) -> tuple:
        facts = _chosen(studio, number, texts).facts
        if "prompt" not in facts:
            raise UserError(texts("generate.no_form"))
        return tuple(facts[key] for key in ImageForm.__dataclass_fields__)

    @tells
    def generate_again(number: str | None) -> tuple:
        job = _chosen(studio, number, texts)
        source = _images(studio, job, "tuned")
        if not source:
            raise UserError(texts("generate.no_image"))
        names = run_choices(studio, with_adapter=True)
        run_name = job.facts.get("run")
        view = named_run(studio.workspace.runs, run_name) if run_name in names else None
        new = studio.queue.add(
            "reproduce",
            source[0].name,
            lambda folder: [
                reproduce_command(source[0], view, studio.workspace.results / folder.name)
            ],
            {"image": str(source[0])},
        )
        return gr.Dropdown(choices=_history(studio), value=new.folder.name), ""

    @tells
    def end(number: str | None) -> None:
        studio.queue.stop(_chosen(studio, number, texts))

    def look(number: str | None, last: str) -> tuple:
        choices = _history(studio)
        values = [value for _, value in choices]
        number = kept_choice(values, number)
        html = box(texts("generate.empty"))
        if number is not None:
            html = _result(studio, _chosen(studio, number, texts), texts)
        seen = f"{html}{values}"
        if seen == last:
            return (gr.skip(),) * 3
        return html, gr.Dropdown(choices=choices, value=number), seen

    hidden = {"show_progress": "hidden"}
    watched = [result, history, last]
    page.load(refresh, run, run, **hidden)
    page.load(look, [history, last], watched, **hidden)
    tab.select(refresh, run, run, **hidden)
    run.change(choose, run, [checkpoint, steps, guidance, unet, text_encoder], **hidden)
    ask.click(begin, fields, [history, last], **hidden)
    stop.click(end, history, None, **hidden)
    again.click(fill_in, history, fields, **hidden)
    reproduce.click(generate_again, history, [history, last], **hidden)
    history.change(look, [history, last], watched, **hidden)
    gr.Timer(2).tick(look, [history, last], watched, queue=False, **hidden)


_OWN_SETTINGS = {
    "num_inference_steps": 25,
    "guidance_scale": 6.4,
    "lora_scale_unet": 1.0,
    "lora_scale_text_encoder": 1.0,
}
"""Settings of a run that its images start from, with what holds if it does not tell."""


def read_form(values: tuple[Any, ...], texts: Texts) -> ImageForm:
    """Return the values of the page's fields, in their types.

    Raises:
        UserError: no run is chosen, or a number is missing.
    """
    named = dict(zip(ImageForm.__dataclass_fields__, values, strict=True))
    if not named["run"]:
        raise UserError(texts("generate.no_run"))
    if any(value is None for value in named.values()):
        raise UserError(texts("generate.no_number"))
    for key in ("seed", "images", "steps"):
        named[key] = int(named[key])
    return ImageForm(**named)


def _history(studio: Studio) -> list[tuple[str, str]]:
    jobs = studio.queue.jobs(*_KINDS)
    return [(f"{job.number} · {job.title}", job.folder.name) for job in jobs]


def _chosen(studio: Studio, number: str | None, texts: Texts) -> Job:
    for job in studio.queue.jobs(*_KINDS):
        if job.folder.name == number:
            return job
    raise UserError(texts("generate.no_history"))


def _images(studio: Studio, job: Job, part: str) -> list[Path]:
    return sorted((studio.workspace.results / job.folder.name / part).glob("[!.]*.png"))


def _result(studio: Studio, job: Job, texts: Texts) -> str:
    state = job_line(studio, job, texts)
    if job.kind == "reproduce":
        images = "".join(picture(studio, path, path.name) for path in _images(studio, job, "."))
        said = escape("\n".join(job.log_lines(_SAID)))
        return f'{state}<pre class="st-pre" tabindex="0">{said}</pre>{images}'
    base = {path.name: path for path in _images(studio, job, "base")}
    tuned = _images(studio, job, "tuned")
    pairs = "".join(_pair(studio, path, base.get(path.name), texts) for path in tuned)
    slider = ""
    if base:
        label = escape(texts("generate.slide"))
        slider = (
            f'<label class="st-slide">{escape(texts("generate.untuned"))}'
            f'<input type="range" min="0" max="100" value="50" aria-label="{label}" '
            f'oninput="{_SLIDE}">{escape(texts("generate.tuned"))}</label>'
        )
    settings = _settings(job, texts)
    return (
        f'{state}<div class="st-set">{slider}<div class="st-pairs">{pairs}</div></div>'
        f"{settings}{log_part(job, texts)}"
    )


def _pair(studio: Studio, tuned: Path, base: Path | None, texts: Texts) -> str:
    """Return a generated image, with the untuned base's over its left part."""
    address = studio.files.address(tuned)
    label = f"{texts('generate.tuned')}: {tuned.stem}"
    over = ""
    if base is not None:
        alt = escape(f"{texts('generate.untuned')}: {base.stem}")
        over = (
            f'<img class="st-over" src="{studio.files.address(base)}" alt="{alt}">'
            '<span class="st-edge"></span>'
        )
    return (
        f'<div class="st-pair"><div class="st-two"><img src="{address}" alt="{escape(label)}">'
        f'{over}</div><a href="{address}" target="_blank" rel="noopener">{escape(tuned.name)}</a>'
        "</div>"
    )


def _settings(job: Job, texts: Texts) -> str:
    facts = job.facts
    said = texts(
        "generate.settings",
        **{key: facts.get(key, "") for key in ImageForm.__dataclass_fields__},
    )
    return f"<p>{escape(said)}</p>"
