"""The page at ``/``: static files and the notebook's player."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache, partial
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

HERE = Path(__file__).parent
PLAYER = Path(__file__).parents[2] / "lab" / "notebook"  # read as files: the widget's Python is not needed here
SCRIPTS = ("page.js", "conversation.js", "microphone.js", "microphone_worklet.js", "timeline.js")
FILES = {
    "/": [HERE / "index.html"],
    "/page.css": [HERE / "page.css"],
    "/player.css": [PLAYER / "player.css"],
    "/player.js": [PLAYER / name for name in ("sound.js", "player.js", "widget.js")],  # joined, they are one module
} | {f"/{name}": [HERE / name] for name in SCRIPTS}
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def routes() -> dict[str, Callable[[Request], Awaitable[Response]]]:
    """Make an endpoint for each file."""
    return {path: partial(_send, path) for path in FILES}


async def _send(path: str, _: Request) -> Response:
    return Response(content(path), media_type=MEDIA_TYPES[FILES[path][0].suffix])


@cache
def content(path: str) -> bytes:
    """The bytes behind a path of `FILES`."""
    return b"\n".join(file.read_bytes() for file in FILES[path])
