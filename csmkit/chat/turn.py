"""One turn: the language model writes, each clause is spoken as soon as it is complete, the recogniser transcribes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.audio import WavWriter
from csmkit.chat.answer import AnswerText
from csmkit.chat.audio_output import AudioOutput
from csmkit.chat.conversation import Conversation, user_segments
from csmkit.chat.events import Event, TurnClock
from csmkit.chat.settings import MOST_WORDS, TurnOptions
from csmkit.chat.speaking import ClauseSpeaker
from csmkit.chat.transcription import TurnTranscription
from csmkit.chat.turn_row import TurnRecord, turn_metrics, turn_notes, turn_spans
from csmkit.llm.contract import LLM
from csmkit.speech.base import SpeechGenerator
from csmkit.speech.generator import Segment
from csmkit.speech.long_text import LETTERS_PER_S
from csmkit.speech.streams import END_OF_SPEECH, INTERRUPTED, NOTHING_HEARD
from csmkit.text.clauses import Clause, ClauseSplitter

_JOIN_S = 1.0  # a language model stops within one token; the thread of one that hangs is not waited for longer


@dataclass
class Stage:
    """The models of a turn and its options.

    Attributes:
        generator: generates the speech.
        llm: writes the answer.
        asr: transcribes the answer, and the user's audio; None for no transcription.
        options: how the turn is spoken.
        pace: seconds that a second of speech took in an earlier turn; None before such a turn.
        clock: returns the present time in seconds.
    """

    generator: SpeechGenerator
    llm: LLM
    asr: StreamingWhisperASR | None
    options: TurnOptions
    pace: float | None = None
    clock: Callable[[], float] = perf_counter


class Turn:
    """A turn in progress. One thread reads `events`, and only that thread runs the generator; any may `interrupt`.

    Args:
        stage: models and options.
        conversation: earlier turns; it is not changed.
        user_text: what the user says; empty if ``user_audio`` has to be transcribed first.
        user_audio: sound of the user's turn, ``(samples,)`` at 24 kHz, or None.
        wav: file for the sound of the answer, or None; closed at the end of the turn.

    Attributes:
        user_text: text of the user, as given or as recognised.
        played_ms: milliseconds of the answer that the listener has played; None for all that was delivered.
    """

    def __init__(
        self,
        stage: Stage,
        conversation: Conversation,
        user_text: str,
        user_audio: np.ndarray | None = None,
        wav: WavWriter | None = None,
    ) -> None:
        self.user_text = user_text
        self.played_ms: float | None = None
        self._stage, self._conversation, self._user_audio = stage, conversation, user_audio
        self._stop = threading.Event()
        self._clock = TurnClock(stage.clock)
        self._answer = AnswerText(_splitter(stage), self._clock, stage.options.raw_text)
        self._speaker = ClauseSpeaker(stage.generator, stage.options, conversation, self._clock)
        self._transcription = TurnTranscription(stage.asr, self._clock.turn_id)
        self._output = AudioOutput(stage.options, wav, self._transcription, self._clock, stage.pace)
        self._user_span: tuple[float, float] | None = None
        self._final_at: float | None = None

    @property
    def pace(self) -> float | None:
        """Seconds that a second of speech took; None before there were two chunks."""
        return self._output.made.pace

    def events(self) -> Generator[Event, None, None]:
        """Run the turn and yield its events. When it ends, fails or is closed, everything that it started is stopped.

        Raises:
            LanguageModelError: the language model failed; the cause is its error.
            CsmkitError: the generator failed, or the recogniser while it transcribed the user.
        """
        try:
            with closing(self._events()) as events:
                for event in events:
                    yielded_at = self._clock()
                    yield event
                    self._clock.away_s += self._clock() - yielded_at
        finally:
            self.end()

    def interrupt(self) -> None:
        """Stop the turn, from any thread or a signal handler; `events` ends with ``complete``."""
        self._stop.set()
        self._answer.close()
        self._transcription.cancel()
        self._speaker.stop()

    def end(self) -> None:
        """Stop the language model and the recogniser, and complete the file; may be called again."""
        self._stop.set()
        self._answer.close(_JOIN_S)
        self._transcription.cancel()
        self._output.close()

    def delivered(self) -> tuple[str, list[Segment]]:
        """The delivered text of the answer, and the delivered segments of the turn, the user's first."""
        return self._speaker.delivered(self.played_ms)

    def _events(self) -> Generator[Event, None, None]:
        if self._user_audio is not None and not self.user_text:
            yield from self._recognise_user(self._user_audio)
            if not self.user_text:
                yield self._complete(INTERRUPTED if self._stop.is_set() else NOTHING_HEARD)
                return
        self._speaker.user_segments = user_segments(self.user_text, self._user_audio, self._stage.options)
        self._answer.start(self._stage.llm, self._conversation.messages(self.user_text))
        self._transcription.start()
        yield from self._read_ahead()
        while not self._stop.is_set():
            yield from self._read(0 if self._answer.clauses else self._output.wait_left_s)
            yield from self._deliver()
            if self._answer.clauses:
                yield from self._speak(self._answer.clauses.popleft())
            elif self._answer.complete:
                yield from self._conclude()
                break
        yield self._complete(self._finish_reason())

    def _recognise_user(self, audio: np.ndarray) -> Iterator[Event]:
        started_at = self._clock()
        text = self._transcription.transcribe_user(audio, self._stage.options.asr_timeout_s)
        self._user_span = (started_at, self._clock())
        if text is not None:
            self.user_text = text
            yield self._clock.event("heard", text=text)

    def _read_ahead(self) -> Iterator[Event]:
        """Let the generator read the conversation while the language model writes its first words."""
        for _ in self._speaker.read_ahead():
            yield from self._read(0)
            if self._stop.is_set() or self._answer.clauses:
                break  # the first clause reads the rest

    def _read(self, timeout_s: float | None) -> Iterator[Event]:
        """Yield what the language model wrote; waits up to ``timeout_s`` seconds for it, without a limit for None."""
        if self._answer.complete:
            return
        for piece in self._answer.read(timeout_s):
            yield self._clock.event("llm_delta", text=piece)
            if self._stop.is_set():
                return
        if self._answer.complete:
            yield self._clock.event("llm_response", text=self._answer.text)

    def _speak(self, clause: Clause) -> Iterator[Event]:
        with self._speaker.speaking(clause) as spoken:
            yield self._clock.event("clause", text=clause.written, spoken=clause.spoken)
            for chunk in spoken.speech:
                if self._stop.is_set():
                    break
                self._output.add(spoken, chunk)
                yield from self._deliver()
                yield from self._read(0)

    def _deliver(self) -> Iterator[Event]:
        """Deliver the waiting chunks, once the pre-buffer allows it."""
        while not self._stop.is_set() and self._output.has_due(self._expected_s):
            yield from self._output.deliver()

    @property
    def _expected_s(self) -> float | None:
        """Estimated seconds of the whole answer; None while the language model is writing."""
        if not self._answer.complete:
            return None
        clauses = [*(spoken.clause for spoken in self._speaker.clauses), *self._answer.clauses]
        return sum(len(clause.spoken) for clause in clauses) / LETTERS_PER_S

    def _conclude(self) -> Iterator[Event]:
        """Deliver the waiting chunks, and wait for the final text."""
        self._output.end_prebuffer()
        yield from self._deliver()
        final = self._transcription.conclude(self._stage.options.asr_timeout_s)
        if final is not None:
            self._final_at = self._clock()
            yield self._clock.event("final_text", text=str(final), words=final.words)

    def _finish_reason(self) -> str:
        if self._stop.is_set():
            return INTERRUPTED
        reasons = (spoken.reason for spoken in self._speaker.clauses)
        return next((reason for reason in reasons if reason != END_OF_SPEECH), END_OF_SPEECH)

    def _complete(self, reason: str) -> Event:
        asr, device = self._stage.asr, self._stage.generator.device
        record = TurnRecord(
            self._clock,
            self._answer,
            self._speaker.clauses,
            self._output,
            self._transcription,
            asr_model=None if asr is None else asr.model_name,
            device=device,
            user_span=self._user_span,
            final_at=self._final_at,
        )
        metrics = {"turn_id": self._clock.turn_id, "finish_reason": reason, **turn_metrics(record)}
        event: Event = self._clock.event(
            "complete",
            total_time=self._clock.since_call_s,
            time_to_first_audio=self._output.arrivals.first_s,
            finish_reason=reason,
            metrics=metrics,
            notes=turn_notes(metrics, record.silent_text),
            spans=turn_spans(record),
        )
        return event


def _splitter(stage: Stage) -> ClauseSplitter:
    """A splitter for clauses that fit one generation of the generator."""
    most_words = stage.options.most_words or min(MOST_WORDS, stage.generator.abilities.most_words)
    return ClauseSplitter(min(stage.options.first_words, most_words), most_words)
