"""The page at ``/``: static files and the notebook's player."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

HERE = Path(__file__).parent
PLAYER = Path(__file__).parents[2] / "lab" / "notebook"  # read as files: the widget's Python is not needed here
PLAYER_SCRIPTS = ("sound.js", "player.js", "widget.js")  # joined, they are one module
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/conversation.js": ("conversation.js", "text/javascript; charset=utf-8"),
    "/microphone.js": ("microphone.js", "text/javascript; charset=utf-8"),
    "/microphone_worklet.js": ("microphone_worklet.js", "text/javascript; charset=utf-8"),
    "/timeline.js": ("timeline.js", "text/javascript; charset=utf-8"),
    "/player.js": ("", "text/javascript; charset=utf-8"),
    "/player.css": ("", "text/css; charset=utf-8"),
}


def routes() -> dict[str, Callable[[Request], Awaitable[Any]]]:
    """Make an endpoint for each file."""
    return {path: _endpoint(path) for path in FILES}


def _endpoint(path: str) -> Callable[[Request], Awaitable[Response]]:
    async def send(_: Request) -> Response:
        return Response(content(path), media_type=FILES[path][1])

    return send


@cache
def content(path: str) -> bytes:
    """The bytes behind a path of `FILES`."""
    if path == "/player.js":
        scripts = [PLAYER / name for name in PLAYER_SCRIPTS]
        return b"\n".join(script.read_bytes() for script in scripts if script.is_file())
    if path == "/player.css":
        return (PLAYER / "player.css").read_bytes()
    return (HERE / FILES[path][0]).read_bytes()
