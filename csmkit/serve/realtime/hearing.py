"""The user's sound: the bounds of turns, and the recognition of each turn."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from csmkit.asr.streaming import StreamingWhisperASR, TranscriptionStream
from csmkit.audio import SAMPLE_RATE
from csmkit.live.turn_detector import TurnChange, TurnDetection, TurnDetector
from csmkit.live.voice_activity import VoiceActivity
from csmkit.serve.errors import RequestError
from csmkit.serve.transcriptions import new_words


@dataclass
class SpokenTurn:
    """A turn that the user is speaking.

    Attributes:
        stream: recognises the turn while its sound arrives.
        pieces: sound of the turn, ``(samples,)`` at 24 kHz.
    """

    stream: TranscriptionStream
    pieces: list[np.ndarray] = field(default_factory=list)
    _sent: str = ""

    @property
    def n_samples(self) -> int:
        """Number of samples so far."""
        return sum(map(len, self.pieces))

    def put(self, samples: np.ndarray) -> None:
        """Add sound, ``(samples,)`` at 24 kHz."""
        self.pieces.append(samples)
        self.stream.put_audio_chunk(samples)

    def sound(self) -> np.ndarray:
        """The whole sound so far, ``(samples,)`` at 24 kHz."""
        return np.concatenate([np.zeros(0, np.float32), *self.pieces])

    def new_words(self) -> str:
        """Words that are certain and were not sent yet; raises TranscriptionError."""
        fresh = new_words(self.stream.get_latest_partial(), self._sent)
        self._sent += fresh
        return fresh


class Hearing:
    """The input buffer of a conversation: finds the turns in its sound.

    Args:
        asr: recognises the turns.
        detection: how turns are found; None where the client commits its sound itself.
        most_s: seconds of sound of one turn.
        activity: rates windows for the detector; None loads Silero.

    Attributes:
        turn: the turn that is being spoken, or None.
    """

    def __init__(
        self,
        asr: StreamingWhisperASR,
        detection: TurnDetection | None,
        most_s: float,
        activity: VoiceActivity | None = None,
    ) -> None:
        self._asr, self._most_samples = asr, int(most_s * SAMPLE_RATE)
        self._activity = activity
        self._detector: TurnDetector | None = None
        self.turn: SpokenTurn | None = None
        self.detect(detection)

    def detect(self, detection: TurnDetection | None) -> None:
        """Change how turns are found."""
        if detection is None:
            self._detector = None
        elif self._detector is None:
            self._detector = TurnDetector(detection, self._activity)
        else:
            self._detector.detection = detection

    def voice_level(self, level_dbfs: float | None) -> None:
        """Set how loud the voice plays, so that its echo is not taken for the user; None while it is silent."""
        if self._detector is not None:
            self._detector.voice_level_dbfs = level_dbfs

    def put(self, samples: np.ndarray) -> list[TurnChange]:
        """Add ``(samples,)`` float32; returns the beginnings and ends of turns that were found in them.

        Raises:
            RequestError: the turn is too long.
        """
        if self._detector is None:
            self._put_uncut(samples)
            return []
        changes = [
            change for change in self._detector.put(samples) if change.kind in ("speech_started", "speech_stopped")
        ]
        for change in changes:
            if change.kind == "speech_started":
                self.turn = SpokenTurn(self._asr.stream())
                self.turn.put(self._detector.sound())
        if not changes and self.turn is not None:
            self.turn.put(samples)
        return changes

    def _put_uncut(self, samples: np.ndarray) -> None:
        if self.turn is None:
            self.turn = SpokenTurn(self._asr.stream())
        if self.turn.n_samples + len(samples) > self._most_samples:
            seconds = self._most_samples / SAMPLE_RATE
            raise RequestError(422, f"a turn of more than {seconds:g} s: commit or clear it first", "buffer_full")
        self.turn.put(samples)

    def take(self) -> SpokenTurn | None:
        """End the turn and return it; None without one."""
        turn, self.turn = self.turn, None
        return turn

    def clear(self) -> None:
        """Discard the turn so far."""
        turn = self.take()
        if turn is not None:
            turn.stream.cancel()
        if self._detector is not None:
            self._detector.reset()
