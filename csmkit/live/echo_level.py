"""How loud the voice's own sound comes back through the microphone, and what is louder than that."""

from __future__ import annotations

from collections import deque

import numpy as np

QUIET_DBFS = -55.0  # sound of the voice below this makes no echo worth a thought
_DELAY_WINDOWS = 16  # of 32 ms: an echo comes back within half a second of what the listener reports as played
_KNOWN_WINDOWS = 5  # measurements that a coupling needs
_MEMORY_WINDOWS = 120  # of them, the newest that count: about four seconds of echo
_ASSUMED_DB = -6.0  # coupling as long as none was measured: a loud speaker beside the microphone


class EchoLevel:
    """Estimates the level of the echo from what is being played.

    The coupling is the level at the microphone minus the level that is played, in dB, the 95th percentile over the
    newest windows in which the voice sounds and nobody was found to speak over it. It outlives an answer: loudspeaker
    and microphone rarely move.
    """

    def __init__(self) -> None:
        self._played: deque[float] = deque([-120.0] * _DELAY_WINDOWS, maxlen=_DELAY_WINDOWS)
        self._measured: deque[float] = deque(maxlen=_MEMORY_WINDOWS)

    @property
    def coupling_db(self) -> float:
        """Level at the microphone minus level played; assumed to be high before it is known."""
        if len(self._measured) < _KNOWN_WINDOWS:
            return _ASSUMED_DB
        return float(np.percentile(self._measured, 95))

    def expected_dbfs(self) -> float:
        """The level that an echo may have now; -120 where nothing was played in the last half second."""
        loudest = max(self._played)
        return loudest + self.coupling_db if loudest > QUIET_DBFS else -120.0

    def add(self, played_dbfs: float, heard_dbfs: float, *, by_user: bool) -> None:
        """Note a window of 32 ms.

        Args:
            played_dbfs: level of the voice's sound that was played meanwhile.
            heard_dbfs: level at the microphone.
            by_user: whether the user speaks in it; such a window says nothing about the echo.
        """
        self._played.append(played_dbfs)
        loudest = max(self._played)
        if loudest > QUIET_DBFS and not by_user:
            self._measured.append(heard_dbfs - loudest)
