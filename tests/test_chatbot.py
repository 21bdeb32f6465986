"""The conversation as its listener, its interrupter and its log see it. All parts are fakes."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber, Hypothesis
from csmkit.audio import WavWriter
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.chat.settings import ChatModels, TurnOptions, chat_models
from csmkit.errors import AudioFileError, ContextOverflowError, DeviceError, InputError, LanguageModelError, StateError
from csmkit.llm.transformers import EchoLLM, FakeLLM, Message
from csmkit.speech.abilities import Abilities
from csmkit.speech.generator import FakeGenerator, Generator, Segment

ANSWER = "Well of course, I can help you with that today. It is an easy thing to do. Shall we begin at once?"
SCRIPT = "well of course i can help you with that today it is an easy thing to do shall we begin at once"


def make(
    llm: Any = None, generator: FakeGenerator | None = None, transcriber: FakeTranscriber | None = None, **changes: Any
) -> StreamingConversationalChatbot:
    return StreamingConversationalChatbot(
        generator=generator or FakeGenerator(),
        llm=llm or FakeLLM([ANSWER]),
        asr=StreamingWhisperASR(transcriber=transcriber or FakeTranscriber(SCRIPT, word_s=0.16), duty=1.0),
        **changes,
    )


@pytest.fixture
def chatbot() -> Iterator[StreamingConversationalChatbot]:
    with make() as chatbot:
        yield chatbot


def kinds(events: list[Any]) -> list[str]:
    return [event["type"] for event in events]


def pick(events: list[Any], kind: str) -> list[Any]:
    return [event for event in events if event["type"] == kind]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("csmkit-llm")]


def test_a_turn_tells_its_story_in_order(chatbot: StreamingConversationalChatbot) -> None:
    events = list(chatbot.process_streaming("Can you help me?"))
    assert set(kinds(events)) == {
        "llm_delta", "llm_response", "clause", "audio_chunk", "partial_text", "final_text", "complete"
    }  # fmt: skip
    assert "".join(event["text"] for event in pick(events, "llm_delta")) == ANSWER
    assert [event["text"] for event in pick(events, "llm_response")] == [ANSWER]
    assert [event["chunk_num"] for event in pick(events, "audio_chunk")] == list(
        range(1, len(pick(events, "audio_chunk")) + 1)
    )
    assert kinds(events)[-2:] == ["final_text", "complete"]
    assert events[-2]["text"] == SCRIPT
    words = events[-2]["words"]
    assert " ".join(word.text for word in words) == SCRIPT
    assert [word.start_s for word in words] == pytest.approx([0.16 * k for k in range(len(words))])
    assert len({event["turn_id"] for event in events}) == 1
    times = [event["t"] for event in events]
    assert times == sorted(times) and times[0] >= 0


def test_chunks_are_sound_at_the_rate_of_the_codec(chatbot: StreamingConversationalChatbot) -> None:
    chunks = [event["data"] for event in pick(list(chatbot.process_streaming("Hi")), "audio_chunk")]
    assert all(chunk.dtype == torch.float32 and chunk.ndim == 1 for chunk in chunks)
    assert sum(len(chunk) for chunk in chunks) == len(ANSWER.split()) * 2 * 1920, "the fake speaks two frames a word"
    assert len(chunks[0]) == 6 * 1920


def test_the_chunk_size_changes_the_chunks_and_not_the_sound() -> None:
    heard = []
    for chunk_frames in (1, 6, (1, 2, 4)):
        with make(chunk_frames=chunk_frames, seed=1) as chatbot:
            events = list(chatbot.process_streaming("Hi"))
        heard.append(torch.cat([event["data"] for event in pick(events, "audio_chunk")]))
    assert torch.equal(heard[0], heard[1]) and torch.equal(heard[0], heard[2])


def test_the_first_clause_is_heard_while_the_language_model_still_writes() -> None:
    heard = threading.Event()

    class WaitsForSound:
        def stream(self, messages: list[Message]) -> Iterator[str]:
            yield "Well of course, I "
            assert heard.wait(30), "the first clause is spoken before the second is written"
            yield "can help you with that today."

    order = []
    with make(llm=WaitsForSound()) as chatbot:
        for event in chatbot.process_streaming("Hi"):
            order.append(event["type"])
            if event["type"] == "audio_chunk":
                heard.set()
    assert order.index("audio_chunk") < order.index("llm_response")


def test_each_clause_is_one_generation_and_they_sound_in_order() -> None:
    generator = FakeGenerator()
    with make(generator=generator) as chatbot:
        list(chatbot.process_streaming("Hi"))
    spoken = [request.text for request in generator.requests]
    assert spoken[0] == "Well of course,"
    assert " ".join(spoken) == ANSWER


def test_partials_are_only_told_when_they_change() -> None:
    decoded = threading.Semaphore(0)

    class Noting(FakeTranscriber):
        def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
            try:
                return super().transcribe(audio_16k, final=final)
            finally:
                decoded.release()

    texts = []
    with make(transcriber=Noting(SCRIPT, word_s=0.16)) as chatbot:
        for event in chatbot.process_streaming("Hi"):
            if event["type"] == "audio_chunk":
                assert decoded.acquire(timeout=30)  # each chunk is decoded before the next one is made
            if event["type"] == "partial_text":
                texts.append(event["text"])
    assert len(texts) >= 3
    assert all(before != after for before, after in zip(["", *texts], texts, strict=False))


def test_the_complete_event_counts_time_and_is_one_flat_row(chatbot: StreamingConversationalChatbot) -> None:
    events = list(chatbot.process_streaming("Hi"))
    complete = events[-1]
    first = pick(events, "audio_chunk")[0]
    assert complete["time_to_first_audio"] == first["t"] <= complete["total_time"] <= complete["t"]
    assert complete["finish_reason"] == "end_of_speech"
    metrics = complete["metrics"]
    assert all(value is None or isinstance(value, str | int | float | bool) for value in metrics.values())
    assert metrics["turn_id"] == complete["turn_id"]
    assert metrics["ttfa_ms"] == pytest.approx(complete["time_to_first_audio"] * 1000)
    assert metrics["audio_s"] == pytest.approx(len(ANSWER.split()) * 0.16)
    assert metrics["llm_ttft_ms"] <= metrics["text_ttfs_ms"] <= metrics["ttfa_ms"] <= metrics["total_ms"]
    assert metrics["asr_complete"] is True and metrics["asr_error"] is None
    assert metrics["asr_received_s"] == pytest.approx(metrics["audio_s"])


def test_the_next_message_is_answered_in_view_of_the_history() -> None:
    llm = FakeLLM(["Hello there.", "I am fine."])
    with make(llm=llm) as chatbot:
        list(chatbot.process_streaming("Hi"))
        list(chatbot.process_streaming("How are you?"))
        expected = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello there."},
            {"role": "user", "content": "How are you?"},
        ]
        assert llm.seen[1] == expected
        assert chatbot.history == [*expected, {"role": "assistant", "content": "I am fine."}]
        chatbot.reset()
        assert chatbot.history == []


def test_a_saved_answer_is_the_sound_that_was_heard(chatbot: StreamingConversationalChatbot, tmp_path: Path) -> None:
    events = list(chatbot.process_streaming("Hi", save_audio_path=tmp_path / "answer.wav"))
    heard = torch.cat([event["data"] for event in pick(events, "audio_chunk")]).numpy()
    saved, rate = soundfile.read(tmp_path / "answer.wav", dtype="float32")
    assert rate == 24_000
    np.testing.assert_allclose(saved, heard.clip(-1, 1), atol=2 / 32_768)


def test_an_unwritable_path_is_an_error_before_anything_is_generated(tmp_path: Path) -> None:
    llm = FakeLLM([ANSWER])
    with make(llm=llm) as chatbot:
        with pytest.raises(AudioFileError, match="cannot write"):
            chatbot.process_streaming("Hi", save_audio_path=tmp_path / "no" / "folder.wav")
        assert llm.seen == []
        assert kinds(list(chatbot.process_streaming("Hi")))[-1] == "complete"


@pytest.mark.parametrize("nothing", ["", "  \n", None, 7])
def test_an_empty_message_is_an_error_of_the_call(chatbot: StreamingConversationalChatbot, nothing: Any) -> None:
    with pytest.raises(InputError, match="give some text"):
        chatbot.process_streaming(nothing)


def test_leaving_the_loop_stops_all_and_history_holds_what_was_heard(tmp_path: Path) -> None:
    llm = FakeLLM([ANSWER + " And so on." * 500], word_s=0.002)
    with make(llm=llm) as chatbot:
        n_chunks = 0
        for event in chatbot.process_streaming("Hi", save_audio_path=tmp_path / "part.wav"):
            n_chunks += event["type"] == "audio_chunk"
            if n_chunks == 3:
                break
        assert threads() == []
        assert llm.n_words < 1000
        heard = chatbot.history[-1]["content"]
        assert ANSWER.startswith(heard) and "Well of course," in heard and len(heard) < len(ANSWER)
        saved, _ = soundfile.read(tmp_path / "part.wav")
        assert len(saved) % 1920 == 0 and 0 < len(saved) <= 3 * 6 * 1920
        chatbot.llm = EchoLLM()
        assert kinds(list(chatbot.process_streaming("Again")))[-1] == "complete"


class InterruptedAt(FakeGenerator):
    """Another thread interrupts while a frame is made, counted from 1."""

    def __init__(self, n_frames: int) -> None:
        super().__init__()
        self.n_frames, self.n_made = n_frames, 0
        self.thread = threading.Thread()

    def codes_of(self, request: Any, seed: int) -> Any:
        for frame in super().codes_of(request, seed):
            self.n_made += 1
            if self.n_made == self.n_frames:
                self.thread.start()
            if self.n_made >= self.n_frames > 0:
                self.thread.join(0.5)  # in vain once it has told the voice to stop: it waits for the end of this frame
            yield frame


def test_interrupting_from_another_thread_ends_the_turn_with_complete(tmp_path: Path) -> None:
    generator = InterruptedAt(20)
    with make(generator=generator) as chatbot:
        generator.thread = threading.Thread(target=chatbot.interrupt)
        events = list(chatbot.process_streaming("Hi", save_audio_path=tmp_path / "part.wav"))
        complete = events[-1]
        assert complete["type"] == "complete"
        assert complete["finish_reason"] == complete["metrics"]["finish_reason"] == "interrupted"
        assert pick(events, "final_text") == []
        assert 20 <= generator.n_made <= 22, "the frame being made, where the other thread came to its call in time"
        assert threads() == []
        saved, _ = soundfile.read(tmp_path / "part.wav")
        assert len(saved) == sum(len(event["data"]) for event in pick(events, "audio_chunk")) > 0
        generator.n_frames = -1
        assert kinds(list(chatbot.process_streaming("Again")))[-2:] == ["final_text", "complete"]


def test_interrupting_while_the_language_model_thinks_does_not_wait_for_it() -> None:
    inside, gate = threading.Event(), threading.Event()

    class Thinking:
        def stream(self, messages: list[Message]) -> Iterator[str]:
            inside.set()
            assert gate.wait(30)
            yield ANSWER

    with make(llm=Thinking()) as chatbot:
        cut_in = threading.Thread(target=lambda: inside.wait(30) and chatbot.interrupt())
        cut_in.start()
        events = list(chatbot.process_streaming("Hi"))
        assert not gate.is_set(), "the turn is over, and the language model thinks still"
        cut_in.join()
        gate.set()
        assert kinds(events) == ["complete"]
        assert events[0]["time_to_first_audio"] is None
        assert chatbot.history == [], "a turn nobody heard leaves no trace"


def test_interrupting_between_two_events_works_and_without_a_turn_does_nothing(
    chatbot: StreamingConversationalChatbot,
) -> None:
    chatbot.interrupt()
    events = []
    for event in chatbot.process_streaming("Hi"):
        events.append(event)
        if event["type"] == "audio_chunk":
            chatbot.interrupt()
    assert kinds(events)[-1] == "complete"
    assert len(pick(events, "audio_chunk")) == 1
    assert chatbot.history[-1]["content"] == "Well of course,"[: len(chatbot.history[-1]["content"])]


def test_interrupting_while_the_final_text_is_awaited_ends_the_turn() -> None:
    concluding, gate = threading.Event(), threading.Event()

    class Slow(FakeTranscriber):
        def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
            if final:
                concluding.set()
                assert gate.wait(30)
            return super().transcribe(audio_16k, final=final)

    with make(transcriber=Slow(SCRIPT)) as chatbot:
        cut_in = threading.Thread(target=lambda: concluding.wait(30) and chatbot.interrupt())
        cut_in.start()
        events = list(chatbot.process_streaming("Hi"))
        assert not gate.is_set(), "the turn is over, and the recogniser decodes still"
        cut_in.join()
        gate.set()
        assert events[-1]["finish_reason"] == "interrupted"
        assert pick(events, "final_text") == []
        assert chatbot.history[-1]["content"] == ANSWER, "all of it was heard"
        chatbot.asr.close()


def test_a_turn_left_half_read_is_closed_by_the_next(tmp_path: Path, chatbot: StreamingConversationalChatbot) -> None:
    half = chatbot.process_streaming("Hi", save_audio_path=tmp_path / "half.wav")
    while next(half)["type"] != "audio_chunk":
        pass
    unread = chatbot.process_streaming("Nobody reads this", save_audio_path=tmp_path / "unread.wav")
    assert list(half) == []
    assert kinds(list(chatbot.process_streaming("Third")))[-1] == "complete"
    assert list(unread) == []
    assert [message["content"] for message in chatbot.history if message["role"] == "user"] == ["Hi", "Third"]


def test_a_turn_read_by_another_thread_is_not_torn_away() -> None:
    inside, gate = threading.Event(), threading.Event()

    class Held(FakeGenerator):
        def codes_of(self, request: Any, seed: int) -> Any:
            inside.set()
            assert gate.wait(30)
            yield from super().codes_of(request, seed)

    with make(generator=Held()) as chatbot:
        reader = threading.Thread(target=lambda: list(chatbot.process_streaming("Hi")))
        reader.start()
        assert inside.wait(30)
        with pytest.raises(StateError, match=r"interrupt\(\)"):
            chatbot.process_streaming("Me too")
        gate.set()
        chatbot.interrupt()
        reader.join()
        assert kinds(list(chatbot.process_streaming("Now")))[-1] == "complete"


@pytest.mark.parametrize("fail_after", [0, 12])
def test_an_error_of_the_language_model_comes_with_its_cause_and_the_next_turn_works(fail_after: int) -> None:
    with make(llm=FakeLLM([ANSWER], fail_after=fail_after)) as chatbot:
        with pytest.raises(LanguageModelError, match="while answering") as raised:
            list(chatbot.process_streaming("Hi"))
        assert "told to fail" in str(raised.value.__cause__)
        assert threads() == []
        chatbot.llm = EchoLLM()
        events = list(chatbot.process_streaming("And now it works"))
        assert kinds(events)[-2:] == ["final_text", "complete"]


def test_an_error_of_the_voice_ends_the_turn_and_the_next_one_works() -> None:
    with make(generator=FakeGenerator(fails_after=3)) as chatbot:
        with pytest.raises(DeviceError, match="told to fail"):
            list(chatbot.process_streaming("Hi"))
        assert threads() == []
        chatbot.generator = FakeGenerator()
        assert kinds(list(chatbot.process_streaming("Again")))[-1] == "complete"


def test_ctrl_c_leaves_by_the_same_door_as_any_other_end(tmp_path: Path) -> None:
    class Struck(FakeGenerator):
        def codes_of(self, request: Any, seed: int) -> Any:
            for number, frame in enumerate(super().codes_of(request, seed)):
                if len(self.requests) == 2 and number == 8:
                    raise KeyboardInterrupt
                yield frame

    with make(generator=Struck()) as chatbot:
        with pytest.raises(KeyboardInterrupt):
            list(chatbot.process_streaming("Hi", save_audio_path=tmp_path / "part.wav"))
        assert threads() == []
        assert chatbot.history[-1]["content"].startswith("Well of course, I can")
        assert len(soundfile.read(tmp_path / "part.wav")[0]) == 12 * 1920
        assert kinds(list(chatbot.process_streaming("Again")))[-1] == "complete"


@pytest.mark.parametrize(
    "wrong",
    [
        {"chunk_frames": 0},
        {"temperature": float("nan")},
        {"topk": 0},
        {"speaker": -1},
        {"user_speaker": "a"},
        {"max_audio_length_ms": -5},
        {"seed": "x"},
        {"first_words": 2.5},
        {"asr_timeout_s": float("nan")},
    ],
)
def test_an_option_that_cannot_be_is_refused_before_there_is_a_turn(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=name.removeprefix("user_")):
        StreamingConversationalChatbot(generator=FakeGenerator(), llm=FakeLLM(), asr=False, **wrong)


def test_a_plugin_that_needs_more_than_its_name_says_so() -> None:
    with pytest.raises(InputError, match=r"llm plugin 'openai' needs arguments \(missing a required argument: 'model'"):
        StreamingConversationalChatbot(generator=FakeGenerator(), llm="openai", asr=False)


def test_a_chunk_that_the_disk_refused_was_not_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write, sizes = WavWriter.write, []

    def full(self: WavWriter, chunk: Any) -> None:
        sizes.append(len(chunk))
        if len(sizes) == 2:
            raise AudioFileError("no room")
        write(self, chunk)

    monkeypatch.setattr(WavWriter, "write", full)
    with make() as chatbot:
        seen = []
        with pytest.raises(AudioFileError, match="no room"):
            for event in chatbot.process_streaming("Hi", save_audio_path=tmp_path / "a.wav"):
                seen.append(event)
        heard = pick(seen, "audio_chunk")
        assert len(heard) == 1 and len(soundfile.read(tmp_path / "a.wav")[0]) == sizes[0]
        assert chatbot.history[-1]["content"] == "Well of course,"


def test_the_first_chunk_and_the_figure_of_it_tell_one_moment() -> None:
    with make() as chatbot:
        events = list(chatbot.process_streaming("Hi"))
    assert pick(events, "audio_chunk")[0]["t"] == events[-1]["time_to_first_audio"]


def test_what_the_voice_cannot_say_is_told() -> None:
    generator = Generator.load("pocket", device="cpu")
    llm = FakeLLM(["你好"])
    with StreamingConversationalChatbot(generator=generator, llm=llm, asr=False, seed=1) as chatbot:
        *_, complete = chatbot.process_streaming("Hi")
        assert "nothing can be heard of '你好': this voice cannot say it" in complete["notes"]
        assert chatbot.history == []


def test_an_error_of_the_recogniser_does_not_stop_the_speech(caplog: pytest.LogCaptureFixture) -> None:
    with make(transcriber=FakeTranscriber(SCRIPT, fail_at=1)) as chatbot:
        with caplog.at_level(logging.WARNING, "csmkit"):
            events = list(chatbot.process_streaming("Hi"))
        assert sum(len(event["data"]) for event in pick(events, "audio_chunk")) == len(ANSWER.split()) * 2 * 1920
        assert pick(events, "final_text") == []
        assert events[-1]["finish_reason"] == "end_of_speech"
        assert "told to fail at call 1" in events[-1]["metrics"]["asr_error"]
        assert "continues without transcription" in caplog.text
        again = list(chatbot.process_streaming("Again"))
        assert kinds(again)[-2:] == ["final_text", "complete"]
        assert again[-1]["metrics"]["asr_error"] is None


def test_a_transcription_that_takes_too_long_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()

    class Stuck(FakeTranscriber):
        def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
            assert not final or gate.wait(30)
            return super().transcribe(audio_16k, final=final)

    with make(transcriber=Stuck(SCRIPT), asr_timeout_s=0.05) as chatbot:
        events = list(chatbot.process_streaming("Hi"))
        gate.set()
    assert pick(events, "final_text") == []
    assert "TimeoutError" in events[-1]["metrics"]["asr_error"]


def test_without_a_recogniser_there_are_no_texts() -> None:
    with StreamingConversationalChatbot(generator="fake", llm="echo", asr=False) as chatbot:
        events = list(chatbot.process_streaming("Say this to me"))
    assert set(kinds(events)) == {"llm_delta", "llm_response", "clause", "audio_chunk", "complete"}


def test_an_answer_with_nothing_to_say_completes_without_sound() -> None:
    with make(llm=FakeLLM(["👍"])) as chatbot:
        events = list(chatbot.process_streaming("Hi"))
        assert kinds(events)[-1] == "complete"
        assert pick(events, "audio_chunk") == []
        assert events[-1]["metrics"]["rtf"] is None
        assert chatbot.history == []


def test_an_answer_cut_at_its_longest_says_so() -> None:
    with make(max_audio_length_ms=400) as chatbot:
        events = list(chatbot.process_streaming("Hi"))
    assert events[-1]["finish_reason"] == "max_length"


def test_markdown_and_emoji_are_written_but_not_spoken() -> None:
    generator = FakeGenerator()
    with make(llm=FakeLLM(["**Hello** there 😀 my _friend_."]), generator=generator) as chatbot:
        events = list(chatbot.process_streaming("Hi"))
        assert pick(events, "llm_response")[0]["text"] == "**Hello** there 😀 my _friend_."
        assert [request.text for request in generator.requests] == ["Hello there my friend."]
        assert chatbot.history[-1]["content"] == "Hello there my friend."


def test_a_slow_listener_slows_the_work() -> None:
    generator = FakeGenerator()
    with make(generator=generator) as chatbot:
        events = chatbot.process_streaming("Hi")
        while next(events)["type"] != "audio_chunk":
            pass
        time.sleep(0.1)
        assert len(generator.requests) == 1, "no clause is spoken before its time"
        events.close()


def test_the_voice_hears_earlier_turns_only_if_it_is_asked_to() -> None:
    voice = Segment(0, "This is how I sound.", torch.zeros(1920))
    for n_turns, expected in ((0, 1), (1, 1 + 2 + 1)):
        generator = FakeGenerator()
        with make(llm=FakeLLM(["Hello there."]), generator=generator, context_turns=n_turns, voice=[voice]) as chatbot:
            for _ in range(3):
                list(chatbot.process_streaming("Hi"))
        context = generator.requests[-1].context
        assert len(context) == expected
        assert context[0] is voice
        if n_turns:
            assert [(segment.speaker, segment.text) for segment in context[1:]] == [
                (1, "Hi"),
                (0, "Hello there."),
                (1, "Hi"),
            ]
            assert context[2].n_frames == 4


def test_context_that_does_not_fit_loses_its_oldest_turns_but_not_the_voice() -> None:
    class Cramped(FakeGenerator):
        def fit(self, request: Any, n_lead: int = 0) -> Any:
            return replace(request, context=(*request.context[:n_lead], *request.context[n_lead:][-2:]))

    voice = Segment(0, "This is how I sound.", torch.zeros(1920))
    generator = Cramped()
    with make(llm=FakeLLM(["Hello there."]), generator=generator, context_turns=9, voice=[voice]) as chatbot:
        for _ in range(4):
            list(chatbot.process_streaming("Hi"))
    context = generator.requests[-1].context
    assert len(context) == 3 and context[0] is voice and context[-1].text == "Hi"


def test_a_voice_that_leaves_no_room_to_speak_is_refused_before_the_first_turn() -> None:
    class Full(FakeGenerator):
        def fit(self, request: Any, n_lead: int = 0) -> Any:
            assert (request.text, len(request.context), n_lead) == ("Hello.", 1, 1)
            raise ContextOverflowError("voice prompt too long")

    with pytest.raises(ContextOverflowError, match="voice prompt too long"):
        make(generator=Full(), voice=[Segment(0, "This is how I sound.", torch.zeros(1920))])
    with pytest.raises(InputError, match="voice of type Segment: give a list of segments"):
        TurnOptions(voice=Segment(0, "This is how I sound."))  # type: ignore[arg-type]


def test_a_voice_that_cannot_follow_a_recording_refuses_one() -> None:
    generator = FakeGenerator()
    generator.abilities = Abilities(follows_prompt=False)
    with pytest.raises(InputError, match=r"cannot speak like a recording.*speaker= \(--speaker\)"):
        make(generator=generator, voice=[Segment(0, "This is how I sound.", torch.zeros(1920))])
    make(generator=generator).close()


def test_all_speech_is_made_on_the_readers_thread() -> None:
    seen = set()

    class Noting(FakeGenerator):
        def start(self, *given: Any) -> Any:
            seen.add(threading.get_ident())
            return super().start(*given)

    with make(generator=Noting()) as chatbot:
        list(chatbot.process_streaming("Hi"))
    assert seen == {threading.get_ident()}


def test_a_program_that_ends_in_the_middle_of_a_turn_ends_quietly() -> None:
    program = """
from csmkit import StreamingConversationalChatbot, StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.asr.transcriber import Hypothesis
from csmkit.llm.transformers import FakeLLM
asr = StreamingWhisperASR(transcriber=FakeTranscriber(decode_s=0.3))
chatbot = StreamingConversationalChatbot(generator="fake", llm=FakeLLM(["So, word " * 900], word_s=0.01), asr=asr)
events = chatbot.process_streaming("Hi")
while next(events)["type"] != "audio_chunk":
    pass
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_presets_are_named_by_argument_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CSMKIT_PRESET", raising=False)
    assert chat_models().speech == "pocket"
    assert chat_models("sesame").speech == "sesame/csm-1b"
    own = ChatModels(speech="my-voice")
    assert chat_models(own) is own
    monkeypatch.setenv("CSMKIT_PRESET", "sesame")
    assert chat_models().asr_preset == "sesame"
    with pytest.raises(InputError, match="the presets are pocket, sesame"):
        chat_models("shirt")


def test_parts_may_be_named_and_wrong_options_are_refused() -> None:
    with StreamingConversationalChatbot(generator="fake", llm="fake", asr="fake", chunk_frames=2) as chatbot:
        assert chatbot.options.chunk_frames == 2
        assert set(chatbot.load_s) == {"speech", "llm", "asr"}
        assert kinds(list(chatbot.process_streaming("Hi")))[-2:] == ["final_text", "complete"]
    with pytest.raises(InputError, match=r"no setting chunks.*chunk_frames"):
        StreamingConversationalChatbot(generator="fake", llm="fake", asr="fake", chunks=2)
    with pytest.raises(InputError, match="context_turns=-1"):
        TurnOptions(context_turns=-1)


def test_an_own_language_model_is_any_object_that_streams() -> None:
    class Parrot:
        def stream(self, messages: list[Message]) -> Iterator[str]:
            yield "I heard "
            yield messages[-1]["content"]

    with make(llm=Parrot()) as chatbot:
        list(chatbot.process_streaming("you."))
        assert chatbot.history[-1]["content"] == "I heard you."


class ReadingAhead(FakeGenerator):
    """Tells what it was asked to read ahead, and when it had read all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[list[str]] = []
        self.has_read = threading.Event()

    def read_ahead(self, context: Any) -> Iterator[None]:
        self.texts.append([segment.text for segment in context])
        yield from context
        self.has_read.set()


class WaitsForReading(FakeLLM):
    """Writes nothing of its second answer before the generator has read the conversation."""

    def __init__(self, generator: ReadingAhead) -> None:
        super().__init__(["Well. Good.", "Fine."])
        self._generator = generator

    def stream(self, messages: Any) -> Iterator[str]:
        if len(messages) > 2:
            assert self._generator.has_read.wait(10), "both would wait for each other for ever"
        yield from super().stream(messages)


def test_the_conversation_is_read_while_the_language_model_has_not_written_a_word() -> None:
    generator = ReadingAhead()
    with make(llm=WaitsForReading(generator), generator=generator, context_turns=2) as chatbot:
        list(chatbot.process_streaming("Hello!"))
        generator.has_read.clear()
        list(chatbot.process_streaming("And you?"))
    said = [[segment.text for segment in request.context] for request in generator.requests]
    assert generator.texts == [said[0], said[-1]], "what the first clause of each answer follows"
    assert said[-1] == ["Hello!", "Well. Good.", "And you?"]
