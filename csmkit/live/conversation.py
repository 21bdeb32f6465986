"""A spoken conversation with a chatbot: the microphone's frames in, events and the voice's sound out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import Any, Self

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.audio import Waveform, as_mono
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.closing import Closing
from csmkit.errors import CsmkitError, InputError, StateError, TranscriptionError
from csmkit.live.answer import Answer, State
from csmkit.live.events import LiveEvent
from csmkit.live.turn_detector import TurnChange, TurnDetector
from csmkit.live.turn_times import TurnTimes, moved_spans
from csmkit.live.user_turn import UserTurn

_REPORT_S = 0.5  # within this time a listener reports that it has stopped
_IDLE_S = 0.5  # how often the answering thread checks whether to end
_JOIN_S = 10.0


class LiveConversation(Closing):
    """Hears the user frame by frame, finds the turns, answers aloud, and stops when the user breaks in.

    The user is recognised while they speak. At a probable end of their turn the answer is prepared, and dropped without
    a trace if they go on. While the voice speaks the user may break in: the answer stops, and the history keeps only
    what was played by then.

    `put`, `played`, `stopped` and `interrupt` may be called from any thread and return at once. The work of answering
    is done in one thread, which `start` begins. A caller with a clock of its own may call `work` instead.

    Args:
        chatbot: answers. Make it with ``asr=False``: it need not listen to itself here.
        asr: the recogniser of the user; None takes the chatbot's.
        detector: finds the turns; None makes one with the usual settings. Its ``detection`` may be replaced later.
        clock: seconds, never decreasing; the one that the chatbot was given.

    Raises:
        InputError: no recogniser.
        MissingDependencyError: the packages that find speech are not installed.
    """

    def __init__(
        self,
        chatbot: StreamingConversationalChatbot,
        asr: StreamingWhisperASR | None = None,
        detector: TurnDetector | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        recogniser = chatbot.asr if asr is None else asr
        if recogniser is None:
            raise InputError("a live conversation needs a recogniser: give asr=StreamingWhisperASR('base.en')")
        self.chatbot, self.detector = chatbot, detector or TurnDetector()
        self.asr: StreamingWhisperASR = recogniser
        self.clock, self._started_s = clock, clock()
        self._changed = threading.Condition()  # guards everything below
        self._events: deque[Any] = deque()
        self._turn: UserTurn | None = None  # being spoken, or not yet answered with sound
        self._answer: Answer | None = None  # the newest
        self._work: deque[Answer] = deque()  # the answers that are not over, oldest first
        self._n_turns = 0
        self._closed = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    # Input from the microphone and the loudspeaker.

    def put(self, frame: Waveform) -> None:
        """Hear the next frame of the microphone, ``(samples,)`` at 24 kHz; 20 to 40 ms are usual.

        Takes about 0.2 ms for each 32 ms of sound, more where an end-of-turn model is asked. After `close` nothing is
        heard any more.

        Raises:
            InputError: not a waveform, or NaN in it.
        """
        samples = as_mono(frame)
        with self._changed:
            if self._closed:
                return
            now = self.clock()
            self._watch_playback(now)
            if self._turn is not None:
                self._turn.add(samples)
            for change in self.detector.put(samples):
                self._take(change, now)
            self._show_partial()

    def played(self, played_ms: float) -> None:
        """The listener reports how much of the present answer it has played, in milliseconds."""
        with self._changed:
            if self._answer is not None and self._answer.state is State.GIVEN:
                now = self.clock()
                self._answer.playback.report(played_ms, now)
                self._watch_playback(now)

    def stopped(self, played_ms: float) -> None:
        """The listener reports that it fell silent after ``interrupted``, and how much it had played until then.

        The history is corrected accordingly.
        """
        with self._changed:
            answer = self._answer
            if answer is None or answer.state is not State.INTERRUPTED or answer.times.silent is not None:
                return
            answer.times.silent = self.clock()
            answer.playback.stop(played_ms)
            answer.silence(self.chatbot)
            self._report_interrupted(answer)

    def interrupt(self) -> None:
        """Stop the answer, as if the user had broken in. Nothing to stop is fine."""
        with self._changed:
            if self._answer is not None and self._answer.state is State.GIVEN:
                self._interrupt(self._answer, self.clock())

    # Output.

    def take_events(self) -> list[LiveEvent]:
        """The events since the last call, at once."""
        with self._changed:
            events = list(self._events)
            self._events.clear()
            return events

    def events(self) -> Iterator[LiveEvent]:
        """The events as they come; ends after `close`, once all were taken.

        Raises:
            CsmkitError: the thread that answers failed in a way not foreseen; the cause says how.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._events or self._closed)
                if not self._events:
                    break
                event = self._events.popleft()
            yield event
        if self._error is not None:
            raise CsmkitError(f"the conversation ended by an error: {self._error}") from self._error

    # The work of answering.

    def start(self) -> None:
        """Load the recogniser, and answer in a thread of its own from now on; blocks until all is loaded.

        Raises:
            StateError: it was started, or closed.
            CsmkitError: the recogniser cannot be loaded.
        """
        if self._thread is not None or self._closed:
            raise StateError("a conversation is started once: make another one")
        self.asr.prepare()
        self._started_s = self.clock()
        self._thread = threading.Thread(target=self._run, name="csmkit-live", daemon=True)
        self._thread.start()

    def work(self) -> bool:
        """Do one piece of the oldest answer's work: recognise the user, or make the next event. False without any.

        Only for a caller that did not `start` the thread; always from the same thread.
        """
        hand_over = self.begin_work()
        if hand_over is not None:
            hand_over()
        return hand_over is not None

    def begin_work(self) -> Callable[[], None] | None:
        """As `work`, in two halves: the work is done here, and what it has made is handed over when that is called.

        For a simulation, where work may be done before its time. None without work.
        """
        with self._changed:
            answer = self._work[0] if self._work else None
        if answer is None:
            return None
        try:
            made = answer.step(self.chatbot, self.clock)
        except CsmkitError as error:
            made = [("error", {"message": str(error)})]
            answer.over = True
        return partial(self._take_made, answer, made)

    def wait_for_partials(self, timeout_s: float = 10.0) -> None:
        """Block until the recogniser has read what it was given; for a caller whose clock is not the real one."""
        with self._changed:
            turn = self._turn
        if turn is not None and turn.wait_until_read(timeout_s):
            with self._changed:
                self._show_partial()

    def close(self) -> None:
        """End the present answer and the thread. The chatbot and the recogniser stay open. May be called again."""
        with self._changed:
            if self._closed:
                return
            answer = self._answer
            if answer is not None and answer.state is State.GIVEN:
                self._interrupt(answer, self.clock())
                answer.times.silent = answer.times.interrupted
                self._report_interrupted(answer)
            elif answer is not None:
                self._drop_answer()
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)
        if self._turn is not None:
            self._turn.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def _run(self) -> None:
        try:
            while not self._closed or self._work:
                if not self.work():
                    with self._changed:
                        self._changed.wait_for(lambda: self._work or self._closed, _IDLE_S)
        except BaseException as error:  # the thread's top frame: `events` raises it to its reader
            with self._changed:
                self._error, self._closed = error, True
                self._changed.notify_all()

    # Inside, under the lock.

    def _take(self, change: TurnChange, now: float) -> None:
        at = now - (self.detector.heard_s - change.at_s)  # the moment of a sample, by the clock
        if change.kind == "speech_started":
            self._begin_turn(change, at, now)
        elif self._turn is not None:
            if change.kind == "probable_end":
                self._prepare(self._turn, at, now)
            elif change.kind == "speech_resumed":
                self._drop_answer()
            else:
                self._end_turn(self._turn, change, at, now)

    def _begin_turn(self, change: TurnChange, at: float, now: float) -> None:
        answer = self._answer
        if self._turn is not None and answer is not None:  # the user goes on, before the answer can be heard
            self._drop_answer()
            return
        breaks_in = answer is not None and answer.state is State.GIVEN
        if answer is not None and breaks_in:
            answer.times.broke_in = at
            self._interrupt(answer, now)
        self._n_turns += 1
        self._turn = UserTurn(self._n_turns, self.asr, at, at, breaks_in)
        self._turn.add(self.detector.sound())
        self._emit("speech_started", self._n_turns, audio_s=change.at_s, breaks_in=breaks_in)

    def _prepare(self, turn: UserTurn, at: float, now: float) -> None:
        if self._answer is not None and self._answer.state is State.INTERRUPTED:
            self._report_interrupted(self._answer)
        turn.ended_s = at
        times = TurnTimes(turn.began_s, at, prepared=now)
        self._answer = Answer(turn, turn.sound(), times)
        self._work.append(self._answer)
        self._changed.notify_all()

    def _end_turn(self, turn: UserTurn, change: TurnChange, at: float, now: float) -> None:
        if self._answer is None or self._answer.turn is not turn or self._answer.state is not State.PREPARED:
            self._prepare(turn, at, now)
        assert self._answer is not None
        answer = self._answer
        answer.state, answer.times.detected = State.GIVEN, now
        self._emit("speech_stopped", turn.number, audio_s=change.at_s)
        held, answer.held = answer.held, []
        self._hand_out(answer, held, now)

    def _drop_answer(self) -> None:
        answer = self._answer
        if answer is None or answer.state not in (State.PREPARED, State.GIVEN):
            return
        was_given = answer.state is State.GIVEN
        answer.state = State.DROPPED
        answer.turn.n_dropped += 1
        self._answer = None
        if answer.events is not None and not answer.over:
            self.chatbot.interrupt()
        answer.erase(self.chatbot)
        if was_given:
            self._emit("answer_dropped", answer.turn.number)

    def _interrupt(self, answer: Answer, now: float) -> None:
        played_ms = answer.playback.played_ms(now)
        answer.state, answer.times.interrupted = State.INTERRUPTED, now
        answer.playback.stop(played_ms)
        text = answer.silence(self.chatbot)
        self.detector.voice_level_dbfs = None
        if self._turn is answer.turn:
            self._turn = None
        self._emit("interrupted", answer.turn.number, played_ms=played_ms, text=text)

    def _take_made(self, answer: Answer, made: list[tuple[str, dict[str, Any]]]) -> None:
        with self._changed:
            if answer.over:
                self._work.remove(answer)
            if answer.state is State.DROPPED:
                answer.erase(self.chatbot)
            elif answer.state is State.PREPARED:
                answer.held += made
            else:
                now = self.clock()
                self._hand_out(answer, made, now)
                if answer.times.silent is not None:
                    self._report_interrupted(answer)
                elif answer is self._answer:
                    self._watch_playback(now)

    def _hand_out(self, answer: Answer, made: list[tuple[str, dict[str, Any]]], now: float) -> None:
        for kind, content in made:
            if kind == "audio_chunk" and answer.state is State.INTERRUPTED:
                continue
            if kind == "audio_chunk" and not answer.hand_out(content, now):
                continue
            if kind == "nothing_heard":
                content["breaks_in"] = answer.turn.breaks_in
            self._emit(kind, answer.turn.number, **content)
            if kind == "nothing_heard" or (kind == "error" and answer.times.handed_out is None):
                self._forget(answer)

    def _forget(self, answer: Answer) -> None:
        """A turn that is not answered."""
        answer.turn.close()
        answer.state = State.DROPPED
        if self._turn is answer.turn:
            self._turn = None
        if self._answer is answer:
            self._answer = None

    def _watch_playback(self, now: float) -> None:
        """Tell the detector whether the voice is heard, and notice when the answer was played to its end."""
        answer = self._answer
        if answer is not None and answer.state is State.INTERRUPTED:
            assert answer.times.interrupted is not None
            if now >= answer.times.interrupted + _REPORT_S:
                self._report_interrupted(answer)
        if answer is None or answer.state is not State.GIVEN:
            return
        played_ms, handed_out = answer.playback.played_ms(now), answer.times.handed_out
        audible = handed_out is not None and now >= handed_out and played_ms > 0
        self.detector.voice_level_dbfs = answer.playback.level_dbfs(now) if audible else None
        if audible and self._turn is answer.turn:  # from now on, whoever speaks breaks in
            self._turn.close()
            self._turn = None
        if answer.over and played_ms >= answer.playback.sound_ms:
            self.detector.voice_level_dbfs = None
            self._finish(answer)

    def _report_interrupted(self, answer: Answer) -> None:
        """Hand out the row of an interrupted answer, once the chatbot has ended it."""
        if answer.over:
            self._finish(answer)

    def _finish(self, answer: Answer) -> None:
        if answer.reported:
            return
        answer.reported = True
        answer.turn.close()
        if self._turn is answer.turn:
            self._turn = None
        if self._answer is answer and answer.state is State.GIVEN:
            self._answer = None
        row = {"turn": answer.turn.number, "user_text": answer.text, "breaks_in": answer.turn.breaks_in}
        row |= {"n_dropped_answers": answer.turn.n_dropped, "played_ms": answer.playback.played_ms(self.clock())}
        chat: dict[str, Any] = answer.complete or {"metrics": {}, "spans": []}
        offset_ms = (answer.called_s - answer.times.ended) * 1000
        self._emit(
            "turn_done",
            answer.turn.number,
            metrics=chat["metrics"] | row | answer.times.row(self.detector.detection.silence_ms),
            spans=answer.times.spans() + moved_spans(chat["spans"], offset_ms),
            kept=answer.kept,
        )

    def _show_partial(self) -> None:
        turn = self._turn
        if turn is None or not self.detector.in_turn:
            return
        if self._answer is not None and self._answer.turn is turn:  # the processor is left to the answer
            return
        try:
            partial = turn.listen()
        except TranscriptionError as error:
            self._turn = None
            self._emit("error", turn.number, message=str(error))
            return
        if partial is not None:
            self._emit("user_partial", turn.number, text=str(partial), committed=partial.committed)

    def _emit(self, kind: str, turn: int, **content: Any) -> None:
        self._events.append({"type": kind, "time_s": self.clock() - self._started_s, "turn": turn, **content})
        self._changed.notify_all()
