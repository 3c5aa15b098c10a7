"""The tab Photos: a subject's words and photos, each photo with its verdict."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from dreambooth_pl.errors import UserError
from dreambooth_pl.studio.context import Studio
from dreambooth_pl.studio.crops import MIDDLE, move_crop
from dreambooth_pl.studio.jobs.commands import identifier_command
from dreambooth_pl.studio.presets import DEFAULT_BASE, preset_values
from dreambooth_pl.studio.subjects import Subject
from dreambooth_pl.studio.texts import Texts
from dreambooth_pl.studio.views.page_parts import box, job_line, log_part, picture, tells
from dreambooth_pl.studio.views.photo_cards import photo_cards
from dreambooth_pl.studio.workspace import safe_name

NEW = ""
"""The choice of a subject that is to be made."""
_RESOLUTION = 128
"""Side in pixels for the warnings until a base is chosen: the embedded base's."""


def photos_tab(studio: Studio, texts: Texts, page: gr.Blocks) -> gr.Dropdown:
    """Add the tab's content to a page, and return the choice of the subject."""
    gr.Markdown(texts("photos.intro"))
    with gr.Row():
        subject = gr.Dropdown(
            [], label=texts("photos.subject"), elem_id="photos-subject", filterable=False
        )
        name = gr.Textbox(
            label=texts("photos.name"), info=texts("photos.name_info"), max_lines=1, visible=False
        )
        noun = gr.Textbox(label=texts("photos.noun"), info=texts("photos.noun_info"), max_lines=1)
        identifier = gr.Textbox(
            "sks",
            label=texts("photos.identifier"),
            info=texts("photos.identifier_info"),
            max_lines=1,
        )
    save = gr.Button(texts("photos.save"), elem_id="photos-save")
    upload = gr.File(
        file_count="multiple", label=texts("photos.drop"), height=140, elem_id="photos-upload"
    )
    refused = gr.HTML(elem_id="photos-refused")
    cards = gr.HTML(elem_id="photos-cards")
    with gr.Accordion(texts("photos.one"), open=False):
        with gr.Row():
            photo = gr.Dropdown([], label=texts("photos.photo"))
            caption = gr.Textbox(
                label=texts("photos.caption"), info=texts("photos.caption_info"), max_lines=2
            )
        with gr.Row():
            write = gr.Button(texts("photos.write"))
            move = gr.Button(texts("photos.move"), elem_id="photos-move")
            remove = gr.Button(texts("photos.remove"), variant="stop")
        place = gr.Slider(
            0, 1, MIDDLE, step=0.05, label=texts("photos.place"), info=texts("photos.place_info")
        )
    with gr.Accordion(texts("photos.word"), open=False):
        gr.Markdown(texts("photos.word_info"))
        look = gr.Button(texts("photos.look"))
        found = gr.HTML()

    def choices() -> list[tuple[str, str]]:
        names = studio.subjects.names()
        return [(texts("photos.new"), NEW), *((one, one) for one in names)]

    def shown(one: Subject | None) -> tuple:
        html, used = (box(texts("photos.empty")), [])
        if one is not None:
            html, used = photo_cards(one, _RESOLUTION, texts)
        return html, gr.Dropdown(choices=used, value=next(iter(used), None))

    @tells
    def choose(chosen: str) -> tuple:
        if chosen == NEW:
            # What is typed meanwhile stays: no field gets a value.
            fields = (gr.Textbox(visible=True), gr.skip(), gr.skip())
            return (*fields, *shown(None), gr.Button(interactive=True))
        one = studio.subjects.get(chosen)
        fields = (gr.Textbox(visible=False), one.class_noun, one.identifier)
        return (*fields, *shown(one), gr.Button(interactive=one.own))

    @tells
    def open_page() -> gr.Dropdown:
        return gr.Dropdown(choices=choices(), value=studio.subjects.names()[0])

    @tells
    def save_words(chosen: str, name: str, noun: str, identifier: str) -> tuple:
        one = _saved(chosen, name, noun, identifier)
        told = box(texts("photos.saved", name=one.name), "good")
        return gr.Dropdown(choices=choices(), value=one.name), "", told

    def _saved(chosen: str, name: str, noun: str, identifier: str) -> Subject:
        if chosen == NEW and safe_name(name) in studio.subjects.names():
            raise UserError(texts("photos.taken", name=name))
        return studio.subjects.set_words(chosen or name, noun, identifier)

    @tells
    def add(files: list[str] | None, chosen: str, name: str, noun: str, identifier: str) -> tuple:
        one = studio.subjects.get(chosen) if chosen else _saved(chosen, name, noun, identifier)
        try:
            lines = studio.subjects.add_files(one, [Path(file) for file in files or []])
        finally:
            for file in files or []:
                Path(file).unlink(missing_ok=True)
        told = "".join(box(line, "bad") for line in lines)
        dropdown = gr.Dropdown(choices=choices(), value=one.name)
        return None, told, dropdown, "", *shown(one)

    @tells
    def read_caption(chosen: str, name: str | None) -> str:
        if not chosen or not name:
            return ""
        path = studio.subjects.photo(studio.subjects.get(chosen), name).with_suffix(".txt")
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    @tells
    def write_caption(chosen: str, name: str | None, text: str) -> str:
        one = studio.subjects.get(chosen)
        studio.subjects.caption(one, name or "", text)
        return shown(one)[0]

    @tells
    def move_photo(chosen: str, name: str | None, place: float) -> str:
        one = studio.subjects.get(chosen)
        move_crop(one, studio.subjects.photo(one, name or ""), place)
        return shown(one)[0]

    @tells
    def remove_photo(chosen: str, name: str | None) -> tuple:
        one = studio.subjects.get(chosen)
        studio.subjects.remove(one, name or "")
        return shown(one)

    @tells
    def look_up(noun: str, identifier: str) -> None:
        base = preset_values(DEFAULT_BASE, "usual")["model.base"]
        studio.queue.add(
            "identifier",
            f"{identifier} {noun}",
            lambda folder: [
                identifier_command(noun, identifier, base, studio.workspace.results / folder.name)
            ],
        )

    def found_out() -> str:
        jobs = studio.queue.jobs("identifier")
        if not jobs:
            return ""
        html = job_line(studio, jobs[0], texts) + log_part(jobs[0], texts, 40)
        sheets = sorted((studio.workspace.results / jobs[0].folder.name).glob("*.png"))
        return html + "".join(picture(studio, sheet, jobs[0].title) for sheet in sheets)

    words = [subject, name, noun, identifier]
    page.load(open_page, None, subject, show_progress="hidden")
    subject.change(
        choose, subject, [name, noun, identifier, cards, photo, save], show_progress="hidden"
    )
    subject.input(lambda: "", None, refused, show_progress="hidden")
    save.click(save_words, words, [subject, name, refused], show_progress="hidden")
    upload.upload(add, [upload, *words], [upload, refused, subject, name, cards, photo])
    photo.change(read_caption, [subject, photo], caption, show_progress="hidden")
    write.click(write_caption, [subject, photo, caption], cards, show_progress="hidden")
    move.click(move_photo, [subject, photo, place], cards, show_progress="hidden")
    remove.click(remove_photo, [subject, photo], [cards, photo], show_progress="hidden")
    look.click(look_up, [noun, identifier], None, show_progress="hidden")
    gr.Timer(2).tick(found_out, None, found, show_progress="hidden", queue=False)
    return subject
