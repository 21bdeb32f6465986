"""One turn: the language model writes, the voice speaks clause by clause, the recogniser listens."""

from __future__ import annotations

import math
import threading
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.audio import FRAME_MS, SAMPLE_RATE, WavWriter
from csmkit.chat.conversation import Conversation, by_user
from csmkit.chat.events import Event
from csmkit.chat.listening import Listener
from csmkit.chat.settings import MOST_WORDS, TurnOptions
from csmkit.chat.spoken_clause import LETTERS_PER_S, Delivery
from csmkit.chat.turn_row import Measured, Sources, turn_metrics, turn_notes, turn_spans
from csmkit.llm.reader_thread import ReadAhead
from csmkit.llm.transformers import LLM
from csmkit.speech.generator import Segment
from csmkit.speech.streams import END_OF_SPEECH, INTERRUPTED, NOTHING_HEARD, chunk_schedule
from csmkit.text.clauses import Clause, ClauseSplitter
from csmkit.timing import Prebuffer

if TYPE_CHECKING:
    from torch import Tensor

    from csmkit.speech.base import SpeechGenerator
    from csmkit.speech.settings import Request
    from csmkit.speech.streams import SpeechStream

_JOIN_S = 1.0  # a language model ends within one token; one that hangs is left behind


@dataclass
class Stage:
    """The parts that take a turn, and the way they do it; ``pace`` is that of speech made before, if any was,
    and ``clock`` tells seconds."""

    generator: SpeechGenerator
    llm: LLM
    asr: StreamingWhisperASR | None
    options: TurnOptions
    pace: float | None = None
    clock: Callable[[], float] = perf_counter


class Turn:
    """A turn in progress. `events` runs on one thread, the only one that touches the voice; `interrupt` on any.

    Args:
        stage: who takes part.
        conversation: what was said before; read, not changed.
        said: what the user says, as text or as sound, ``(samples,)`` at 24 kHz.
        wav: where the sound is kept, or None; closed at the end.
        sound: of a text that was spoken and recognised already, ``(samples,)`` at 24 kHz, or None.

    Attributes:
        turn_id: unlike that of any other turn.
        user_text: what the user said; empty before a sound was heard.
        measured: what was noted so far.
        played_ms: milliseconds of the answer that its listener played, where that is less than was handed out; None
            for all that was handed out.
    """

    def __init__(
        self,
        stage: Stage,
        conversation: Conversation,
        said: str | np.ndarray,
        wav: WavWriter | None,
        sound: np.ndarray | None = None,
    ) -> None:
        self.turn_id = uuid.uuid4().hex[:12]
        self._clock = stage.clock
        self.measured = Measured(stage.clock(), stage.clock)
        self.user_text = said if isinstance(said, str) else ""
        self.played_ms: float | None = None
        self._sound = sound if isinstance(said, str) else said
        self._by_user: list[Segment] = []
        self._stage, self._conversation, self._wav = stage, conversation, wav
        self._stop = threading.Event()
        most_words = stage.options.most_words or min(MOST_WORDS, stage.generator.abilities.most_words)
        self._splitter = ClauseSplitter(min(stage.options.first_words, most_words), most_words)
        self._clauses: deque[Clause] = deque()
        self._answer: list[str] = []
        self._answered = False
        longest_s = max(chunk_schedule(stage.options.chunk_frames)) * FRAME_MS / 1000
        self._prebuffer = Prebuffer(stage.options.prebuffer_ms, longest_s, stage.pace)
        self._held: deque[tuple[Delivery, Tensor]] = deque()  # chunks that were made and not handed out yet
        self._listener = Listener(stage.asr, self.turn_id)
        self._ahead: ReadAhead | None = None
        self._speech: SpeechStream | None = None
        self._reader: int | None = None

    def events(self) -> Generator[Event, None, None]:
        """The events of the turn. However it is left, everything it started is stopped.

        Raises:
            LanguageModelError: the language model failed; the cause is its error.
            CsmkitError: the voice failed, or the recogniser while it heard the user.
        """
        self._reader = threading.get_ident()
        try:
            with closing(self._events()) as events:
                for event in events:
                    given = self._clock()
                    yield event
                    self.measured.away_s += self._clock() - given
        finally:
            self.end()

    def interrupt(self) -> None:
        """Stop whatever the turn does; `events` ends with ``complete``. From any thread, and in a signal handler."""
        self._stop.set()
        if self._ahead is not None:
            self._ahead.close()
        self._listener.cancel()
        speech = self._speech
        if speech is not None:
            if threading.get_ident() == self._reader:  # perhaps within a frame, which cannot be closed from inside
                speech.stop_soon()
            else:
                speech.close()

    def end(self) -> None:
        """Let go of everything; may be called again."""
        self._stop.set()
        if self._ahead is not None:
            self._ahead.close(_JOIN_S)
        self._listener.cancel()
        if self._wav is not None:
            self._wav.close()

    def heard(self) -> tuple[str, list[Segment]]:
        """What the listener heard of the answer: its text, and the segments of the turn, the user's first."""
        heard = []
        n_left = math.inf if self.played_ms is None else round(self.played_ms / 1000 * SAMPLE_RATE)
        for delivery in self.measured.deliveries:
            heard.append(delivery.heard(self._stage.options.speaker, n_left))
            n_left = max(0, n_left - delivery.n_heard)
        text = " ".join(text for text, _ in heard if text)
        return text, [*self._by_user, *(segment for _, segment in heard if segment is not None)]

    def _events(self) -> Generator[Event, None, None]:
        if self._sound is not None and not self.user_text:
            yield from self._hear_user(self._sound)
            if not self.user_text:
                yield self._complete(INTERRUPTED if self._stop.is_set() else NOTHING_HEARD)
                return
        self._by_user = by_user(self.user_text, self._sound, self._stage.options.user_speaker)
        messages = self._conversation.messages(self.user_text)
        self._ahead = ReadAhead(lambda: self._stage.llm.stream(messages), clock=self._clock)
        self._listener.start()
        while not self._stop.is_set():
            yield from self._read(0 if self._clauses else self._prebuffer.left_s(self.measured.made, self._own_s))
            yield from self._release()
            if self._clauses:
                yield from self._speak(self._clauses.popleft())
            elif self._answered:
                yield from self._conclude()
                break
        yield self._complete(self._finish_reason())

    @property
    def _own_s(self) -> float:
        return self.measured.own_s

    def _hear_user(self, sound: np.ndarray) -> Iterator[Event]:
        started = self._clock()
        text = self._listener.hear_user(sound, self._stage.options.asr_timeout_s)
        self.measured.heard_span = (started, self._clock())
        if text is not None:
            self.user_text = text
            yield self._event("heard", text=text)

    def _read(self, timeout: float | None) -> Iterator[Event]:
        """Pass on what the language model wrote; waits so long for the first of it, unless the model is done."""
        if self._answered or self._ahead is None:
            return
        for piece in self._ahead.take(timeout):
            self._answer.append(piece)
            self._clauses.extend(self._splitter.push(piece))
            yield self._event("llm_delta", text=piece)
        done = self._ahead.over and not self._stop.is_set()
        if done:
            self._answered = True
            self._clauses.extend(self._splitter.flush())
        self.measured.unsaid += [clause.written for clause in self._clauses if not clause.spoken]
        self._clauses = deque(clause for clause in self._clauses if clause.spoken)
        if self._clauses and self.measured.first_clause_at is None:
            self.measured.first_clause_at = self._clock()
        if done:
            yield self._event("llm_response", text="".join(self._answer).strip())

    def _speak(self, clause: Clause) -> Iterator[Event]:
        started = self._clock()
        self._speech = speech = self._start_speech(clause.spoken)
        delivery = Delivery(clause, speech, started)
        self.measured.deliveries.append(delivery)
        if self._stop.is_set():  # `interrupt` may have come before there was speech to stop
            speech.stop_soon()
        try:
            yield self._event("clause", text=clause.written, spoken=clause.spoken)
            for chunk in speech:
                if self._stop.is_set():
                    break
                self.measured.note_made(chunk)
                self._held.append((delivery, chunk))
                yield from self._release()
                yield from self._read(0)
        finally:
            speech.close()
            self._speech = None
            delivery.ended_at = self._clock()

    def _start_speech(self, clause: str) -> SpeechStream:
        options, generator, deliveries = self._stage.options, self._stage.generator, self.measured.deliveries
        asked: dict[str, Any] = {
            "max_audio_length_ms": options.max_audio_length_ms,
            "temperature": options.temperature,
            "topk": options.topk,
            "seed": None if options.seed is None else options.seed + len(deliveries),
            "guards": options.guards,
        }
        request = generator.request(clause, options.speaker, **asked)
        context = self._context(request)
        return generator.speak(replace(request, context=tuple(context)), chunk_schedule(options.chunk_frames))

    def _context(self, request: Request) -> list[Segment]:
        """What the voice hears before a clause: the segments that lead, earlier turns, the user's words, this answer.

        Where that is too much, a third of it goes at once, oldest first: what is left stays the same for some turns, so
        that the voice has read it already.
        """
        options, n_turns = self._stage.options, self._stage.options.context_turns
        lead, earlier, present = list(options.voice), self._conversation.earlier(n_turns), list[Segment]()
        if n_turns:
            said = [delivery.made(options.speaker) for delivery in self.measured.deliveries]
            present = [*self._by_user, *(segment for segment in said if segment is not None)]
        context = [*lead, *earlier, *present]
        if not context:
            return []
        fitting = self._stage.generator.fit(replace(request, context=tuple(context)), n_lead=len(lead)).context
        if len(fitting) == len(context):
            return context
        n_kept = len(fitting) - len(lead)
        n_kept -= n_kept // 3
        n_gone = len(earlier) + len(present) - n_kept
        self._conversation.forget(n_turns, min(n_gone, len(earlier)))
        return [*lead, *[*earlier, *present][n_gone:]]

    def _release(self) -> Iterator[Event]:
        """Hand out the chunks that are held, once they may be."""
        while self._held and not self._stop.is_set():
            if not self._prebuffer.may_begin(self.measured.made, self._own_s, self._expected_s):
                return
            yield from self._hand_out(*self._held.popleft())

    @property
    def _expected_s(self) -> float | None:
        """How long the whole answer will sound; None while it is being written."""
        if not self._answered:
            return None
        clauses = [*(delivery.clause for delivery in self.measured.deliveries), *self._clauses]
        return sum(len(clause.spoken) for clause in clauses) / LETTERS_PER_S

    def _hand_out(self, delivery: Delivery, chunk: Tensor) -> Iterator[Event]:
        if self._wav is not None:
            self._wav.write(chunk)
        self._listener.hear(chunk)
        event = self._event("audio_chunk", data=chunk, chunk_num=len(self.measured.arrivals) + 1)
        self.measured.note_heard(chunk, event["t"])  # what the disk refuses was not heard
        delivery.n_heard += len(chunk)
        yield event
        partial = self._listener.news()
        if partial is not None:
            yield self._event("partial_text", text=partial)

    def _conclude(self) -> Iterator[Event]:
        """All is made: hand out what is still held, and wait for the final text."""
        self._prebuffer.begun = True
        yield from self._release()
        final = self._listener.conclude(self._stage.options.asr_timeout_s)
        if final is not None:
            self.measured.final_at = self._clock()
            yield self._event("final_text", text=final)

    def _finish_reason(self) -> str:
        if self._stop.is_set():
            return INTERRUPTED
        reasons = (delivery.reason for delivery in self.measured.deliveries)
        return next((reason for reason in reasons if reason != END_OF_SPEECH), END_OF_SPEECH)

    def _complete(self, reason: str) -> Event:
        asr = self._stage.asr
        model = None if asr is None else asr.model_name
        sources = Sources(self.measured, self._ahead, self._listener, model, self._stage.generator.device)
        metrics = {"turn_id": self.turn_id, "finish_reason": reason, **turn_metrics(sources)}
        return self._event(
            "complete",
            total_time=self._clock() - self.measured.started,
            time_to_first_audio=self.measured.arrivals.first_s,
            finish_reason=reason,
            metrics=metrics,
            notes=turn_notes(metrics, self.measured),
            spans=turn_spans(sources),
        )

    def _event(self, kind: str, **content: Any) -> Any:
        return {"type": kind, "turn_id": self.turn_id, "t": self._clock() - self.measured.started, **content}
