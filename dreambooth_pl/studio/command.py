"""The command `studio.py`: serve the studio from the working folder."""

from __future__ import annotations

import argparse
import socket
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from dreambooth_pl.bounds import Bounds
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.folder_lock import locked
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.start import tells_mistakes
from dreambooth_pl.stop_signals import STOP, advising
from dreambooth_pl.studio.guard import is_local
from dreambooth_pl.studio.workspace import Workspace

_BUSY = "Another studio is at work in {folder}. Use its page, or end it first."
_SHORTEST_PASSWORD = 8
_PORTS = Bounds(0, 65_535)
_GOES_ON = "What was started in it goes on; python studio.py finds it again."


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `studio.py`."""
    parser = argparse.ArgumentParser(
        prog="studio.py",
        description="Serve the studio, a page in the browser: photos in, images of your subject "
        "out. Runs and photos are in the working folder. Without --host, only this machine can "
        "open the page.",
    )
    add = parser.add_argument
    add(
        "--port",
        type=int,
        default=7860,
        metavar="N",
        help="port of the page; 0 for a free one (default: %(default)s)",
    )
    add(
        "--host",
        default="127.0.0.1",
        help="address to answer on (default: %(default)s); any but this machine's own needs --auth",
    )
    add(
        "--auth",
        metavar="USER:PASSWORD",
        help="ask for this user and password. They travel unencrypted: for the open network put "
        "the studio behind a proxy with TLS",
    )
    return parser


def check(options: argparse.Namespace) -> None:
    """Check that the options go together.

    Raises:
        UserError: a host that others can reach without a password, or a password that is none.
    """
    _PORTS.check("--port", options.port, whole=True)
    if options.auth is not None:
        user, colon, password = options.auth.partition(":")
        if not (user and colon) or len(password) < _SHORTEST_PASSWORD:
            raise UserError(
                "--auth: give USER:PASSWORD, with a password of at least "
                f"{_SHORTEST_PASSWORD} characters."
            )
    elif not is_local(options.host):
        raise UserError(
            f"--host {options.host} lets other machines in: set a password with --auth "
            "USER:PASSWORD, or leave --host out."
        )


@tells_mistakes
def main(args: Sequence[str] | None = None) -> int:
    """Run the command until it is interrupted.

    Args:
        args: command-line arguments; None for those of the process.

    Returns:
        The exit status.
    """
    options = build_parser().parse_args(args)
    check(options)
    if find_spec("gradio") is None:
        raise UserError(
            'The studio needs Gradio, which is not installed: pip install "dreambooth_pl[studio]"'
        )
    workspace = Workspace(Path.cwd())
    workspace.make()
    with (
        advising(_GOES_ON),
        _listening(options.host, options.port) as listener,
        locked(workspace.own, _BUSY),
    ):
        _serve(workspace, listener, options)
    return 0


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"The studio cannot answer on {host}, port {port}: {error}. Choose another --port."
        ) from error


def _serve(workspace: Workspace, listener: socket.socket, options: argparse.Namespace) -> None:
    with STOP.loading():
        import uvicorn

        from dreambooth_pl.studio.context import Studio
        from dreambooth_pl.studio.server import make_app

    studio = Studio(workspace)
    app = make_app(studio, is_local(options.host), options.auth)
    ended = threading.Event()
    starter = threading.Thread(target=studio.queue.keep_starting, args=(ended,), daemon=True)
    starter.start()
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    ProgressReporter().line(f"The studio is at http://{name}:{port} (end it with Ctrl-C)")
    studio.read_keys()
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        ended.set()
        starter.join()
