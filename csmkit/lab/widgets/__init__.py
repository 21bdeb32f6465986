"""What a notebook shows beside its text: a player that sounds while the speech is still being made, and a studio.

Needs the extra ``notebook``::

    from csmkit.lab.widgets import Player, Studio

    player = Player()
    player.play(generator.generate_streaming("Hello there."))

    Studio("pocket")  # type, choose, hear, compare, keep
"""

from csmkit.errors import MissingDependencyError

try:
    import anywidget  # noqa: F401 - asked for here, so that the error names the extra that brings it
except ImportError as error:
    raise MissingDependencyError.for_extra(error.name or "anywidget", "notebook") from error

from csmkit.lab.widgets.player import Player
from csmkit.lab.widgets.studio import Studio

__all__ = ["Player", "Studio"]
