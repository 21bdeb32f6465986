"""Speaks the clauses of an answer: one generation for each, with earlier speech as its context."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from csmkit.audio import FRAME_RATE, FRAME_SAMPLES, SAMPLE_RATE
from csmkit.chat.conversation import Conversation
from csmkit.chat.events import TurnClock
from csmkit.chat.settings import TurnOptions
from csmkit.speech.base import SpeechGenerator
from csmkit.speech.long_text import LETTERS_PER_S
from csmkit.speech.settings import Request, Segment, SpeechSettings
from csmkit.speech.streams import INTERRUPTED, REPETITION, SpeechStream
from csmkit.text.clauses import Clause, spoken_part

_SPEECH_SETTINGS = [field.name for field in fields(SpeechSettings)]


@dataclass
class SpokenClause:
    """A clause and its speech.

    Attributes:
        clause: text of the clause.
        speech: stream of the sound.
        started_at: time when the generation began.
        ended_at: time when the generation ended; None before.
        n_delivered: number of samples that were given to the caller of the turn.
    """

    clause: Clause
    speech: SpeechStream
    started_at: float
    ended_at: float | None = None
    n_delivered: int = 0

    @property
    def reason(self) -> str:
        """Why the speech ended, one of the reasons in `csmkit.speech.streams`."""
        return self.speech.finish_reason or INTERRUPTED

    @property
    def is_silent(self) -> bool:
        """Whether it was spoken to its end and is silent."""
        return self.ended_at is not None and self.reason != INTERRUPTED and not self.speech.has_spoken

    def delivered(self, speaker: int, n_played: float = math.inf) -> tuple[str, Segment | None]:
        """The delivered part: its words, and its segment for the context of later speech, or None without one.

        Args:
            speaker: speaker of the segment.
            n_played: number of samples that the listener has played, if that is fewer than were delivered.
        """
        return self._beginning(int(min(self.n_delivered, n_played)), speaker)

    def generated(self, speaker: int) -> Segment | None:
        """A segment of everything that was generated, delivered or not."""
        return self._beginning(self._n_generated, speaker)[1]

    @property
    def _n_generated(self) -> int:
        """Number of samples of all frames, including a chunk that was dropped by an interruption."""
        return self.speech.n_frames * FRAME_SAMPLES

    def _beginning(self, n_samples: int, speaker: int) -> tuple[str, Segment | None]:
        """The first samples as text and as a segment: all words, those that fit into the samples, or none.

        The text is the written one, for the history; the segment has the words that were spoken.
        """
        audio_s = n_samples / SAMPLE_RATE
        share = n_samples / self._n_generated if self._n_generated else 0.0
        if self.reason == INTERRUPTED:
            share = min(1.0, audio_s * LETTERS_PER_S / len(self.clause.spoken))
        written, spoken = (spoken_part(text, share) for text in (self.clause.written, self.clause.spoken))
        if not (written and spoken and n_samples and self.speech.has_spoken):
            return "", None
        if self.reason == REPETITION:  # as context it would make the model repeat itself again
            return written, None
        codes = self.speech.codes[:, : round(audio_s * FRAME_RATE)]  # without frames that were not delivered
        return written, Segment(speaker, spoken, codes=codes)


class ClauseSpeaker:
    """Speaks the clauses of one answer, one after another.

    Args:
        generator: generates the speech.
        options: options of the turn.
        conversation: earlier turns; their segments are context.
        clock: clock of the turn.

    Attributes:
        clauses: the clauses that were begun, in order.
        user_segments: the user's turn as context; empty before it is known.
    """

    def __init__(
        self, generator: SpeechGenerator, options: TurnOptions, conversation: Conversation, clock: TurnClock
    ) -> None:
        self.clauses: list[SpokenClause] = []
        self.user_segments: list[Segment] = []
        self._generator, self._options, self._conversation, self._clock = generator, options, conversation, clock
        self._stopped = False
        self._speech: SpeechStream | None = None
        self._thread: int | None = None  # reads the speech

    @contextmanager
    def speaking(self, clause: Clause) -> Iterator[SpokenClause]:
        """Start the speech of a clause for a ``with`` block, which reads it; its end closes the speech."""
        self._thread = threading.get_ident()
        started_at = self._clock()
        self._speech = speech = self._start(clause.spoken)
        spoken = SpokenClause(clause, speech, started_at)
        self.clauses.append(spoken)
        if self._stopped:  # `stop` may have been called before there was speech
            speech.stop_soon()
        try:
            yield spoken
        finally:
            speech.close()
            self._speech = None
            spoken.ended_at = self._clock()

    def read_ahead(self) -> Iterator[None]:
        """Let the generator read the context of the first clause before its text is known; yields after each piece."""
        shortest = self._request("yes")  # a longer one may find less room, and then reads the rest again
        return self._generator.read_ahead(self._context(shortest))

    def stop(self) -> None:
        """End the speech within the present frame, and any later speech at once; from any thread or signal handler."""
        self._stopped = True
        speech = self._speech
        if speech is None:
            return
        if threading.get_ident() == self._thread:  # in a signal handler, where close() is not possible
            speech.stop_soon()
        else:
            speech.close()

    def delivered(self, played_ms: float | None) -> tuple[str, list[Segment]]:
        """The delivered text of the answer, and the delivered segments of the turn, the user's first.

        Args:
            played_ms: milliseconds of the answer that the listener has played; None for all that was delivered.
        """
        parts = []
        n_left = math.inf if played_ms is None else round(played_ms / 1000 * SAMPLE_RATE)
        for spoken in self.clauses:
            parts.append(spoken.delivered(self._options.speaker, n_left))
            n_left = max(0, n_left - spoken.n_delivered)
        text = " ".join(text for text, _ in parts if text)
        return text, [*self.user_segments, *(segment for _, segment in parts if segment is not None)]

    def _start(self, text: str) -> SpeechStream:
        request = self._request(text)
        request = replace(request, context=tuple(self._context(request)))
        return self._generator.speak(request, self._options.schedule)

    def _request(self, text: str) -> Request:
        """A request for a clause, without its context."""
        settings = {name: getattr(self._options, name) for name in _SPEECH_SETTINGS}
        if self._options.seed is not None:
            settings["seed"] = self._options.seed + len(self.clauses)
        return self._generator.request(text, **settings)

    def _context(self, request: Request) -> list[Segment]:
        """The context of a clause: the speaker prompt, earlier turns, the user's turn, the clauses before it.

        If that does not fit, the oldest third after the speaker prompt is left out at once, so that the beginning of
        the context stays the same for some turns and the generator need not read it again.
        """
        options, n_turns = self._options, self._options.context_turns
        lead, earlier, present = list(options.voice), self._conversation.earlier(n_turns), list[Segment]()
        if n_turns:
            answer = [spoken.generated(options.speaker) for spoken in self.clauses]
            present = [*self.user_segments, *(segment for segment in answer if segment is not None)]
        context = [*lead, *earlier, *present]
        if not context:
            return []
        fitting = self._generator.fit(replace(request, context=tuple(context)), n_lead=len(lead)).context
        if len(fitting) == len(context):
            return context
        n_kept = len(fitting) - len(lead)
        n_kept -= n_kept // 3
        n_left_out = len(earlier) + len(present) - n_kept
        self._conversation.leave_out(n_turns, min(n_left_out, len(earlier)))
        return [*lead, *[*earlier, *present][n_left_out:]]
