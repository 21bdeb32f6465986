"""The user may cut in at any moment and in any way: it takes a frame, and what follows is clean."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from watched_step import WatchedStep

from csmkit import Generator, StreamingConversationalChatbot, StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber, Hypothesis
from csmkit.audio import read
from csmkit.errors import TranscriptionError
from csmkit.llm.transformers import FakeLLM, TransformersLLM
from csmkit.speech.base import FakeGenerator

ANSWER = "good morning, how are you today? the weather is nice and warm."


@pytest.fixture(scope="module")
def pocket() -> Iterator[StreamingConversationalChatbot]:
    generator = Generator.load("pocket", device="cpu")
    WatchedStep(generator)
    asr = StreamingWhisperASR("tiny.en")
    with StreamingConversationalChatbot(generator=generator, llm=FakeLLM([ANSWER]), asr=asr, seed=1) as chatbot:
        yield chatbot


@pytest.fixture
def chatbot(pocket: StreamingConversationalChatbot) -> StreamingConversationalChatbot:
    pocket.reset()
    alarm(pocket).set(0, lambda: None)
    return pocket


def alarm(chatbot: StreamingConversationalChatbot) -> WatchedStep:
    assert isinstance(chatbot.generator.step, WatchedStep)
    return chatbot.generator.step


def sound_of(events: list[Any]) -> torch.Tensor:
    return torch.cat([torch.zeros(0), *(event["data"] for event in events if event["type"] == "audio_chunk")])


def llm_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("csmkit-llm")]


def elsewhere(call: Callable[[], object]) -> Callable[[], object]:
    return threading.Thread(target=call).start


def assert_clean(chatbot: StreamingConversationalChatbot) -> None:
    """The next turn is what it would have been without the one before."""
    assert llm_threads() == []
    chatbot.reset()
    alarm(chatbot).set(0, lambda: None)
    events = list(chatbot.process_streaming("Hi"))
    assert events[-1]["finish_reason"] == "end_of_speech" and events[-1]["metrics"]["asr_error"] is None
    assert chatbot.history[-1]["content"] == ANSWER
    alone = [chatbot.generator.generate(text, 0, seed=1 + n, raw_text=True) for n, text in enumerate(clauses(events))]
    assert torch.equal(sound_of(events), torch.cat(alone))


def clauses(events: list[Any]) -> list[str]:
    return [event["spoken"] for event in events if event["type"] == "clause"]


@pytest.mark.parametrize("way", ["another thread", "the reader's thread", "ctrl-c"])
def test_within_one_frame_the_turn_is_over_and_says_so(chatbot: StreamingConversationalChatbot, way: str):
    calls = {
        "another thread": elsewhere(chatbot.interrupt),
        "the reader's thread": chatbot.interrupt,
        "ctrl-c": lambda: signal.raise_signal(signal.SIGINT),
    }
    before = signal.signal(signal.SIGINT, lambda *_: chatbot.interrupt())
    try:
        alarm(chatbot).set(9, calls[way])
        events = list(chatbot.process_streaming("Hi"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert alarm(chatbot).n_frames <= 10, "the frame being made, and for another thread perhaps the one that had begun"
    complete = events[-1]
    assert complete["type"] == "complete" and complete["finish_reason"] == "interrupted"
    assert len(sound_of(events)) == 6 * 1920, "the chunk that was being made is not handed out"
    spoken = chatbot.history[-1]["content"]
    assert ANSWER.startswith(spoken) and 0 < len(spoken) <= 14 * 6 * 0.08
    assert_clean(chatbot)


def test_cutting_in_before_a_clause_has_begun_makes_no_frame_of_it(chatbot: StreamingConversationalChatbot):
    speak = chatbot.generator.speak

    def late(*given: Any, **asked: Any) -> Any:
        speech = speak(*given, **asked)
        thread = threading.Thread(target=chatbot.interrupt)
        thread.start()
        thread.join()  # when nobody knows of this speech yet
        return speech

    for event in chatbot.process_streaming("Hi"):
        if event["type"] == "clause":
            chatbot.interrupt()
    assert event["finish_reason"] == "interrupted" and alarm(chatbot).n_frames == 0
    chatbot.generator.speak = late  # type: ignore[method-assign]
    try:
        *_, complete = chatbot.process_streaming("Hi")
    finally:
        del chatbot.generator.speak  # type: ignore[method-assign]
    assert complete["finish_reason"] == "interrupted" and alarm(chatbot).n_frames == 0
    assert chatbot.history == []
    assert_clean(chatbot)


def test_leaving_the_loop_keeps_what_was_yielded(chatbot: StreamingConversationalChatbot, tmp_path: Path):
    events = []
    for event in chatbot.process_streaming("Hi", save_audio_path=tmp_path / "part.wav"):
        events.append(event)
        if len(sound_of(events)) >= 12 * 1920:
            break
    n_ends = len(clauses(events)) - 1  # each clause but the last has ended with a frame that is not heard
    assert alarm(chatbot).n_frames == len(sound_of(events)) / 1920 + n_ends, "nothing is made ahead of the listener"
    spoken = chatbot.history[-1]["content"]
    assert ANSWER.startswith(spoken) and len(spoken) <= 14 * 12 * 0.08 + len("good morning,")
    assert len(read(tmp_path / "part.wav")) == len(sound_of(events))
    assert_clean(chatbot)


def test_a_key_pressed_without_a_handler_leaves_by_the_same_door(chatbot: StreamingConversationalChatbot):
    alarm(chatbot).set(9, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        list(chatbot.process_streaming("Hi"))
    assert 0 < len(chatbot.history[-1]["content"]) <= 14 * 6 * 0.08
    assert_clean(chatbot)


def test_cutting_in_while_the_language_model_writes_stops_it_too(chatbot: StreamingConversationalChatbot):
    model = TransformersLLM(seed=0, max_new_tokens=400)
    chatbot.llm, script = model, chatbot.llm
    try:
        n_deltas = 0
        for event in chatbot.process_streaming("Tell me a joke."):
            n_deltas += event["type"] == "llm_delta"
            if n_deltas == 2:
                chatbot.interrupt()
    finally:
        chatbot.llm = script
    assert event["finish_reason"] == "interrupted" and n_deltas == 2
    assert chatbot.history == [], "nobody heard any of it"
    assert_clean(chatbot)


def test_a_user_being_heard_may_cut_himself_short(chatbot: StreamingConversationalChatbot):
    speech = chatbot.generator.generate(ANSWER, 1, seed=3).numpy()
    loading = chatbot.asr.stream
    chatbot.asr.stream = lambda: (elsewhere(chatbot.interrupt)(), loading())[1]  # cut short while he is being heard
    try:
        events = list(chatbot.process_streaming_audio(np.tile(speech, 10)))
    finally:
        del chatbot.asr.stream
    assert [event["type"] for event in events] == ["complete"]
    assert events[0]["finish_reason"] == "interrupted" and chatbot.history == []
    assert_clean(chatbot)


def test_the_last_chunk_of_a_clause_that_nobody_heard_is_not_in_the_history():
    """All frames of the clause are made, but the interruption comes before its last chunk is handed out."""

    class Late(FakeGenerator):
        def codes_of(self, request: Any, seed: int) -> Any:
            yield from super().codes_of(request, seed)
            bot.interrupt()

    llm = FakeLLM(["one two three four five six seven."])
    with StreamingConversationalChatbot(generator=Late(), llm=llm, asr=False) as bot:
        events = list(bot.process_streaming("Hi"))
    assert len(sound_of(events)) == 12 * 1920, "of 14 frames"
    assert events[-1]["finish_reason"] == "interrupted"
    assert bot.history[-1]["content"] == "one two three four five six"


class Stuck(FakeTranscriber):
    """Hears nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__("how are you")
        self.inside, self.gate = threading.Event(), threading.Event()

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        self.inside.set()
        assert self.gate.wait(20)
        return super().transcribe(audio_16k, final=final)


def hearing(transcriber: FakeTranscriber) -> StreamingConversationalChatbot:
    asr = StreamingWhisperASR(transcriber=transcriber)
    return StreamingConversationalChatbot(generator=FakeGenerator(), llm=FakeLLM([ANSWER]), asr=asr)


@pytest.mark.parametrize("way", ["another thread", "the reader's thread"])
def test_a_recogniser_that_hangs_does_not_keep_the_user(way: str, tmp_path: Path):
    transcriber = Stuck()
    noise = 0.1 * np.random.default_rng(0).standard_normal(24_000).astype(np.float32)

    def cut_in() -> None:
        assert transcriber.inside.wait(10)
        if way == "another thread":
            bot.interrupt()
        else:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    with hearing(transcriber) as bot:
        before = signal.signal(signal.SIGUSR1, lambda *_: bot.interrupt())
        try:
            elsewhere(cut_in)()
            events = list(bot.process_streaming_audio(noise, save_audio_path=tmp_path / "a.wav"))
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert [event["type"] for event in events] == ["complete"] and not transcriber.gate.is_set()
        assert events[0]["finish_reason"] == events[0]["metrics"]["finish_reason"] == "interrupted"
        assert bot.history == [] and len(read(tmp_path / "a.wav")) == 0
        transcriber.gate.set()
        heard, *_ = bot.process_streaming_audio(noise)
        assert heard["type"] == "heard"
        assert bot.history[0]["content"] == "how are"


def test_a_recogniser_that_hangs_costs_one_turn_its_text_and_the_next_one_nothing():
    class Hung(FakeTranscriber):
        def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
            mine = threading.get_native_id()
            first = threads.setdefault("first", mine)
            if mine == first:
                assert gate.wait(20)
            return super().transcribe(audio_16k, final=final)

    noise = 0.1 * np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    for way in ("spoken answer", "user"):
        threads: dict[str, int] = {}
        gate = threading.Event()
        with hearing(Hung("how are you")) as bot:
            bot.options = bot.options.changed(asr_timeout_s=0.2)
            if way == "user":
                with pytest.raises(TranscriptionError, match=r"longer than 0\.2 s"):
                    list(bot.process_streaming_audio(noise))
            else:
                assert "TimeoutError" in list(bot.process_streaming("Hi"))[-1]["metrics"]["asr_error"]
            bot.options = bot.options.changed(asr_timeout_s=60.0)
            *_, final, complete = bot.process_streaming("Hi")
            assert final["type"] == "final_text" and complete["metrics"]["asr_error"] is None
            gate.set()


def test_an_interruption_before_the_first_event_counts():
    with hearing(FakeTranscriber("how are you")) as bot:
        for start in (lambda: bot.process_streaming("Hi"), lambda: bot.process_streaming_audio(np.ones(24_000) * 0.1)):
            events = start()
            bot.interrupt()
            assert [(event["type"], event["finish_reason"]) for event in events] == [("complete", "interrupted")]
            assert bot.llm.seen == [] or len(bot.llm.seen) == 1
        assert list(bot.process_streaming("Hi"))[-1]["finish_reason"] == "end_of_speech"
