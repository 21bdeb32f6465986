"""How loud the voice's own sound comes back through the microphone, and what is louder than that."""

from __future__ import annotations

from collections import deque

import numpy as np

QUIET_DBFS = -55.0  # the echo of quieter sound is ignored
_DELAY_WINDOWS = 16  # of 32 ms: an echo comes back within half a second of what the listener reports as played
_KNOWN_WINDOWS = 5  # measurements that a coupling needs
_MEMORY_WINDOWS = 120  # of them, the newest that count: about four seconds of echo, or of noise
_ASSUMED_DB = -6.0  # coupling as long as none was measured: a loud speaker beside the microphone
_LOUD_DB = 6.0  # windows this far below the loudest one played still measure the coupling
_LEAST_ECHO = 0.5  # power of the echo, as a share of the noise's: a weaker echo cannot be told from noise


class EchoLevel:
    """Estimates the level of the echo from what is being played.

    The coupling is the level of the echo at the microphone minus the level that is played, in dB: the 95th percentile
    over the newest windows in which the voice is loud and nobody was found to speak over it. The power of the room's
    noise, measured while the voice is silent, is subtracted first. The coupling outlives an answer: loudspeaker and
    microphone rarely move.
    """

    def __init__(self) -> None:
        self._played: deque[float] = deque([-120.0] * _DELAY_WINDOWS, maxlen=_DELAY_WINDOWS)
        self._noise: deque[float] = deque(maxlen=_MEMORY_WINDOWS)  # dBFS
        self._measured: deque[tuple[float, float]] = deque(maxlen=_MEMORY_WINDOWS)  # dBFS played, dBFS of its echo

    @property
    def coupling_db(self) -> float:
        """Level of the echo minus level played; assumed to be high before it is known."""
        if len(self._measured) < _KNOWN_WINDOWS:
            return _ASSUMED_DB
        played, echo = np.asarray(self._measured).T
        loud = played >= min(played.max() - _LOUD_DB, np.sort(played)[-_KNOWN_WINDOWS])
        return float(np.percentile((echo - played)[loud], 95))

    def expected_dbfs(self) -> float:
        """The level that an echo may have now; -120 where nothing was played in the last half second."""
        loudest = max(self._played)
        return loudest + self.coupling_db if loudest > QUIET_DBFS else -120.0

    def add(self, played_dbfs: float, heard_dbfs: float, *, by_user: bool) -> None:
        """Note a window of 32 ms.

        Args:
            played_dbfs: level of the voice's sound that was played meanwhile.
            heard_dbfs: level at the microphone.
            by_user: whether the user speaks in it; such a window says nothing about echo or noise.
        """
        self._played.append(played_dbfs)
        loudest = max(self._played)
        if by_user:
            return
        if loudest > QUIET_DBFS:
            self._measured.append((loudest, self._without_noise(heard_dbfs)))
        else:
            self._noise.append(heard_dbfs)

    def _without_noise(self, heard_dbfs: float) -> float:
        """The level of the echo in what was heard."""
        noise = 10 ** (float(np.median(self._noise)) / 10) if self._noise else 0.0
        return 10 * float(np.log10(max(10 ** (heard_dbfs / 10) - noise, _LEAST_ECHO * noise, 1e-12)))
