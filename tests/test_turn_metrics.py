"""The row of a turn: the same keys whatever happens, each defined in the docs, and right where the truth is known."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from set_time import Clock, Timed
from torch import Tensor

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.chat.settings import TurnOptions
from csmkit.chat.turn_row import turn_notes
from csmkit.errors import InputError
from csmkit.lab.metrics.levels import audible_onset_ms
from csmkit.llm.transformers import FakeLLM
from csmkit.mimi.codecs import CodecStream, FakeCodec
from csmkit.speech.generator import FakeGenerator
from csmkit.timing import Arrivals, Prebuffer

ANSWER = "Well of course, I can help you with that today. It is an easy thing to do."
DOCS = Path(__file__).parents[1] / "docs" / "metrics.md"


def chatbot(
    transcriber: FakeTranscriber | None = None, generator: FakeGenerator | None = None, llm: Any = None, **changes: Any
) -> StreamingConversationalChatbot:
    asr = StreamingWhisperASR(transcriber=transcriber or FakeTranscriber(ANSWER, word_s=0.16), duty=1.0)
    voice = generator or FakeGenerator()
    return StreamingConversationalChatbot(generator=voice, llm=llm or FakeLLM([ANSWER]), asr=asr, **changes)


def last(events: Iterator[Any]) -> Any:
    return list(events)[-1]


def turns() -> dict[str, Any]:
    """Turns that end in different ways."""
    ended: dict[str, Any] = {}
    noise = 0.1 * np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    with chatbot() as bot:
        ended["typed"] = last(bot.process_streaming("Hi"))
        ended["spoken"] = last(bot.process_streaming_audio(noise))
        bot.llm = FakeLLM(["👍"])
        ended["nothing said"] = last(bot.process_streaming("Hi"))
        bot.llm = FakeLLM([ANSWER])
        events = bot.process_streaming("Hi")
        for event in events:
            if event["type"] == "audio_chunk":
                bot.interrupt()
        ended["interrupted"] = event
    with chatbot(FakeTranscriber("")) as bot:
        ended["nothing heard"] = last(bot.process_streaming_audio(noise))
    with chatbot(FakeTranscriber(ANSWER, fail_at=1)) as bot:
        ended["recogniser failed"] = last(bot.process_streaming("Hi"))
    with StreamingConversationalChatbot(generator="fake", llm=FakeLLM([ANSWER]), asr=False) as bot:
        ended["no recogniser"] = last(bot.process_streaming("Hi"))
    return ended


@pytest.fixture(scope="module")
def ends() -> dict[str, Any]:
    return turns()


def test_every_figure_is_defined_in_the_docs_and_nothing_else_is(ends: dict[str, Any]):
    lines = [line.split("|") for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    defined = [cells[1].strip(" `") for cells in lines if "turn" in cells[3]]
    assert len(defined) == len(set(defined))
    assert set(defined) == set(ends["typed"]["metrics"])


def test_the_keys_do_not_depend_on_how_a_turn_goes(ends: dict[str, Any]):
    for way, event in ends.items():
        assert list(event["metrics"]) == list(ends["typed"]["metrics"]), way
        assert all(value is None or isinstance(value, str | int | float | bool) for value in event["metrics"].values())
    reasons = {way: event["metrics"]["finish_reason"] for way, event in ends.items()}
    assert reasons["interrupted"] == "interrupted" and reasons["nothing heard"] == "nothing_heard"


def test_what_did_not_happen_is_none_and_not_zero(ends: dict[str, Any]):
    silent = ends["nothing heard"]["metrics"]
    for name in ("llm_ttft_ms", "ttfa_ms", "ttfa_audible_ms", "rtf", "frame_p50_ms", "wer", "asr_n_decodes", "held_ms"):
        assert silent[name] is None, name
    assert silent["heard_ms"] > 0 and ends["typed"]["metrics"]["heard_ms"] is None
    assert ends["no recogniser"]["metrics"]["asr_model"] is None
    assert ends["recogniser failed"]["metrics"]["asr_received_s"] > 0, "its counters outlive the recogniser"
    assert ends["recogniser failed"]["notes"] == [
        f"no transcription: {ends['recogniser failed']['metrics']['asr_error']}"
    ]


def test_the_row_names_the_machine_and_what_it_ran(ends: dict[str, Any]):
    row = ends["typed"]["metrics"]
    assert row["device"] == "cpu" and row["version_torch"] == torch.__version__
    assert row["version_csmkit"] and row["version_ctranslate2"] and row["asr_model"] == "base.en"
    assert row["n_frames"] == round(row["audio_s"] * 12.5) and row["frame_p50_ms"] <= row["frame_p95_ms"]


def test_word_errors_count_against_what_the_voice_was_given(monkeypatch: pytest.MonkeyPatch):
    said = "It is ten thirty now."
    for script, expected in ((said, 0.0), ("it is ten forty now", 0.2)):
        with chatbot(FakeTranscriber(script, word_s=0.16), llm=FakeLLM(["It is 10:30 now."])) as bot:
            assert last(bot.process_streaming("Hi"))["metrics"]["wer"] == pytest.approx(expected)
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with chatbot() as bot:
        assert last(bot.process_streaming("Hi"))["metrics"]["wer"] is None, "without jiwer it is not measured"


class LateCodec(FakeCodec):
    """Silence for five frames of each stream, then sound."""

    def stream(self) -> CodecStream:
        return _LateStream(FakeCodec.stream(self))


class _LateStream(CodecStream):
    def __init__(self, sound: CodecStream) -> None:
        self._sound, self._n = sound, 0

    def decode(self, codes: Tensor) -> Tensor:
        self._n += 1
        sound = self._sound.decode(codes)
        return sound if self._n > 5 else torch.zeros_like(sound)


def test_audible_onset_is_when_a_listener_first_hears_something():
    clock = Clock()
    with chatbot(generator=Timed(clock, 0.002, LateCodec()), chunk_frames=2, clock=clock) as bot:
        events = list(bot.process_streaming("Hi"))
    row = events[-1]["metrics"]
    sound = torch.cat([event["data"] for event in events if event["type"] == "audio_chunk"])
    assert audible_onset_ms(sound) == 400
    assert row["ttfa_audible_ms"] >= row["ttfa_ms"] + 400
    assert row["ttfa_audible_ms"] == pytest.approx(row["ttfa_ms"] + 400 + row["max_underrun_ms"], abs=30)


def test_a_listener_who_takes_his_time_does_not_make_the_voice_slow():
    clock = Clock()
    with chatbot(generator=Timed(clock, 0.01), clock=clock) as bot:
        for event in bot.process_streaming("Hi"):
            if event["type"] == "audio_chunk":
                clock.now_s += 0.6  # longer than the chunk sounds
    row = event["metrics"]
    assert row["rtf"] > 1 and row["max_underrun_ms"] > 200, "what the listener saw"
    assert row["start_delay_ms"] == 0, "what the voice needed"


def test_a_turn_slower_than_real_time_says_so_and_gives_the_pre_buffer():
    clock = Clock()
    voice, llm = Timed(clock, 0.12), FakeLLM(["It is an easy thing to do."])
    with chatbot(generator=voice, llm=llm, clock=clock) as bot:
        event = last(bot.process_streaming("Hi"))
        row = event["metrics"]
        (note,) = event["notes"]
        assert row["rtf"] > 1.2
        assert note.startswith(f"slower than real time: {row['rtf']:.2f} s")
        assert f"pre-buffer of {np.ceil(row['start_delay_ms']):.0f} ms" in note
        bot.options = TurnOptions(prebuffer_ms=row["start_delay_ms"] + 400)
        again = last(bot.process_streaming("Hi"))["metrics"]
    assert again["max_underrun_ms"] == 0 < row["max_underrun_ms"]
    assert again["held_ms"] >= row["start_delay_ms"] + 400 - 1
    assert again["ttfa_ms"] > row["ttfa_ms"] and again["audio_s"] == row["audio_s"]
    assert again["wer"] == row["wer"]


def test_a_turn_in_time_has_nothing_to_say():
    (note,) = turn_notes({"rtf": 1.2, "start_delay_ms": 0.0, "asr_error": None})
    assert note.endswith("the first chunk came late, but playback has no gap")
    assert turn_notes({"rtf": 0.9, "start_delay_ms": 0.0, "asr_error": None}) == []
    assert turn_notes({"rtf": None, "start_delay_ms": None, "asr_error": None}) == []


def test_an_automatic_pre_buffer_plays_a_slow_voice_without_a_gap_and_a_fast_one_at_once():
    for frame_s, holds in ((0.11, True), (0.002, False)):
        clock = Clock()
        voice = Timed(clock, frame_s)
        with chatbot(generator=voice, prebuffer_ms="auto", chunk_frames=2, clock=clock) as bot:
            rows = [last(bot.process_streaming("Hi"))["metrics"] for _ in range(2)]
        for row in rows:
            assert row["max_underrun_ms"] == pytest.approx(0, abs=1e-6)
            assert row["audio_s"] == pytest.approx(len(ANSWER.split()) * 0.16)
        assert (rows[1]["held_ms"] > 400) is holds
        if not holds:
            assert rows[1]["held_ms"] < 100, "the pace of the turn before is known"


def test_what_is_held_back_was_not_heard(tmp_path: Path):
    with chatbot(generator=FakeGenerator(frame_s=0.01), prebuffer_ms=60_000) as bot:
        events = []
        for event in bot.process_streaming("Hi", save_audio_path=tmp_path / "held.wav"):
            events.append(event)
            if [e["type"] for e in events].count("clause") == 3:
                bot.interrupt()
        assert [event["type"] for event in events].count("audio_chunk") == 0
        assert events[-1]["finish_reason"] == "interrupted" and events[-1]["metrics"]["n_frames"] >= 6
        assert bot.history == [] and (tmp_path / "held.wav").stat().st_size < 100
        whole = list(bot.process_streaming("Hi"))
        assert whole[-1]["metrics"]["audio_s"] == pytest.approx(len(ANSWER.split()) * 0.16), "all made: nothing waits"
        assert bot.history[-1]["content"] == ANSWER


def test_a_fixed_pre_buffer_ends_also_while_the_language_model_is_slow():
    first_heard = threading.Event()

    class Pausing:
        def stream(self, messages: Any) -> Iterator[str]:
            yield "Well of course, "
            assert first_heard.wait(30), "the first clause is handed out before the second is written"
            yield "I can help you."

    events = []
    with chatbot(llm=Pausing(), prebuffer_ms=200) as bot:
        for event in bot.process_streaming("Hi"):
            events.append(event)
            if event["type"] == "audio_chunk":
                first_heard.set()
    first = next(event["t"] for event in events if event["type"] == "audio_chunk")
    assert first >= 0.2


def test_the_pre_buffer_that_is_computed_is_the_one_that_is_needed():
    """At a steady pace, a listener who starts when it says so never waits; a moment earlier he would."""
    for pace, chunk_s, whole_s in ((1.5, 0.48, 8.0), (2.5, 0.08, 4.0), (1.05, 0.48, 6.0)):
        made, prebuffer = Arrivals(), Prebuffer("auto", chunk_s)
        n_chunks = round(whole_s / chunk_s)
        times = [0.3 + pace * chunk_s * (index + 1) for index in range(n_chunks)]
        started = None
        for index, moment in enumerate(times):
            made.add(moment, chunk_s)
            if started is None and prebuffer.may_begin(made, moment, n_chunks * chunk_s):
                started = index
        assert started is not None and started < n_chunks - 1
        late = [moment - (times[started] + index * chunk_s) for index, moment in enumerate(times)]
        assert max(late[started:]) <= 1e-9
        assert made.start_delay_s <= times[started] - times[0] <= 1.35 * made.start_delay_s + 2 * pace * chunk_s


def test_the_pre_buffer_waits_for_the_whole_text_where_the_voice_is_slow():
    made = Arrivals([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])
    assert not Prebuffer("auto", 0.5).may_begin(made, 3.0, None)
    assert Prebuffer("auto", 0.5).may_begin(made, 3.0, 1.5)
    assert not Prebuffer("auto", 0.5).may_begin(Arrivals([1.0], [0.5]), 1.0, 9.0), "one chunk has no pace"
    assert Prebuffer("auto", 0.5, known_pace=0.4).may_begin(Arrivals([1.0], [0.5]), 1.0, None)
    fixed = Prebuffer(300)
    assert not fixed.may_begin(made, 1.2, None) and fixed.left_s(made, 1.2) == pytest.approx(0.1)
    assert fixed.may_begin(made, 1.3, None) and fixed.left_s(made, 1.3) is None


@pytest.mark.parametrize("given", [-1, float("nan"), 60_001, "soon", True])
def test_a_pre_buffer_out_of_range_is_refused(given: Any):
    with pytest.raises(InputError, match=r"prebuffer_ms=.*: give milliseconds from 0 to 60000, or 'auto'"):
        TurnOptions(prebuffer_ms=given)
