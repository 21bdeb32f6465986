"""One clause on its way from the voice to the listener."""

from __future__ import annotations

import math
from dataclasses import dataclass

from csmkit.audio import FRAME_RATE, FRAME_SAMPLES, SAMPLE_RATE
from csmkit.speech.settings import Segment
from csmkit.speech.streams import INTERRUPTED, REPETITION, SpeechStream
from csmkit.text.clauses import Clause, spoken_part

LETTERS_PER_S = 14.0  # of ordinary speech; says how much of a broken-off clause was heard, and how long text will take


@dataclass
class Delivery:
    """A clause that the voice speaks.

    Attributes:
        clause: its text.
        speech: its sound being made.
        started_at, ended_at: when the voice began and ended, by the turn's clock.
        n_heard: samples that were handed out.
    """

    clause: Clause
    speech: SpeechStream
    started_at: float
    ended_at: float | None = None
    n_heard: int = 0

    @property
    def reason(self) -> str:
        """Why it ended."""
        return self.speech.finish_reason or INTERRUPTED

    @property
    def is_silent(self) -> bool:
        """Whether it was spoken to its end without a sound."""
        return self.ended_at is not None and self.reason != INTERRUPTED and not self.speech.has_spoken

    def heard(self, speaker: int, n_played: float = math.inf) -> tuple[str, Segment | None]:
        """What reached the listener: its text, and the segment that the voice goes on from, if it should.

        Args:
            speaker: of the segment.
            n_played: samples that the listener played, where those are fewer than were handed out.
        """
        return self._part(int(min(self.n_heard, n_played)), speaker)

    def made(self, speaker: int) -> Segment | None:
        """The segment of all that was made, heard or not yet."""
        return self._part(self._n_made, speaker)[1]

    @property
    def _n_made(self) -> int:
        """Samples of all frames, also of a chunk that an interruption has swallowed."""
        return self.speech.n_frames * FRAME_SAMPLES

    def _part(self, n_samples: int, speaker: int) -> tuple[str, Segment | None]:
        """The first samples as text and as segment: all words, those that the sound had room for, or none.

        The conversation goes on with what was written, the voice with what it said.
        """
        audio_s = n_samples / SAMPLE_RATE
        share = n_samples / self._n_made if self._n_made else 0.0
        if self.reason == INTERRUPTED:
            share = min(1.0, audio_s * LETTERS_PER_S / len(self.clause.spoken))
        written, spoken = (spoken_part(text, share) for text in (self.clause.written, self.clause.spoken))
        if not (written and spoken and n_samples and self.speech.has_spoken):
            return "", None
        if self.reason == REPETITION:  # a voice that hears itself stuck gets stuck again
            return written, None
        codes = self.speech.codes[:, : round(audio_s * FRAME_RATE)]  # a broken-off chunk was made, but not heard
        return written, Segment(speaker, spoken, codes=codes)
