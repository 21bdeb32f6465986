"""The clock of one turn: moments, durations since the call, and the stamps of its events."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from time import perf_counter
from typing import Any


class TurnClock:
    """Tells the time of one turn, which starts when this is made.

    Args:
        seconds: returns the present moment in seconds, never less than before.

    Attributes:
        turn_id: 12 hexadecimal digits that differ from those of any other turn.
        started: moment of the call.
        away_s: seconds that the caller of the turn has spent between two events so far.
    """

    def __init__(self, seconds: Callable[[], float] = perf_counter) -> None:
        self._seconds = seconds
        self.turn_id = uuid.uuid4().hex[:12]
        self.started = seconds()
        self.away_s = 0.0

    def __call__(self) -> float:
        """The present moment in seconds, on the clock that was given."""
        return self._seconds()

    @property
    def since_call_s(self) -> float:
        """Seconds since the call."""
        return self() - self.started

    @property
    def own_s(self) -> float:
        """Seconds since the call without those that the caller spent between two events."""
        return self.since_call_s - self.away_s

    def ms(self, moment: float | None) -> float | None:
        """Milliseconds from the call to a moment; None for None."""
        return None if moment is None else (moment - self.started) * 1000

    def event(self, kind: str, **content: Any) -> Any:
        """An event of the turn at the present moment, see `csmkit.chat.events`."""
        return {"type": kind, "turn_id": self.turn_id, "t": self.since_call_s, **content}
