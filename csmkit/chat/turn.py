"""One turn: the language model writes, the voice speaks clause by clause, the recogniser listens."""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from csmkit.asr.worker import StreamingWhisperASR
from csmkit.audio import FRAME_RATE, SAMPLE_RATE, WavWriter
from csmkit.chat.ahead import ReadAhead
from csmkit.chat.clauses import Clause, ClauseSplitter, spoken_part
from csmkit.chat.events import Event
from csmkit.chat.listener import Listener
from csmkit.chat.llm import LLM, Message
from csmkit.chat.measure import Measured, turn_metrics
from csmkit.chat.options import TurnOptions
from csmkit.generator import Segment
from csmkit.reasons import END_OF_SPEECH, INTERRUPTED, NOTHING_HEARD, REPETITION

if TYPE_CHECKING:
    from torch import Tensor

    from csmkit.speech import SpeechGenerator
    from csmkit.streams import SpeechStream

LETTERS_PER_S = 14.0  # of ordinary speech; says how much of a broken-off clause was heard
_JOIN_S = 5.0  # a language model ends within one token; one that hangs is left behind


@dataclass
class Stage:
    """The parts that take a turn, and the way they do it."""

    generator: SpeechGenerator
    llm: LLM
    asr: StreamingWhisperASR | None
    options: TurnOptions


@dataclass
class Spoken:
    """What the listener heard of a turn."""

    clauses: list[str] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(self.clauses)


class Turn:
    """A turn in progress. `events` runs on one thread, the only one that touches the voice; `interrupt` on any.

    Args:
        stage: who takes part.
        messages: the conversation, the user's new message last.
        context: segments before this turn.
        wav: where the sound is kept, or None; closed at the end.
        heard: what the user was heard to say, told first; None where it was typed.
        started: when the call was made; None for now.
    """

    def __init__(
        self,
        stage: Stage,
        messages: Sequence[Message],
        context: Sequence[Segment],
        wav: WavWriter | None,
        heard: str | None = None,
        started: float | None = None,
    ) -> None:
        self.turn_id = uuid.uuid4().hex[:12]
        self.spoken = Spoken()
        self.measured = Measured(started=perf_counter() if started is None else started)
        self._heard = heard
        self._stage = stage
        self._messages = list(messages)
        self._context = list(context)
        self._wav = wav
        self._stop = threading.Event()
        self._splitter = ClauseSplitter(stage.options.first_words, stage.options.most_words)
        self._clauses: deque[Clause] = deque()
        self._answer: list[str] = []
        self._answered = False
        self._listener = Listener(stage.asr, self.turn_id)
        self._ahead: ReadAhead | None = None
        self._speech: SpeechStream | None = None
        self._reader: int | None = None

    def events(self) -> Generator[Event, None, None]:
        """The events of the turn. However it is left, everything it started is stopped.

        Raises:
            LanguageModelError: the language model failed; the cause is its error.
            CsmkitError: the voice failed.
        """
        self._reader = threading.get_ident()
        try:
            yield from self._events()
        finally:
            self.end()

    def interrupt(self) -> None:
        """Stop the language model, the voice and the recogniser; `events` ends with ``complete``. From any thread."""
        self._stop.set()
        if self._ahead is not None:
            self._ahead.close()
        self._listener.cancel()
        speech = self._speech
        if speech is not None and threading.get_ident() != self._reader:
            speech.close()

    def end(self) -> None:
        """Let go of everything; may be called again."""
        self._stop.set()
        if self._ahead is not None:
            self._ahead.close(_JOIN_S)
        self._listener.cancel()
        if self._wav is not None:
            self._wav.close()

    def _events(self) -> Iterator[Event]:
        if self._heard is not None:
            yield self._event("heard", text=self._heard)
        if self._heard == "":
            yield self._complete(NOTHING_HEARD, {})
            return
        self._ahead = ReadAhead(lambda: self._stage.llm.stream(self._messages))
        self._listener.start()
        while not self._stop.is_set():
            yield from self._read(wait=not self._clauses)
            if self._clauses:
                yield from self._speak(self._clauses.popleft())
            elif self._answered:
                final = self._listener.conclude(self._stage.options.asr_timeout_s)
                if final is not None:
                    self.measured.final_at = perf_counter()
                    yield self._event("final_text", text=final)
                break
        yield self._complete(self._finish_reason(), turn_metrics(self.measured, self._ahead, self._listener))

    def _complete(self, reason: str, metrics: dict[str, Any]) -> Event:
        return self._event(
            "complete",
            total_time=perf_counter() - self.measured.started,
            time_to_first_audio=self.measured.arrivals.first_s,
            finish_reason=reason,
            metrics={"turn_id": self.turn_id, "finish_reason": reason, **metrics},
        )

    def _read(self, *, wait: bool) -> Iterator[Event]:
        """Pass on what the language model wrote; with ``wait``, at least something, unless it is done."""
        if self._answered or self._ahead is None:
            return
        for piece in self._ahead.take(wait=wait):
            self._answer.append(piece)
            self._clauses.extend(self._splitter.push(piece))
            yield self._event("llm_delta", text=piece)
        done = self._ahead.over and not self._stop.is_set()
        if done:
            self._answered = True
            self._clauses.extend(self._splitter.flush())
        if self._clauses and self.measured.first_clause_at is None:
            self.measured.first_clause_at = perf_counter()
        if done:
            yield self._event("llm_response", text="".join(self._answer).strip())

    def _speak(self, clause: Clause) -> Iterator[Event]:
        n_samples = 0
        self._speech = speech = self._start_speech(clause.spoken)
        self.measured.n_clauses += 1
        try:
            yield self._event("clause", text=clause.written, spoken=clause.spoken)
            for chunk in speech:
                if self._stop.is_set():
                    break
                n_samples += len(chunk)
                yield from self._hand_out(chunk)
                yield from self._read(wait=False)
        finally:
            speech.close()
            self._speech = None
            self._remember(clause, n_samples / SAMPLE_RATE, speech)

    def _start_speech(self, clause: str) -> SpeechStream:
        options, generator = self._stage.options, self._stage.generator
        seed = None if options.seed is None else options.seed + self.measured.n_clauses
        asked: dict[str, Any] = {
            "max_audio_length_ms": options.max_audio_length_ms,
            "temperature": options.temperature,
            "topk": options.topk,
            "seed": seed,
            "guards": options.guards,
        }
        said = self.spoken.segments if options.context_turns else []
        context: Sequence[Segment] = [*self._context, *said]
        if context:
            request = generator.request(clause, options.speaker, context, **asked)
            context = generator.fit(request, n_lead=len(options.voice)).context
        return generator.generate_streaming(
            clause, options.speaker, context, chunk_frames=options.chunk_frames, **asked
        )

    def _hand_out(self, chunk: Tensor) -> Iterator[Event]:
        self.measured.arrivals.add(perf_counter() - self.measured.started, len(chunk) / SAMPLE_RATE)
        if self._wav is not None:
            self._wav.write(chunk)
        self._listener.hear(chunk)
        yield self._event("audio_chunk", data=chunk, chunk_num=len(self.measured.arrivals))
        partial = self._listener.news()
        if partial is not None:
            yield self._event("partial_text", text=partial)

    def _remember(self, clause: Clause, audio_s: float, speech: SpeechStream) -> None:
        """Note what was heard of a clause: all of it, the words that its sound had room for, or nothing.

        The conversation goes on with what was written, the voice with what it said.
        """
        reason = speech.finish_reason or INTERRUPTED
        self.spoken.reasons.append(reason)
        share = min(1.0, audio_s * LETTERS_PER_S / len(clause.spoken)) if reason == INTERRUPTED else 1.0
        written, spoken = (spoken_part(text, share) for text in (clause.written, clause.spoken))
        if not (written and spoken and audio_s and speech.has_spoken):
            return
        self.spoken.clauses.append(written)
        if reason != REPETITION:  # a voice that hears itself stuck gets stuck again
            codes = speech.codes[:, : round(audio_s * FRAME_RATE)]  # a broken-off chunk was made, but not heard
            self.spoken.segments.append(Segment(self._stage.options.speaker, spoken, codes=codes))

    def _finish_reason(self) -> str:
        if self._stop.is_set():
            return INTERRUPTED
        return next((reason for reason in self.spoken.reasons if reason != END_OF_SPEECH), END_OF_SPEECH)

    def _event(self, kind: str, **content: Any) -> Any:
        return {"type": kind, "turn_id": self.turn_id, "t": perf_counter() - self.measured.started, **content}
