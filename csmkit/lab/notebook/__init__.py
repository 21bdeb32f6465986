"""What a notebook shows beside its text: a player that sounds while speech is still being made, and a studio.

Needs the extra ``notebook``::

    from csmkit.lab.notebook import Player, Studio

    player = Player()
    player.play(generator.generate_streaming("Hello there."))

    Studio("pocket")  # type, choose, hear, compare, keep
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from csmkit.errors import MissingDependencyError

if TYPE_CHECKING:
    from csmkit.lab.notebook.player import Player
    from csmkit.lab.notebook.studio import Studio

__all__ = ["Player", "Studio"]


def __getattr__(name: str) -> Any:
    """Import a widget when it is first used; MissingDependencyError names the extra that brings anywidget."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public are {', '.join(__all__)}")
    try:
        return getattr(import_module(f"{__name__}.{name.lower()}"), name)
    except ImportError as error:
        raise MissingDependencyError.for_extra(error.name or "anywidget", "notebook") from error
