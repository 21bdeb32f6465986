"""One turn of the user: its sound, and its text while the sound arrives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from csmkit.asr.streaming import StreamingWhisperASR, TranscriptionStream
from csmkit.asr.transcriber import Transcript
from csmkit.audio import SAMPLE_RATE

_PART = SAMPLE_RATE // 10  # sound goes to the recogniser in parts of 0.1 s: it reads the newest state, not every frame


@dataclass
class UserTurn:
    """A turn of the user, from its first sound until its answer can be heard.

    Attributes:
        number: number of the turn, from 1.
        asr: recognises the user's speech.
        began_s, ended_s: when the speech began and ended, by the conversation's clock; the end is the latest found so
            far.
        breaks_in: whether the voice was speaking when it began.
        n_dropped: answers that were prepared and dropped because the user went on.
    """

    number: int
    asr: StreamingWhisperASR
    began_s: float
    ended_s: float
    breaks_in: bool = False
    n_dropped: int = 0
    _frames: list[np.ndarray] = field(default_factory=list)
    _n_given: int = 0  # frames that the recogniser has
    _stream: TranscriptionStream | None = None
    _shown: str = ""

    def add(self, samples: np.ndarray) -> None:
        """Keep sound, ``(samples,)`` at 24 kHz."""
        self._frames.append(samples)

    def listen(self) -> Transcript | None:
        """Give the recogniser what it has not read yet; the partial text, if it is not the one returned before.

        Returns at once.

        Raises:
            TranscriptionError: the recogniser failed.
        """
        if self._stream is None:
            self._stream = self.asr.stream()
        fresh = self._frames[self._n_given :]
        if sum(map(len, fresh)) >= _PART:
            self._stream.put_audio_chunk(np.concatenate(fresh))
            self._n_given = len(self._frames)
        partial = self._stream.get_latest_partial()
        if partial == self._shown:
            return None
        self._shown = str(partial)
        return partial

    def wait_until_read(self, timeout_s: float) -> bool:
        """Block until the recogniser has read all that it was given; whether it has."""
        return self._stream is not None and self._stream.wait_until_read(timeout_s)

    def sound(self) -> np.ndarray:
        """The whole sound so far, ``(samples,)`` at 24 kHz."""
        return np.concatenate(self._frames) if self._frames else np.zeros(0, np.float32)

    def close(self) -> None:
        """End the recognition of partial texts."""
        if self._stream is not None:
            self._stream.cancel()
