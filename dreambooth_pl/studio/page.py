"""The page of the studio in a language: a head and the tabs."""

from __future__ import annotations

from html import escape
from pathlib import Path

import gradio as gr

from dreambooth_pl.studio.context import Studio
from dreambooth_pl.studio.tabs.compare import compare_tab
from dreambooth_pl.studio.tabs.generate import generate_tab
from dreambooth_pl.studio.tabs.photos import photos_tab
from dreambooth_pl.studio.tabs.take import take_tab
from dreambooth_pl.studio.tabs.train import train_tab
from dreambooth_pl.studio.texts import LANGUAGES, Texts

CSS = Path(__file__).with_name("page.css")
_HOUR = 3600


def theme() -> gr.themes.Base:
    """Return the look: fonts that are there already, and colours that can be read."""
    fonts = ("system-ui", "sans-serif")
    return gr.themes.Default(
        primary_hue="teal",
        font=fonts,
        font_mono=("ui-monospace", "monospace"),
    ).set(
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#0f766e",
        button_primary_text_color="#ffffff",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_text_color="#ffffff",
        color_accent="#0f766e",
        body_text_color_subdued="#4b5563",
        body_text_color_subdued_dark="#c3c8d1",
        block_title_text_color="#374151",
        block_title_text_color_dark="#d1d5db",
        block_info_text_color="#4b5563",
        block_info_text_color_dark="#c3c8d1",
        block_label_text_color="#374151",
        block_label_text_color_dark="#d1d5db",
    )


def build_page(studio: Studio, texts: Texts) -> gr.Blocks:
    """Return the page."""
    with gr.Blocks(
        title=texts("page.title"), analytics_enabled=False, delete_cache=(_HOUR, _HOUR)
    ) as page:
        gr.HTML(_head(texts))
        with gr.Tabs():
            with gr.Tab(texts("page.photos"), id="photos"):
                subject = photos_tab(studio, texts, page)
            with gr.Tab(texts("page.train"), id="train") as tab:
                train_tab(studio, texts, page, tab, subject)
            with gr.Tab(texts("page.generate"), id="generate") as tab:
                generate_tab(studio, texts, page, tab)
            with gr.Tab(texts("page.compare"), id="compare") as tab:
                compare_tab(studio, texts, page, tab)
            with gr.Tab(texts("page.take"), id="take") as tab:
                take_tab(studio, texts, page, tab)
    return page


def _head(texts: Texts) -> str:
    links = "".join(
        f'<a href="/{code}/" lang="{code}"{_current(code, texts)}>{escape(name)}</a>'
        for code, name in LANGUAGES.items()
    )
    label = escape(texts("page.languages"))
    return (
        f'<header class="st-head"><h1>{escape(texts("page.title"))}</h1>'
        f'<p>{escape(texts("page.lead"))}</p><nav aria-label="{label}">{links}</nav></header>'
    )


def _current(code: str, texts: Texts) -> str:
    return ' aria-current="page"' if code == texts.language else ""
