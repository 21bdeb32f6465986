"""How much of an answer the listener has played: as reported, or estimated from the clock."""

from __future__ import annotations

import numpy as np

from csmkit.audio import SAMPLE_RATE
from csmkit.live.voice_activity import level_dbfs

_LEVEL_STEP_S = 0.032  # how often the level of what is played is looked at


class Playback:
    """The sound of one answer on its way through a loudspeaker.

    Without reports the listener is taken to play each chunk as soon as it is there and the ones before it have ended.
    A report sets the position; from there on the clock goes on.
    """

    def __init__(self) -> None:
        self._chunks: list[np.ndarray] = []
        self._n_sound = 0  # samples in all
        self._from_s = 0.0  # the clock when `_from_sample` was played
        self._from_sample = 0
        self._stopped = False

    @property
    def sound_ms(self) -> float:
        """Milliseconds of sound that were handed out."""
        return self._n_sound / SAMPLE_RATE * 1000

    def add(self, chunk: np.ndarray, now_s: float) -> None:
        """Hand out ``(samples,)`` at 24 kHz."""
        if self._played(now_s) >= self._n_sound:  # the listener waits for it
            self._from_sample, self._from_s = self._n_sound, max(now_s, self._from_s)
        self._chunks.append(chunk)
        self._n_sound += len(chunk)

    def report(self, played_ms: float, now_s: float) -> None:
        """Set the position that the listener reports."""
        if not self._stopped:
            self._from_sample = min(self._n_sound, max(0, round(played_ms / 1000 * SAMPLE_RATE)))
            self._from_s = now_s

    def stop(self, played_ms: float) -> None:
        """End the playback at a position."""
        self._from_sample = min(self._n_sound, max(0, round(played_ms / 1000 * SAMPLE_RATE)))
        self._stopped = True

    def played_ms(self, now_s: float) -> float:
        """Milliseconds of the answer that were played."""
        return self._played(now_s) / SAMPLE_RATE * 1000

    def level_dbfs(self, now_s: float) -> float:
        """The level of what was played in the last 32 ms; -120 for silence."""
        last = self._played(now_s)
        first = max(0, last - round(_LEVEL_STEP_S * SAMPLE_RATE))
        return -120.0 if self._stopped else level_dbfs(self._cut(first, last))

    def _played(self, now_s: float) -> int:
        if self._stopped:
            return self._from_sample
        return min(self._n_sound, self._from_sample + max(0, round((now_s - self._from_s) * SAMPLE_RATE)))

    def _cut(self, first: int, last: int) -> np.ndarray:
        found, start = [np.zeros(0, np.float32)], self._n_sound
        for chunk in reversed(self._chunks):
            start -= len(chunk)
            if start < last:
                found.append(chunk[max(0, first - start) : last - start])
            if start <= first:
                break
        return np.concatenate(found[::-1])
