"""Widgets for a notebook: a player that plays speech while it is being made, a studio, and a spoken conversation.

Needs the extra ``notebook``::

    from csmkit.lab.notebook import Player, Studio, Talk

    player = Player()
    player.play(generator.generate_streaming("Hello there."))

    Studio("pocket")  # type, choose settings, hear, compare, keep
    Talk("pocket")  # speak into the microphone and be answered
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from csmkit.errors import MissingDependencyError

_PLACES = {
    "ByEar": "csmkit.lab.notebook.by_ear:ByEar",
    "Listen": "csmkit.lab.notebook.listen:Listen",
    "Player": "csmkit.lab.notebook.player:Player",
    "Studio": "csmkit.lab.notebook.studio:Studio",
    "Talk": "csmkit.lab.notebook.talk:Talk",
    "describe": "csmkit.lab.notebook.output:describe",
    "hear": "csmkit.lab.notebook.player:hear",
    "hear_turn": "csmkit.lab.notebook.player:hear_turn",
    "keep_rows": "csmkit.lab.report.folder:keep_rows",
    "texts_from": "csmkit.lab.texts:draw_texts",
}
__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used; MissingDependencyError names the extra that installs anywidget."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public are {', '.join(__all__)}")
    module, _, attribute = _PLACES[name].partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ImportError as error:
        if (error.name or "").startswith("csmkit"):
            raise
        raise MissingDependencyError.for_extra(error.name or "anywidget", "notebook") from error
