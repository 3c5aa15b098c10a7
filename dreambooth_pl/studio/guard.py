"""Who may ask the studio: its own page, from this machine or with the password."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}

_PLAIN = [(b"content-type", b"text/plain; charset=utf-8")]
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "media-src 'self' data: blob:; worker-src 'self' blob:; frame-ancestors 'none'; "
    "form-action 'self'; base-uri 'self'"
)
"""Nothing is loaded from elsewhere, and no other page may show this one."""
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def is_local(host: str) -> bool:
    """Return whether a host name or address is this machine's own.

    >>> is_local("127.0.0.1"), is_local("0.0.0.0"), is_local("studio.example.org")
    (True, False, False)
    """
    if host in LOCAL_HOSTS:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware that refuses requests of other sites and, with a password, of others.

    A page of another site cannot read answers, but it can send requests from the user's browser;
    and a name of its own may lead to this machine (DNS rebinding). Both are told by headers that
    browsers do not let pages set.

    Args:
        app: what is guarded.
        local: whether the studio is to be asked under this machine's own names alone.
        auth: user and password with a colon between, None for none.
    """

    def __init__(self, app: App, local: bool, auth: str | None = None) -> None:
        self._app = app
        self._local = local
        self._auth = auth

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): v.decode("latin-1") for name, v in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            status, text, more = refusal
            start = {"type": "http.response.start", "status": status, "headers": _PLAIN + more}
            await send(start)
            await send({"type": "http.response.body", "body": text.encode()})

    def _refusal(
        self, scope: Message, headers: dict[str, str]
    ) -> tuple[int, str, list[tuple[bytes, bytes]]] | None:
        if self._local and host_of(headers.get("host", "")) not in LOCAL_HOSTS:
            return 403, "The studio answers on this machine's own names alone.", []
        if not _of_own_page(scope.get("method", "GET"), headers):
            return 403, "The studio does not answer requests of other sites.", []
        if self._auth is not None and not _knows(headers.get("authorization", ""), self._auth):
            ask = [(b"www-authenticate", b'Basic realm="studio", charset="UTF-8"')]
            return 401, "User and password, please.", ask
        return None


def host_of(header: str) -> str:
    """Return the name in a Host header, without the port.

    >>> host_of("127.0.0.1:7860"), host_of("[::1]:7860"), host_of("localhost")
    ('127.0.0.1', '::1', 'localhost')
    """
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if ":" in header else header


def _of_own_page(method: str, headers: dict[str, str]) -> bool:
    """Return whether a request is one of the studio's page, or the opening of it."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        return False
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    # A link or a bookmark of elsewhere may open the page, and no more.
    opening = headers.get("sec-fetch-mode") == "navigate"
    return method == "GET" and opening and headers.get("sec-fetch-dest") == "document"


def _knows(header: str, auth: str) -> bool:
    kind, _, given = header.partition(" ")
    try:
        decoded = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return False
    return kind.lower() == "basic" and hmac.compare_digest(decoded, auth.encode())


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in message.get("headers", [])}
            more = [pair for pair in _HEADERS if pair[0] not in own]
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await send(message)

    return sending
