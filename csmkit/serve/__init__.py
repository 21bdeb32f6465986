"""A web server for the voice: OpenAI's speech, transcription and realtime interfaces, and a page to talk to it.

from csmkit.serve import Limits, ServeOptions, Server

with Server(ServeOptions(port=0)) as server:
    print(server.address)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from csmkit.serve.settings import Limits, ServeOptions

if TYPE_CHECKING:
    from csmkit.serve.models import ServedModels
    from csmkit.serve.server import Server

__all__ = ["Limits", "ServeOptions", "ServedModels", "Server"]
_HOME = {"ServedModels": "csmkit.serve.models", "Server": "csmkit.serve.server"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'csmkit.serve' has no attribute {name!r}; public are {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)
