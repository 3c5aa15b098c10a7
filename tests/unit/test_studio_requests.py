"""Who may ask the studio, and for what: requests to the real application."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")
from starlette.testclient import TestClient

from dreambooth_pl.errors import UserError
from dreambooth_pl.studio.command import build_parser, check, main
from dreambooth_pl.studio.context import Studio
from dreambooth_pl.studio.guard import Guard
from dreambooth_pl.studio.server import make_app
from dreambooth_pl.studio.workspace import Workspace

HOST = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    studio = Studio(Workspace(tmp_path_factory.mktemp("work")))
    result = studio.workspace.results / "00001"
    result.mkdir()
    (result / "report.html").write_text("<script>alert(1)</script>")
    (result / "export.zip").write_bytes(b"PK")
    (studio.workspace.own / "secret.txt").write_text("secret")
    return studio


@pytest.fixture(scope="module")
def app(studio: Studio) -> Guard:
    return make_app(studio, local=True, auth=None)


@pytest.fixture(scope="module")
def client(app: Guard) -> Any:
    with TestClient(app, base_url=HOST) as client:
        yield client


def status(app: Guard, path: str, headers: dict[str, str] | None = None) -> int:
    """Ask for a path as it is, which clients would tidy first."""
    sent = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    names = {"host": "127.0.0.1:7860"} | (headers or {})
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in names.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 7860),
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"]


def test_the_page_opens_in_the_browsers_language(client: TestClient) -> None:
    for language, words in (("en", "English"), ("ru", "Русский")):
        answer = client.get("/", headers={"accept-language": f"{language}-XX"})
        assert answer.url.path == f"/{language}/" and words in answer.text
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    for address in ("fonts.googleapis", "cdn.jsdelivr", "unpkg.com", "cdnjs"):
        assert address not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/files/runs//etc/passwd",
        "/files/runs/../../../../etc/passwd",
        "/files/../studio_files/secret.txt",
        "/files/results/../secret.txt",
        "/files/subjects/rex/photos/00.png",
        "/en/gradio_api/file=/etc/passwd",
        "/en/gradio_api/file=../../../../etc/passwd",
        "/en/gradio_api/file=studio_files/secret.txt",
        "/en/static/../../../../etc/passwd",
        "/en/assets/../../../../../etc/passwd",
    ],
)
def test_other_files_are_not_handed_out(app: Guard, client: TestClient, path: str) -> None:
    assert status(app, path) in (400, 403, 404)


def test_reports_are_shown_apart_and_archives_are_downloaded(client: TestClient) -> None:
    report = client.get("/files/results/00001/report.html")
    assert report.headers["content-security-policy"].startswith("sandbox")
    archive = client.get("/files/results/00001/export.zip")
    assert archive.content == b"PK"
    assert archive.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "studio.evil.example"},  # a name of theirs that leads here
        {"host": "127.0.0.1.evil.example:7860"},
        {"host": ""},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:8000"},  # another program of this machine
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    ],
)
def test_requests_of_other_sites_are_refused(app: Guard, headers: dict[str, str]) -> None:
    assert status(app, "/en/config", headers) == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"},
        {"host": "localhost:7860"},
        {"host": "[::1]:7860"},
        {
            "sec-fetch-site": "cross-site",
            "sec-fetch-mode": "navigate",
            "sec-fetch-dest": "document",
        },
    ],
)
def test_the_pages_own_requests_and_links_to_it_are_answered(
    app: Guard, client: TestClient, headers: dict[str, str]
) -> None:
    assert status(app, "/en/config", headers) == 200


def test_too_large_an_upload_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(size: int) -> int:
        files = {"files": ("a.png", b"x" * size, "image/png")}
        return client.post("/en/gradio_api/upload", files=files).status_code

    assert send(1000) == 200
    assert send(61_000_000) == 413


def test_a_password_is_asked_for(studio: Studio) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    guarded = Guard(answer, local=False, auth="ann:correct horse")

    def asked(given: str) -> int:
        header = f"Basic {base64.b64encode(given.encode()).decode()}"
        return status(guarded, "/", {"host": "example.org", "authorization": header})

    assert status(guarded, "/", {"host": "example.org"}) == 401
    assert asked("ann:wrong") == asked("") == asked("ann:correct horse ") == 401
    assert asked("ann:correct horse") == 200
    assert (
        status(
            guarded,
            "/",
            {"host": "example.org", "authorization": "Basic ñ".encode().decode("latin-1")},
        )
        == 401
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "0.0.0.0"],
        ["--host", "::"],
        ["--host", "192.168.0.2"],
        ["--host", "0.0.0.0", "--auth", "ann"],
        ["--auth", "ann:short"],
        ["--auth", ":no user at all"],
    ],
)
def test_others_are_let_in_with_a_password_alone(arguments: list[str]) -> None:
    with pytest.raises(UserError, match="--auth"):
        check(build_parser().parse_args(arguments))


def test_options_that_are_fine() -> None:
    for arguments in ([], ["--host", "localhost"], ["--host", "::1"], ["--auth", "a:12345678"]):
        check(build_parser().parse_args(arguments))
    check(build_parser().parse_args(["--host", "0.0.0.0", "--auth", "a:12345678"]))


def test_a_port_in_use_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import socket

    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--port", str(taken.getsockname()[1])]) == 1
    assert "Choose another --port" in capsys.readouterr().err
