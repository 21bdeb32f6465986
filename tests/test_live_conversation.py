"""A live conversation on a clock that the sound drives: every moment is known, so that every figure can be.

The recogniser, the language model and the voice are fakes, and a rule finds speech: what is tested is the conversation.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import RATE_HZ, FakeTranscriber, Hypothesis
from csmkit.audio import SAMPLE_RATE
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import InputError, StateError
from csmkit.live.conversation import LiveConversation
from csmkit.live.recorded import Conversation, Recording, SoundClock, converse
from csmkit.live.turn_detector import TurnDetection, TurnDetector
from csmkit.live.voice_activity import LoudnessActivity
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.base import FakeGenerator

ANSWER = "Well of course, I can help you with that today. Shall we begin at once?"  # 16 words: 2.56 s of the fake voice
ANSWER_MS = 15 * 160


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def speech(seconds: float) -> np.ndarray:
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.1 * np.sqrt(2) * np.sin(2 * np.pi * 300 * times)).astype(np.float32)


def make(
    clock: Callable[[], float], transcriber: FakeTranscriber | None = None, llm: Any = None, **detection: float
) -> LiveConversation:
    chatbot = StreamingConversationalChatbot(
        generator=FakeGenerator(), llm=llm or FakeLLM([ANSWER]), asr=False, clock=clock
    )
    asr = StreamingWhisperASR(transcriber=transcriber or FakeTranscriber(word_s=0.3), duty=1.0, clock=clock)
    return LiveConversation(chatbot, asr, TurnDetector(TurnDetection(**detection), LoudnessActivity()), clock)


class Work:
    """Every look at the work's clock costs a millisecond, so that the order of things shows and is always the same."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.001
        return self.now_s


def talk(*parts: np.ndarray, live: LiveConversation | None = None, **detection: float) -> Conversation:
    clock = SoundClock(Work())
    live = live or make(clock, **detection)
    held = converse(live, Recording(np.concatenate(parts), tail_s=5), live.clock)  # type: ignore[arg-type]
    live.asr.close()
    return held


def kinds(held: Conversation) -> list[str]:
    """The events of the conversation itself, without the pieces of the chatbot's."""
    pieces = {"user_partial", "llm_delta", "llm_response", "clause", "audio_chunk", "complete"}
    return [event["type"] for event in held.events if event["type"] not in pieces]


def pick(held: Conversation, kind: str) -> list[Any]:
    return [event for event in held.events if event["type"] == kind]


def test_a_turn_is_heard_while_it_is_spoken_and_answered_when_it_is_over():
    held = talk(silence(0.5), speech(1.5))
    assert kinds(held) == ["speech_started", "speech_stopped", "user_text", "turn_done"]
    partials = pick(held, "user_partial")
    assert len(partials) >= 3 and partials[-1]["time_s"] < 2.3, "before the turn is over"
    assert pick(held, "user_text")[0]["text"].startswith("one two three four five")
    assert sum(len(event["data"]) for event in pick(held, "audio_chunk")) == round(ANSWER_MS * SAMPLE_RATE / 1000)
    times = [event["time_s"] for event in held.events]
    assert times == sorted(times)


def test_the_row_has_every_moment_from_the_end_of_speech_in_order():
    (row,) = talk(silence(0.5), speech(1.5)).rows()
    moments = [row[f"end_to_{name}_ms"] for name in ("prepared", "text", "first_word", "first_audio", "detected")]
    assert moments == sorted(moments)
    assert row["end_to_detected_ms"] <= row["end_to_handed_out_ms"] <= row["end_to_audible_ms"]
    assert row["end_to_detected_ms"] == pytest.approx(520, abs=45)
    assert row["end_to_prepared_ms"] == pytest.approx(220, abs=45)
    assert row["own_ms"] == row["end_to_audible_ms"] - 500
    assert row["user_speech_ms"] == pytest.approx(1500, abs=65)
    assert row["n_dropped_answers"] == 0 and row["barge_in_to_silence_ms"] is None
    assert row["played_ms"] == pytest.approx(ANSWER_MS) and row["finish_reason"] == "end_of_speech"


def test_the_same_sound_gives_the_same_events_to_the_millisecond():
    parts = (silence(0.5), speech(1.0), silence(0.3), speech(0.5), silence(2), speech(1.0))
    first, second = (
        [{k: v for k, v in event.items() if k in ("type", "time_s", "turn", "text")} for event in talk(*parts).events]
        for _ in range(2)
    )
    assert first == second


def test_a_pause_drops_the_answer_that_was_prepared_and_leaves_no_trace():
    clock = SoundClock(Work())
    live = make(clock)
    held = talk(silence(0.5), speech(1.0), silence(0.4), speech(0.8), live=live)
    assert kinds(held) == ["speech_started", "speech_stopped", "user_text", "turn_done"]
    (row,) = held.rows()
    assert row["n_dropped_answers"] == 1
    assert len(live.chatbot.history) == 2
    assert live.chatbot.history[0]["content"] == row["user_text"]
    assert len(row["user_text"].split()) >= 7, "the whole turn was recognised, not its second half"


def test_who_goes_on_before_the_answer_is_heard_has_not_ended_the_turn():
    work = Work()
    clock = SoundClock(work)

    class Slow(FakeTranscriber):
        def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
            work.now_s += 0.8 if final else 0.0
            return super().transcribe(audio_16k, final=final)

    live = make(clock, Slow(word_s=0.3))
    held = talk(silence(0.5), speech(1.0), silence(0.7), speech(0.8), live=live)
    assert kinds(held) == [
        "speech_started", "speech_stopped", "answer_dropped", "speech_stopped", "user_text", "turn_done"
    ]  # fmt: skip
    assert len(live.chatbot.history) == 2 and len(pick(held, "turn_done")) == 1


def test_breaking_in_stops_the_voice_within_a_fifth_of_a_second_and_keeps_what_was_played():
    clock = SoundClock(Work())
    live = make(clock)
    held = talk(silence(0.5), speech(1.0), silence(1.5), speech(1.0), live=live)
    assert kinds(held) == [
        "speech_started", "speech_stopped", "user_text", "interrupted", "speech_started", "turn_done",
        "speech_stopped", "user_text", "turn_done",
    ]  # fmt: skip
    (interrupted,) = pick(held, "interrupted")
    assert [event["breaks_in"] for event in pick(held, "speech_started")] == [False, True]
    row = held.rows()[0]
    assert 0 < row["barge_in_to_silence_ms"] <= 200
    assert interrupted["time_s"] == pytest.approx(3.0 + 0.096, abs=0.06)
    played_ms = (interrupted["time_s"] - pick(held, "audio_chunk")[0]["time_s"]) * 1000
    assert interrupted["played_ms"] == pytest.approx(played_ms, abs=5)
    n_words = len(interrupted["text"].split())
    assert 0 < n_words <= played_ms / 160 + 1, "two frames of 80 ms a word"
    assert live.chatbot.history[1]["content"] == interrupted["text"]
    assert ANSWER.startswith(interrupted["text"])
    quiet_from = round((interrupted["time_s"] + 0.02) * SAMPLE_RATE)
    second = pick(held, "audio_chunk")[-1]["time_s"]
    assert not held.voice[quiet_from : quiet_from + SAMPLE_RATE].any() and second > interrupted["time_s"]


def test_the_echo_of_the_voice_interrupts_nothing():
    clock = SoundClock(Work())
    live = make(clock)
    held = converse(
        live,
        Recording(np.concatenate([silence(0.5), speech(1.0)]), tail_s=5),
        clock,
        echo=lambda played: 0.1 * played,
    )
    live.asr.close()
    assert kinds(held) == ["speech_started", "speech_stopped", "user_text", "turn_done"]
    assert np.abs(held.microphone[2 * SAMPLE_RATE :]).max() > 0, "there was an echo"


def test_a_turn_without_a_word_is_not_answered():
    live = make(SoundClock(Work()), FakeTranscriber("", word_s=0.3))
    held = talk(silence(0.5), speech(0.3), silence(1), live=live)
    assert kinds(held) == ["speech_started", "speech_stopped", "nothing_heard"]
    assert live.chatbot.history == []


def test_a_model_that_fails_costs_its_turn_and_not_the_conversation():
    class Failing:
        n_calls = 0

        def stream(self, messages: list[Any]) -> Iterator[str]:
            self.n_calls += 1
            if self.n_calls == 1:
                raise RuntimeError("no memory left")
            yield ANSWER

    held = talk(silence(0.5), speech(1.0), silence(2.0), speech(1.0), live=make(SoundClock(Work()), llm=Failing()))
    assert kinds(held) == [
        "speech_started", "speech_stopped", "user_text", "error", "speech_started", "speech_stopped", "user_text",
        "turn_done",
    ]  # fmt: skip
    assert "no memory left" in pick(held, "error")[0]["message"]


def test_a_recogniser_that_fails_costs_its_turn_and_not_the_conversation():
    held = talk(
        silence(0.5), speech(1.0), silence(2.0), speech(1.0),
        live=make(SoundClock(Work()), FakeTranscriber(word_s=0.3, fail_at=2)),
    )  # fmt: skip
    assert kinds(held)[-1] == "turn_done" and "told to fail at call 2" in pick(held, "error")[0]["message"]


def test_the_recogniser_sees_the_sound_of_the_turn_and_what_came_just_before():
    seen: list[int] = []

    class Noting(FakeTranscriber):
        def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
            if final:
                seen.append(len(audio_16k))
            return super().transcribe(audio_16k, final=final)

    talk(silence(3), speech(1.0), live=make(SoundClock(Work()), Noting(word_s=0.3), prefix_ms=300))
    assert seen[0] / RATE_HZ == pytest.approx(0.3 + 1.0 + 0.2, abs=0.1)


def test_a_live_conversation_needs_a_recogniser():
    chatbot = StreamingConversationalChatbot(generator=FakeGenerator(), llm=FakeLLM([ANSWER]), asr=False)
    with pytest.raises(InputError, match="needs a recogniser: give asr="):
        LiveConversation(chatbot)


# In threads, as a microphone and a loudspeaker drive it.


@pytest.fixture
def live() -> Iterator[LiveConversation]:
    live = make(time.perf_counter)
    with live:
        yield live
    live.asr.close()


def put(live: LiveConversation, *parts: np.ndarray) -> None:
    sound = np.concatenate(parts)
    for at in range(0, len(sound), 480):
        live.put(sound[at : at + 480])


def until(live: LiveConversation, kind: str) -> list[Any]:
    events = []
    for event in live.events():
        events.append(event)
        if event["type"] == kind:
            break
    return events


def test_a_thread_answers_what_another_one_hears(live: LiveConversation):
    put(live, silence(0.5), speech(1.0), silence(0.6))
    events = until(live, "complete")
    assert events[-1]["finish_reason"] == "end_of_speech"
    live.played(ANSWER_MS)
    put(live, silence(0.1))
    assert until(live, "turn_done")[-1]["metrics"]["played_ms"] == pytest.approx(ANSWER_MS)
    assert live.chatbot.history[-1]["content"] == ANSWER


def test_the_stop_button_keeps_what_the_listener_reports(live: LiveConversation):
    put(live, silence(0.5), speech(1.0), silence(0.6))
    until(live, "complete")
    live.played(3 * 160)
    live.interrupt()
    assert until(live, "interrupted")[-1]["text"].startswith("Well of course,")
    live.stopped(3 * 160)
    assert until(live, "turn_done")[-1]["metrics"]["played_ms"] == pytest.approx(480)
    assert live.chatbot.history[-1]["content"] == "Well of course,"
    live.interrupt()


def test_a_listener_who_fell_silent_later_has_heard_more_and_both_texts_say_so(live: LiveConversation):
    put(live, silence(0.5), speech(1.0), silence(0.6))
    until(live, "complete")
    live.played(3 * 160)
    live.interrupt()
    early = until(live, "interrupted")[-1]["text"]
    live.stopped(6 * 160)
    done = until(live, "turn_done")[-1]
    assert live.chatbot.history[-1]["content"] == done["kept"]
    assert done["kept"].startswith(early) and len(done["kept"].split()) > len(early.split())


def test_closing_ends_the_answer_the_thread_and_the_events(live: LiveConversation):
    put(live, silence(0.5), speech(1.0), silence(0.6))
    until(live, "audio_chunk")
    live.close()
    live.close()
    assert [event["type"] for event in live.events()][-1] == "turn_done"
    assert "csmkit-live" not in {thread.name for thread in threading.enumerate()}
    live.put(speech(1.0))
    assert live.take_events() == []
    with pytest.raises(StateError, match="make another one"):
        live.start()
