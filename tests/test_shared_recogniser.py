"""One recogniser for several chatbots and streams: each gets its own text, and nobody closes what is not his."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import Any

import numpy as np
import pytest

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import RATE_HZ, FakeTranscriber, Hypothesis
from csmkit.audio import SAMPLE_RATE
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import StateError
from csmkit.lab.trials.trial import TrialRun, TrialSettings
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.generator import FakeGenerator

SCRIPT = " ".join(f"w{k}" for k in range(40))
SHORT, LONG = "one two three four.", "one two three four five six seven eight nine."


def words(n: int) -> str:
    return " ".join(SCRIPT.split()[:n])


def noise(seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


@pytest.fixture
def asr() -> Iterator[StreamingWhisperASR]:
    with StreamingWhisperASR(transcriber=FakeTranscriber(SCRIPT, word_s=0.16), duty=1.0) as asr:
        yield asr


def chatbot(asr: Any, answer: str, **options: Any) -> StreamingConversationalChatbot:
    return StreamingConversationalChatbot(generator=FakeGenerator(), llm=FakeLLM([answer]), asr=asr, **options)


def final(events: list[Any]) -> list[str]:
    return [event["text"] for event in events if event["type"] == "final_text"]


def test_two_chatbots_that_speak_in_turns_each_read_their_own_text(asr: StreamingWhisperASR):
    with chatbot(asr, SHORT) as one, chatbot(asr, LONG) as other:
        turns = zip_longest(one.process_streaming("Hi"), other.process_streaming("Hi"))
        told = list(zip(*turns, strict=True))
    ends = [[event for event in events if event is not None] for events in told]
    assert [final(events) for events in ends] == [[words(4)], [words(9)]]
    assert all(events[-1]["metrics"]["asr_error"] is None for events in ends)


def test_chatbots_in_threads_of_their_own_share_one_model(asr: StreamingWhisperASR):
    def converse(number: int) -> list[str]:
        with chatbot(asr, " ".join(["word"] * number) + ".", most_words=40, first_words=40) as bot:
            return [text for _ in range(5) for text in final(list(bot.process_streaming("Hi")))]

    before = set(threading.enumerate())
    with ThreadPoolExecutor() as pool:
        texts = list(pool.map(converse, range(2, 8)))
    assert texts == [[words(number)] * 5 for number in range(2, 8)]
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["csmkit-asr"]


def test_a_chatbot_does_not_close_the_recogniser_that_it_was_given(asr: StreamingWhisperASR):
    one, other = chatbot(asr, SHORT), chatbot(asr, LONG)
    events = other.process_streaming("Hi")
    begun = [next(events) for _ in range(4)]
    one.close()
    assert final([*begun, *events]) == [words(9)]
    assert final(list(one.process_streaming("Hi"))) == [words(4)]


def test_a_chatbot_closes_the_recogniser_that_it_loaded():
    before = set(threading.enumerate())
    bot = chatbot("fake", SHORT)
    (own,) = set(threading.enumerate()) - before
    bot.close()
    assert not own.is_alive()


def test_cutting_one_chatbot_short_leaves_the_text_of_the_other(asr: StreamingWhisperASR):
    with chatbot(asr, LONG, chunk_frames=1) as one, chatbot(asr, LONG) as other:
        kept = other.process_streaming("Hi")
        begun = [next(kept) for _ in range(5)]
        for event in one.process_streaming("Hi"):
            if event["type"] == "audio_chunk":
                one.interrupt()
        assert event["finish_reason"] == "interrupted"
        assert final([*begun, *kept]) == [words(9)]


def test_spoken_input_and_an_answer_are_transcribed_side_by_side(asr: StreamingWhisperASR):
    with chatbot(asr, LONG) as one, chatbot(asr, SHORT) as other:
        answer = one.process_streaming("Hi")
        begun = [next(answer) for _ in range(4)]
        heard = list(other.process_streaming_audio(noise(0.8)))
        assert heard[0]["text"] == words(5) and final(heard) == [words(4)]
        assert final([*begun, *answer]) == [words(9)]


def test_two_trials_that_run_at_once_each_measure_their_own_text(asr: StreamingWhisperASR):
    runs = [TrialRun(FakeGenerator(), text, TrialSettings(codec="fake", seed=1), asr) for text in (SHORT, LONG)]
    for _ in zip_longest(*runs):
        pass
    assert [run.result(()).row["transcript"] for run in runs] == [words(4), words(9)]


def test_the_methods_of_the_recogniser_and_its_streams_do_not_touch_each_other(asr: StreamingWhisperASR):
    asr.start_processing()
    asr.put_audio_chunk(noise(0.32))
    streams = [asr.stream() for _ in range(3)]
    for number, stream in enumerate(streams):
        stream.put_audio_chunk(noise(0.16 * (number + 3)))
    streams[1].cancel()  # before its end, which the worker might otherwise have decoded already
    for stream in streams[::2]:
        stream.finish()
    assert asr.transcribe(noise(0.16)) == words(1)
    assert [stream.get_final() for stream in streams[::2]] == [words(3), words(5)]
    with pytest.raises(StateError, match="cancelled"):
        streams[1].get_final()
    asr.finish()
    assert asr.get_final() == words(2)


class Gated(FakeTranscriber):
    """Decodes only while its gate is open."""

    def __init__(self) -> None:
        super().__init__(SCRIPT, word_s=0.16)
        self.inside, self.gate = threading.Event(), threading.Event()
        self.lengths: list[int] = []

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        self.inside.set()
        self.gate.wait()
        self.lengths.append(len(audio_16k))
        return super().transcribe(audio_16k, final=final)


def test_streams_take_turns_and_a_finished_one_goes_first():
    transcriber = Gated()
    with StreamingWhisperASR(transcriber=transcriber, duty=1.0) as asr:
        busy, early, late, done = (asr.stream() for _ in range(4))
        busy.put_audio_chunk(noise(0.5))
        transcriber.inside.wait()  # the worker is in a decode: what comes now waits
        early.put_audio_chunk(noise(1.0))
        late.put_audio_chunk(noise(1.5))
        done.put_audio_chunk(noise(2.0))
        done.finish()
        transcriber.gate.set()
        assert done.get_final() == words(12)
        for stream in (busy, early, late):
            stream.finish()
            stream.get_final()
    seconds = [length / RATE_HZ for length in transcriber.lengths]
    assert seconds[:2] == pytest.approx([0.5, 2.0], abs=0.05)
    assert sorted(set(np.round(seconds, 1))) == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize("queue_size", [1, 50])
def test_behind_a_blocked_recogniser_at_most_as_many_chunks_wait_as_the_queue_has_places(queue_size: int):
    transcriber, sound = Gated(), noise(20)
    with StreamingWhisperASR(transcriber=transcriber, queue_size=queue_size, max_audio_s=3600) as asr:
        asr.start_processing()
        asr.put_audio_chunk(sound[:4800])
        transcriber.inside.wait()
        tracemalloc.start()
        for start in range(4800, len(sound), 24):  # 20 000 chunks of a millisecond
            assert asr.put_audio_chunk(sound[start : start + 24])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        stats = asr.stats()
        assert stats["n_pending"] == queue_size
        assert stats["n_coalesced"] == (len(sound) - 4800) / 24 - queue_size
        assert peak < 3 * sound.nbytes, "the sound itself, and room for it to grow"
        asr.finish()
        transcriber.gate.set()
        text = asr.get_final()
    assert text.complete and text.audio_s == pytest.approx(20), "nothing is lost"
    assert transcriber.lengths[-1] == pytest.approx(20 * RATE_HZ, abs=1)


def test_an_utterance_takes_memory_for_the_sound_that_came_and_not_for_what_might_come():
    transcriber = Gated()
    transcriber.gate.set()
    with StreamingWhisperASR(transcriber=transcriber, max_audio_s=3600) as asr:
        asr.prepare()
        tracemalloc.start()
        streams = [asr.stream() for _ in range(10)]
        for stream in streams:
            stream.put_audio_chunk(noise(0.5))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 5e6
