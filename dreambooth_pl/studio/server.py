"""The server of the studio: the pages, the files that it hands out, and who may ask."""

from __future__ import annotations

import os

# Set before Gradio is imported: it must not send anything anywhere.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"

import gradio as gr
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from dreambooth_pl.studio.context import Studio
from dreambooth_pl.studio.guard import Guard
from dreambooth_pl.studio.page import CSS, build_page, theme
from dreambooth_pl.studio.served_files import ROUTE, SANDBOX, TYPES
from dreambooth_pl.studio.subjects import MAX_BYTES
from dreambooth_pl.studio.texts import LANGUAGES, Texts, preferred_language


def make_app(studio: Studio, local: bool, auth: str | None) -> Guard:
    """Return the application.

    Args:
        studio: what the pages show.
        local: whether it is to be asked under this machine's own names alone.
        auth: user and password with a colon between, None for none.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    def front(request: Request) -> Response:
        language = preferred_language(request.headers.get("accept-language", ""))
        return RedirectResponse(f"/{language}/")

    @app.get("/manifest.json")
    def manifest() -> dict[str, str]:  # Gradio's pages ask for one
        return {"name": Texts("en")("page.title"), "start_url": "/", "display": "browser"}

    @app.get("/favicon.ico")
    def favicon() -> Response:
        return Response(status_code=204)

    @app.get(f"{ROUTE}/{{folder}}/{{path:path}}")
    def hand_out(folder: str, path: str) -> Response:
        file = studio.files.find(folder, path)
        if file is None:
            raise HTTPException(404, "There is no such file.")
        kind = TYPES[file.suffix.lower()]
        shown = kind.startswith(("image/", "text/"))
        headers = {"cache-control": "private, no-cache"}
        if kind.startswith("text/html"):
            headers["content-security-policy"] = SANDBOX
        disposition = "inline" if shown else "attachment"
        return FileResponse(
            file,
            media_type=kind,
            filename=file.name,
            content_disposition_type=disposition,
            headers=headers,
        )

    for language in LANGUAGES:
        gr.mount_gradio_app(
            app,
            build_page(studio, Texts(language)),
            path=f"/{language}",
            footer_links=[],
            show_error=True,
            max_file_size=MAX_BYTES,
            ssr_mode=False,
            pwa=False,
            theme=theme(),
            css_paths=[CSS],
        )
    return Guard(app, local, auth)
