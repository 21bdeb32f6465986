"""Delivers the sound of an answer: pre-buffer, WAV file, recogniser, events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from csmkit.audio import FRAME_MS, ONSET_MS, SAMPLE_RATE, WavWriter, audible_windows, first_audible
from csmkit.chat.events import Event, TurnClock
from csmkit.chat.settings import TurnOptions
from csmkit.chat.speaking import SpokenClause
from csmkit.chat.transcription import TurnTranscription
from csmkit.timing import Arrivals, Prebuffer


class AudioOutput:
    """Delivers the chunks of one answer, the first ones after the pre-buffer.

    Args:
        options: options of the turn.
        wav: file that gets every chunk, or None.
        transcription: transcribes every chunk.
        clock: clock of the turn.
        pace: seconds that a second of speech took in an earlier turn; None before such a turn.

    Attributes:
        arrivals: times of the chunks as they were delivered, in seconds since the call.
        made: times of the chunks as they were generated, in seconds of the turn's own time.
        first_made_at: moment when the first chunk was generated; None before.
    """

    def __init__(
        self,
        options: TurnOptions,
        wav: WavWriter | None,
        transcription: TurnTranscription,
        clock: TurnClock,
        pace: float | None = None,
    ) -> None:
        self.arrivals, self.made = Arrivals(), Arrivals()
        self.first_made_at: float | None = None
        self._wav, self._transcription, self._clock = wav, transcription, clock
        longest_s = max(options.schedule) * FRAME_MS / 1000
        self._prebuffer = Prebuffer(options.prebuffer_ms, longest_s, pace)
        self._waiting: deque[tuple[SpokenClause, Tensor]] = deque()
        self._audible: list[np.ndarray] = []  # of the chunks before the first sound
        self._onset: int | None = None  # window of the first sound

    @property
    def onset_s(self) -> float | None:
        """Seconds from the call to the first audible sound for a listener who plays at once; None if all is silent."""
        return None if self._onset is None else self.arrivals.heard_at_s(self._onset * ONSET_MS / 1000)

    @property
    def wait_left_s(self) -> float | None:
        """Seconds until the pre-buffer is over; None where that does not depend on time alone."""
        return self._prebuffer.left_s(self.made, self._clock.own_s)

    def add(self, spoken: SpokenClause, chunk: Tensor) -> None:
        """Add a generated chunk, ``(samples,)`` at 24 kHz."""
        self.first_made_at = self.first_made_at or self._clock()
        self.made.add(self._clock.own_s, len(chunk) / SAMPLE_RATE)
        self._waiting.append((spoken, chunk))

    def end_prebuffer(self) -> None:
        """End the pre-buffer: from now on every chunk is delivered at once."""
        self._prebuffer.begun = True

    def has_due(self, answer_s: float | None) -> bool:
        """Whether a chunk waits and may be delivered now.

        Args:
            answer_s: seconds that the whole answer will last; None while the language model is writing.
        """
        return bool(self._waiting) and self._prebuffer.may_begin(self.made, self._clock.own_s, answer_s)

    def deliver(self) -> Iterator[Event]:
        """Deliver the oldest chunk that waits: to the file, the recogniser and, as an event, to the caller."""
        spoken, chunk = self._waiting.popleft()
        if self._wav is not None:
            self._wav.write(chunk)  # before anything else: a chunk that cannot be written does not count as delivered
        self._transcription.add(chunk)
        event = self._clock.event("audio_chunk", data=chunk, chunk_num=len(self.arrivals) + 1)
        self._note(chunk, event["t"])
        spoken.n_delivered += len(chunk)
        yield event
        partial = self._transcription.changed_partial()
        if partial is not None:
            yield self._clock.event("partial_text", text=partial)

    def close(self) -> None:
        """Complete the file."""
        if self._wav is not None:
            self._wav.close()

    def _note(self, chunk: Tensor, t_s: float) -> None:
        self.arrivals.add(t_s, len(chunk) / SAMPLE_RATE)
        if self._onset is None:
            self._audible.append(audible_windows(chunk.numpy()))
            self._onset = first_audible(np.concatenate(self._audible))
