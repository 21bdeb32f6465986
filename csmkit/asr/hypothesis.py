"""What a recogniser says about a stretch of sound, and what it has to offer to be used here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

RATE_HZ = 16_000  # what Whisper listens at
SHORTEST_S = 0.1  # less sound than this is not decoded: it holds no word, and word times need a few frames


@dataclass(frozen=True)
class Word:
    """One recognised word with its times in seconds from the first sample."""

    text: str
    start_s: float
    end_s: float

    def later(self, seconds: float) -> Word:
        """The same word, said ``seconds`` later."""
        return replace(self, start_s=self.start_s + seconds, end_s=self.end_s + seconds)


@dataclass(frozen=True)
class Hypothesis:
    """A recogniser's reading of some sound; the empty one stands for silence."""

    text: str = ""
    words: tuple[Word, ...] = ()


class Transcriber(Protocol):
    """A speech recogniser; write one to plug in another model."""

    window_s: float
    """The longest sound that one call can take, in seconds."""

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        """Recognise one window; blocks, and is only ever called from one thread.

        Args:
            audio_16k: ``(samples,)`` float32 at 16 kHz, at most ``window_s`` long.
            final: False asks for a quick reading, True for the best one.
        """
        ...
