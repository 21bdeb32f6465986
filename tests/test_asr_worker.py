"""The streaming recogniser: what the producer, the worker and the reader may rely on."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import soxr

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import RATE_HZ, FakeTranscriber, Hypothesis, Transcript, Word
from csmkit.audio import SAMPLE_RATE
from csmkit.errors import CheckpointNotFoundError, InputError, StateError, TranscriptionError

SCRIPT = "the quick brown fox jumps over the lazy dog and runs far away"


def sound(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


def recogniser_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "csmkit-asr"}


class GatedTranscriber(FakeTranscriber):
    """Decodes only while the test holds the gate open."""

    def __init__(self, script: str = SCRIPT) -> None:
        super().__init__(script)
        self.gate = threading.Event()
        self.inside = threading.Event()
        self.heard: list[np.ndarray] = []

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        self.inside.set()
        self.gate.wait()
        self.heard.append(audio_16k.copy())
        return super().transcribe(audio_16k, final=final)


@pytest.fixture
def gated() -> Iterator[tuple[StreamingWhisperASR, GatedTranscriber]]:
    transcriber = GatedTranscriber()
    with StreamingWhisperASR(transcriber=transcriber, queue_size=4, max_audio_s=8, duty=1.0) as asr:
        yield asr, transcriber
        transcriber.gate.set()


def feed(asr: StreamingWhisperASR, seconds: float, chunk_s: float = 0.48) -> list[Transcript]:
    """Put chunks one by one, each after the one before was read; the partials on the way."""
    partials = []
    whole = sound(seconds)
    step = round(chunk_s * SAMPLE_RATE)
    for start in range(0, len(whole), step):
        assert asr.put_audio_chunk(whole[start : start + step])
        assert asr.wait_until_read()
        partials.append(asr.get_latest_partial())
    return partials


def test_partials_come_while_sound_arrives_and_the_final_holds_all() -> None:
    with StreamingWhisperASR(transcriber=FakeTranscriber(SCRIPT), duty=1.0) as asr:
        asr.start_processing()
        assert asr.get_latest_partial() == ""
        partials = feed(asr, 4.8)
        asr.finish()
        final = asr.get_final()
    assert partials[0] == "the"
    assert len(set(partials)) >= len(partials) - 1, "a new partial for about every chunk"
    assert final == "the quick brown fox jumps over the lazy dog and runs far"
    assert final.complete
    assert final.words[-1].text == "far"
    assert final.audio_s == pytest.approx(4.8)
    assert final.revised == 0


def test_committed_text_is_append_only_and_lags_behind_the_tentative_tail() -> None:
    with StreamingWhisperASR(transcriber=FakeTranscriber(SCRIPT), duty=1.0) as asr:
        asr.start_processing()
        partials = feed(asr, 4.8)
    for before, after in pairwise(partials):
        assert after.committed.startswith(before.committed)
    assert all(partial == f"{partial.committed} {partial.tentative}".strip() for partial in partials)
    assert partials[-1].committed.startswith("the quick brown fox")
    assert partials[-1].tentative


def test_a_transcript_is_a_plain_text_that_does_not_change() -> None:
    transcript = Transcript("hello", "there")
    assert transcript == "hello there"
    assert type(transcript.text) is str
    with pytest.raises(AttributeError, match="does not change"):
        transcript.committed = "bye"


def test_put_never_waits_for_a_decode(gated: tuple[StreamingWhisperASR, GatedTranscriber]) -> None:
    asr, transcriber = gated
    asr.start_processing()
    assert asr.put_audio_chunk(sound(0.2)) and transcriber.inside.wait()
    assert all(asr.put_audio_chunk(sound(0.08)) for _ in range(60))
    assert not transcriber.heard, "the decode that began before them waits for the gate still"
    assert asr.stats()["received_s"] == pytest.approx(5.0)


def test_chunks_that_find_no_slot_share_one_and_nothing_is_lost(
    gated: tuple[StreamingWhisperASR, GatedTranscriber],
) -> None:
    asr, transcriber = gated
    asr.start_processing()
    whole = sound(4.0)
    for chunk in np.array_split(whole, 25):
        asr.put_audio_chunk(chunk)
        transcriber.inside.wait()
    assert asr.stats()["n_pending"] == 4
    assert asr.stats()["n_coalesced"] == 20
    asr.finish()
    transcriber.gate.set()
    assert asr.get_final().complete
    expected = soxr.resample(whole, SAMPLE_RATE, RATE_HZ)
    np.testing.assert_array_equal(transcriber.heard[-1], expected)


def test_a_slow_recogniser_gives_fewer_partials_but_the_same_final(
    gated: tuple[StreamingWhisperASR, GatedTranscriber],
) -> None:
    asr, transcriber = gated
    with StreamingWhisperASR(transcriber=FakeTranscriber(SCRIPT), duty=1.0) as quick:
        quick.start_processing()
        partials = feed(quick, 4.0, chunk_s=0.2)
        quick.finish()
        final = quick.get_final()
        assert len(partials) == 20 and quick.stats()["n_decodes"] == 21
    asr.start_processing()
    for chunk in np.array_split(sound(4.0), 20):
        asr.put_audio_chunk(chunk)
        transcriber.inside.wait()
    asr.finish()
    transcriber.gate.set()
    assert asr.get_final() == final != ""
    assert asr.stats()["n_decodes"] == 2, "the one that took as long as all the sound, and the final"


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_the_duty_limit_leaves_the_processor_to_the_generator() -> None:
    clock = Clock()

    class Taking20Ms(FakeTranscriber):
        def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
            clock.now_s += 0.020
            return super().transcribe(audio_16k, final=final)

    for duty, rest_s in ((1.0, 0.0), (0.5, 0.020), (0.2, 0.080)):
        with StreamingWhisperASR(transcriber=Taking20Ms(SCRIPT), duty=duty, clock=clock) as asr:
            asr.start_processing()
            asr.put_audio_chunk(sound(0.5))
            asr.wait_until_read()
            assert asr.stats()["n_decodes"] == 1
            for _ in range(10 if rest_s else 1):  # sound that comes while the clock stands within the rest
                clock.now_s += rest_s / 11
                asr.put_audio_chunk(sound(0.1))
            if rest_s:
                clock.now_s += rest_s / 11 + 1e-9  # the rest is over; nothing more is put, and the worker looks again
            asr.wait_until_read()
            first, second = asr.passes()[:2]
            assert second.started - first.ended >= rest_s * (1 - 1e-9)
            n_decodes = asr.stats()["n_decodes"]
            asr.finish()
            asr.get_final()
            assert asr.stats()["n_decodes"] <= n_decodes + 2, "the final comes without a rest"


def test_sound_past_the_limit_is_rejected_counted_and_the_final_says_so() -> None:
    with StreamingWhisperASR(transcriber=FakeTranscriber(SCRIPT), max_audio_s=2) as asr:
        asr.start_processing()
        assert asr.put_audio_chunk(sound(1.9))
        assert not asr.put_audio_chunk(sound(0.2))
        assert not asr.put_audio_chunk(sound(0.05)), "a hole in the sound would be worse than an end"
        asr.finish()
        final = asr.get_final()
        stats = asr.stats()
    assert not final.complete
    assert final == "the quick brown fox"
    assert stats["rejected_s"] == pytest.approx(0.25)
    assert stats["received_s"] == pytest.approx(2.15)
    assert stats["n_rejected"] == 2


def test_sound_after_the_finish_is_rejected_and_counted() -> None:
    with StreamingWhisperASR(transcriber=FakeTranscriber(SCRIPT)) as asr:
        asr.start_processing()
        asr.put_audio_chunk(sound(1.0))
        asr.finish()
        asr.finish()
        assert not asr.put_audio_chunk(sound(0.5))
        assert asr.get_final() == asr.get_final() == "the quick"
        assert asr.stats()["n_rejected"] == 1


def test_the_same_object_takes_the_next_utterance_without_loading_again() -> None:
    transcriber, before = FakeTranscriber(SCRIPT), recogniser_threads()
    with StreamingWhisperASR(transcriber=transcriber) as asr:
        finals = []
        for seconds in (1.0, 2.0):
            asr.start_processing()
            asr.put_audio_chunk(sound(seconds))
            asr.finish()
            finals.append(asr.get_final())
        threads = recogniser_threads() - before
    assert finals == ["the quick", "the quick brown fox jumps"]
    assert len(threads) == 1


def test_an_utterance_without_sound_has_an_empty_final() -> None:
    transcriber = FakeTranscriber(SCRIPT)
    with StreamingWhisperASR(transcriber=transcriber) as asr:
        for chunks in ([], [np.zeros(0, np.float32)], [sound(0.05)]):
            asr.start_processing()
            for chunk in chunks:
                assert asr.put_audio_chunk(chunk)
            asr.finish()
            final = asr.get_final()
            assert final == "" and final.complete
    assert transcriber.n_calls == 0, "less than a tenth of a second is not decoded"


def test_a_timeout_leaves_the_state_usable(gated: tuple[StreamingWhisperASR, GatedTranscriber]) -> None:
    asr, transcriber = gated
    asr.start_processing()
    asr.put_audio_chunk(sound(1.0))
    asr.finish()
    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        asr.get_final(timeout=0.05)
    transcriber.gate.set()
    assert asr.get_final() == "the quick"


def test_an_error_in_the_worker_reaches_the_reader_with_its_cause_and_not_the_producer() -> None:
    with StreamingWhisperASR(transcriber=FakeTranscriber(SCRIPT, fail_at=2), duty=1.0) as asr:
        asr.start_processing()
        feed(asr, 0.48)
        asr.put_audio_chunk(sound(0.5))
        asr.wait_until_read()
        assert not asr.put_audio_chunk(sound(0.01))
        asr.finish()
        for ask in (asr.get_latest_partial, asr.get_final):
            with pytest.raises(TranscriptionError, match="told to fail at call 2") as raised:
                ask()
            assert isinstance(raised.value.__cause__, RuntimeError)
        assert asr.stats()["n_rejected"] >= 1
        asr.start_processing()
        asr.put_audio_chunk(sound(1.0))
        asr.finish()
        assert asr.get_final() == "the quick", "a new worker takes the next utterance"


def test_a_missing_model_is_an_error_of_start_processing(tmp_path: object) -> None:
    with (
        StreamingWhisperASR(f"{tmp_path}/nowhere") as asr,
        pytest.raises(CheckpointNotFoundError, match="no Whisper model"),
    ):
        asr.start_processing()


def test_cancel_returns_at_once_and_the_next_utterance_is_clean(
    gated: tuple[StreamingWhisperASR, GatedTranscriber],
) -> None:
    asr, transcriber = gated
    asr.cancel()
    asr.start_processing()
    asr.put_audio_chunk(sound(3.0))
    transcriber.inside.wait()
    asr.cancel()
    assert not transcriber.heard, "it did not wait for the decode, which waits for the gate"
    assert not asr.put_audio_chunk(sound(0.1))
    with pytest.raises(StateError, match="cancelled"):
        asr.get_final()
    asr.start_processing()
    asr.put_audio_chunk(sound(1.0))
    asr.finish()
    transcriber.gate.set()
    assert asr.get_final() == "the quick"


def test_cancelling_wakes_whoever_waits_for_the_final(gated: tuple[StreamingWhisperASR, GatedTranscriber]) -> None:
    asr, _ = gated
    asr.start_processing()
    asr.put_audio_chunk(sound(1.0))
    asr.finish()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(asr.get_final)
        asr.cancel()
        with pytest.raises(StateError, match="cancelled"):
            waiting.result()


def test_calls_in_the_wrong_order_say_what_to_call() -> None:
    with StreamingWhisperASR(transcriber=FakeTranscriber()) as asr:
        for call in (asr.finish, asr.get_latest_partial, asr.get_final, asr.stats):
            with pytest.raises(StateError, match="call start_processing"):
                call()
        with pytest.raises(StateError, match="call start_processing"):
            asr.put_audio_chunk(sound(0.1))
        asr.start_processing()
        with pytest.raises(StateError, match="call finish"):
            asr.get_final()
        with pytest.raises(StateError, match=r"get_final\(\) or cancel\(\)"):
            asr.start_processing()


def test_closing_joins_the_thread_and_may_be_repeated() -> None:
    before = recogniser_threads()
    asr = StreamingWhisperASR(transcriber=FakeTranscriber())
    asr.close()
    asr.start_processing()
    assert len(recogniser_threads() - before) == 1
    asr.close()
    asr.close()
    assert not recogniser_threads() - before
    asr.start_processing()
    asr.finish()
    assert asr.get_final() == ""
    asr.close()


def test_an_object_that_is_dropped_takes_its_thread_along() -> None:
    before = recogniser_threads()
    asr = StreamingWhisperASR(transcriber=FakeTranscriber())
    asr.start_processing()
    (thread,) = recogniser_threads() - before
    gone = weakref.ref(asr)
    del asr
    gc.collect()
    assert gone() is None
    thread.join()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queue_size": 0}, "queue_size=0"),
        ({"queue_size": 2.5}, r"queue_size=2\.5"),
        ({"max_audio_s": 0}, "max_audio_s=0"),
        ({"duty": 0}, "duty=0"),
        ({"duty": 1.5}, r"duty=1\.5"),
    ],
)
def test_parameters_out_of_their_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StreamingWhisperASR(**arguments)


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (np.full(2400, np.nan, np.float32), "NaN"),
        (np.zeros((9, 9, 9), np.float32), "shape"),
        (np.zeros(2400, np.int32), "int32"),
    ],
)
def test_chunks_that_are_no_sound_are_refused_at_the_call(chunk: np.ndarray, message: str) -> None:
    with StreamingWhisperASR(transcriber=FakeTranscriber()) as asr:
        asr.start_processing()
        with pytest.raises(InputError, match=message):
            asr.put_audio_chunk(chunk)


def test_the_caller_may_reuse_its_buffer(gated: tuple[StreamingWhisperASR, GatedTranscriber]) -> None:
    asr, transcriber = gated
    asr.start_processing()
    buffer = sound(1.0)
    expected = soxr.resample(buffer, SAMPLE_RATE, RATE_HZ)
    asr.put_audio_chunk(buffer)
    buffer[:] = 0
    asr.finish()
    transcriber.gate.set()
    asr.get_final()
    np.testing.assert_array_equal(transcriber.heard[-1], expected)


class LevelTranscriber:
    """Reads word numbers that were written into the sound as levels, in a window shorter than the sound."""

    window_s = 3.0

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        assert len(audio_16k) <= self.window_s * RATE_HZ
        step = RATE_HZ // 100
        levels = np.round(audio_16k[: len(audio_16k) // step * step].reshape(-1, step).mean(axis=1) * 50).astype(int)
        words: list[Word] = []
        edges = [0, *(np.flatnonzero(np.diff(levels)) + 1), len(levels)]
        for start, end in pairwise(edges):
            if levels[start] and end - start > 5:
                words.append(Word(f"w{levels[start]}", start / 100, end / 100))
        return Hypothesis(" ".join(word.text for word in words), tuple(words))


def test_partials_and_final_of_sound_longer_than_the_window_miss_and_repeat_no_word() -> None:
    levels = np.array([value for k in range(1, 21) for value in (k, k, 0)], np.float32) / 50
    whole = np.repeat(levels, SAMPLE_RATE // 10 * 2)  # 20 words, one each 0.6 s
    with StreamingWhisperASR(transcriber=LevelTranscriber(), duty=1.0) as asr:
        asr.start_processing()
        for chunk in np.array_split(whole, 30):
            asr.put_audio_chunk(chunk)
            asr.wait_until_read()
        partial = asr.get_latest_partial()
        asr.finish()
        final = asr.get_final()
    expected = " ".join(f"w{k}" for k in range(1, 21))
    assert final == expected
    assert partial == expected
    assert final.words[-1].start_s == pytest.approx(19 * 0.6, abs=0.1)
