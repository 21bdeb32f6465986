"""The worker under pressure: bursts, slow, jittery, failing and hanging recognisers, long sound, many utterances."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import psutil
import pytest

from csmkit.asr.directory import NAMES
from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber, Hypothesis, Transcript
from csmkit.asr.whisper import WhisperTranscriber
from csmkit.audio import SAMPLE_RATE
from csmkit.errors import InputError, TranscriptionError
from csmkit.speech.generator import Generator

SENTENCES = ("good morning, how are you today?", "the weather is nice and warm.", "would you like a cup of tea?")
PAUSE = np.zeros(SAMPLE_RATE // 4, np.float32)
SCRIPT = " ".join(f"w{k}" for k in range(200))
CHUNK_S = 0.48


def noise(seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Three sentences of the pocket voice, with pauses."""
    voice = Generator.load("pocket", device="cpu")
    parts = [part for text in SENTENCES for part in (voice.generate(text, 0, seed=3).numpy(), PAUSE)]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def tiny() -> Iterator[StreamingWhisperASR]:
    with StreamingWhisperASR("tiny.en") as asr:
        asr.prepare()
        yield asr


def hear(
    asr: StreamingWhisperASR, sound: np.ndarray, caught_up: Callable[[int], bool] = lambda number: False
) -> tuple[Transcript, list[Transcript]]:
    """Put sound in chunks, without waiting for the recogniser but after the chunks where it is to have caught up.

    Args:
        asr: a recogniser without an open utterance.
        sound: ``(samples,)`` at 24 kHz.
        caught_up: whether to wait for the recogniser after the chunk of this number.

    Returns:
        The final, and the partial text after each chunk.
    """
    asr.start_processing()
    partials = []
    size = round(CHUNK_S * SAMPLE_RATE)
    for number, start in enumerate(range(0, len(sound), size)):
        assert asr.put_audio_chunk(sound[start : start + size])
        if caught_up(number):
            asr.wait_until_read()
        partials.append(asr.get_latest_partial())
    asr.finish()
    return asr.get_final(), partials


@pytest.mark.parametrize("name", NAMES)
def test_a_burst_gives_the_text_that_the_whole_recording_gives(name: str, speech: np.ndarray):
    with StreamingWhisperASR(name) as asr:
        final, _ = hear(asr, speech)
        stats = asr.stats()
        calm = asr.transcribe(speech)
    assert final.complete and final == calm and len(final.split()) > 10
    assert stats["rejected_s"] == 0 and stats["pending_s"] == 0
    assert stats["received_s"] == pytest.approx(len(speech) / SAMPLE_RATE)
    assert final.audio_s == pytest.approx(len(speech) / SAMPLE_RATE)


class Hanging(FakeTranscriber):
    """Hangs in a call until it is let go."""

    def __init__(self, at: int) -> None:
        super().__init__(SCRIPT)
        self.at, self.inside, self.gate = at, threading.Event(), threading.Event()

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        if self.n_calls + 1 == self.at:
            self.inside.set()
            self.gate.wait()
        return super().transcribe(audio_16k, final=final)


def test_a_long_decode_makes_fewer_partials_and_holds_nobody_up():
    transcriber = Hanging(at=1)
    with StreamingWhisperASR(transcriber=transcriber, duty=1.0, queue_size=3) as asr:
        asr.start_processing()
        assert asr.put_audio_chunk(noise(CHUNK_S)) and transcriber.inside.wait()
        for chunk in np.array_split(noise(24 - CHUNK_S), 50):
            assert asr.put_audio_chunk(chunk)
        assert transcriber.n_calls == 0, "every chunk was taken during the first decode"
        asr.finish()
        transcriber.gate.set()
        final, stats = asr.get_final(), asr.stats()
    assert str(final).split() == SCRIPT.split()[:60] and final.complete
    assert stats["n_decodes"] == 2 and stats["rejected_s"] == 0


class Patchy(FakeTranscriber):
    """Now and then finds no word at all."""

    def __init__(self) -> None:
        super().__init__(SCRIPT)
        self._random = np.random.default_rng(0)

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        deaf = not final and self._random.random() < 0.25
        return Hypothesis() if deaf else super().transcribe(audio_16k, final=final)


def test_a_recogniser_that_falls_behind_and_finds_nothing_at_times_takes_nothing_back():
    random = np.random.default_rng(1)
    with StreamingWhisperASR(transcriber=Patchy(), duty=1.0) as asr:
        final, partials = hear(asr, noise(12), lambda number: random.random() < 0.5)
        assert str(final).split() == SCRIPT.split()[:30] and final.revised == 0
    for before, after in pairwise(partials):
        assert after.committed.startswith(before.committed)
        assert after.audio_s >= before.audio_s
    assert any(partial.committed for partial in partials)


def test_a_recogniser_that_hangs_holds_up_neither_producer_nor_end(caplog: pytest.LogCaptureFixture):
    transcriber = Hanging(at=1)
    asr = StreamingWhisperASR(transcriber=transcriber, duty=1.0)
    try:
        asr.start_processing()
        asr.put_audio_chunk(noise(1))
        transcriber.inside.wait()
        for _ in range(20):
            assert asr.put_audio_chunk(noise(0.1))
        assert asr.get_latest_partial() == ""
        asr.finish()
        with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
            asr.get_final(timeout=0.05)
        asr.cancel()
        with caplog.at_level(logging.WARNING, "csmkit"):
            asr.close(timeout=0.05)
        assert "did not end in time: its thread is left running" in caplog.text
        transcriber.at = 0
        asr.start_processing()
        asr.put_audio_chunk(noise(2))
        asr.finish()
        assert asr.get_final() == "w0 w1 w2 w3 w4", "another thread takes the next utterance"
    finally:
        transcriber.gate.set()
        asr.close()


class CrashingOnce:
    """A Whisper whose second call fails."""

    def __init__(self, whisper: WhisperTranscriber) -> None:
        self.whisper, self.window_s, self.n_calls = whisper, whisper.window_s, 0

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        self.n_calls += 1
        if self.n_calls == 2:
            raise RuntimeError("the decoder fell over")
        return self.whisper.transcribe(audio_16k, final=final)


def test_a_crash_in_the_middle_of_an_utterance_is_an_error_and_the_next_utterance_is_transcribed(speech: np.ndarray):
    with StreamingWhisperASR(transcriber=CrashingOnce(WhisperTranscriber("tiny.en")), duty=1.0) as asr:
        asr.start_processing()
        for start in (0, 11_520):
            assert asr.put_audio_chunk(speech[start : start + 11_520])
            asr.wait_until_read()
        asr.finish()
        with pytest.raises(TranscriptionError, match="the decoder fell over") as raised:
            asr.get_final()
        assert isinstance(raised.value.__cause__, RuntimeError)
        assert not asr.put_audio_chunk(speech[:11_520])
        final, _ = hear(asr, speech)
        assert final.complete and final == asr.transcribe(speech)


def test_a_minute_of_speech_is_heard_to_its_end(tiny: StreamingWhisperASR, speech: np.ndarray):
    n_rounds = -(-60 * SAMPLE_RATE // len(speech))
    minute = np.tile(speech, n_rounds)[: 60 * SAMPLE_RATE]
    final, partials = hear(tiny, minute, lambda number: number % 10 == 9)
    assert final.complete and final.audio_s == pytest.approx(60)
    n_said = len(" ".join(SENTENCES).split()) * len(minute) / len(speech)
    assert 0.7 * n_said <= len(final.split()) <= 1.3 * n_said, "no window is missed, none read twice"
    assert final.words[-1].end_s > 55 and len(partials) == 125
    assert all(a.start_s <= b.start_s for a, b in pairwise(final.words)), "times grow through all windows"
    assert partials[-1].audio_s > 0


def test_sound_that_is_none_is_refused_and_what_follows_is_heard(tiny: StreamingWhisperASR, speech: np.ndarray):
    tiny.start_processing()
    broken = speech[:4800].copy()
    broken[100] = np.nan
    with pytest.raises(InputError, match="NaN"):
        tiny.put_audio_chunk(broken)
    with pytest.raises(InputError, match="a chunk at 16000 Hz: the recogniser takes 24000 Hz, resample the whole"):
        tiny.put_audio_chunk(speech[:4800], sample_rate=16_000)
    assert tiny.put_audio_chunk(speech[: 2 * SAMPLE_RATE], sample_rate=SAMPLE_RATE)
    tiny.finish()
    tiny.finish()
    assert not tiny.put_audio_chunk(speech)
    final = tiny.get_final()
    assert final and not final.complete, "a chunk came after the end"
    assert tiny.stats()["received_s"] == pytest.approx(2 + len(speech) / SAMPLE_RATE)


def test_more_sound_than_it_takes_is_refused_as_a_whole():
    with StreamingWhisperASR(transcriber=FakeTranscriber(SCRIPT), max_audio_s=2) as asr:
        with pytest.raises(InputError, match=r"3\.0 s of sound: this recogniser takes 2 s at a time"):
            asr.transcribe(noise(3))
        assert asr.transcribe(noise(2)) == "w0 w1 w2 w3 w4"


def test_no_sound_at_all_is_an_empty_text(tiny: StreamingWhisperASR):
    for chunks in ([], [np.zeros(2400, np.float32)] * 10):
        tiny.start_processing()
        for chunk in chunks:
            tiny.put_audio_chunk(chunk)
        tiny.finish()
        assert tiny.get_final() == ""


def test_a_cancelled_utterance_leaves_nothing_to_the_next(tiny: StreamingWhisperASR, speech: np.ndarray):
    expected = tiny.transcribe(speech)
    for n_chunks in (1, 4):
        tiny.start_processing()
        for start in range(0, n_chunks * 11_520, 11_520):
            tiny.put_audio_chunk(noise(1)[:11_520] + speech[start : start + 11_520])
        tiny.cancel()
        assert tiny.transcribe(speech) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_the_recogniser_stands_back_behind_the_voice_and_the_caller_keeps_his_place():
    seen = []

    class Noting(FakeTranscriber):
        def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
            seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            return super().transcribe(audio_16k, final=final)

    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with StreamingWhisperASR(transcriber=Noting()) as asr:
        asr.transcribe(noise(1))
    assert set(seen) == {min(19, mine + 10)}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == mine


def test_a_hundred_utterances_need_no_more_threads_and_memory_than_twenty(
    tiny: StreamingWhisperASR, speech: np.ndarray
):
    process, sizes, threads = psutil.Process(), [], []
    sound, texts = speech[:SAMPLE_RATE], set()
    for _ in range(100):
        tiny.start_processing()
        for chunk in np.array_split(sound, 4):
            tiny.put_audio_chunk(chunk)
        tiny.finish()
        texts.add(str(tiny.get_final()))
        sizes.append(process.memory_info().rss)
        threads.append(process.num_threads())
    gc.collect()
    assert len(texts) == 1, "each of them is heard as if it were the first"
    assert max(threads[20:]) == threads[20]
    assert np.median(sizes[-10:]) - np.median(sizes[20:30]) < 10e6
