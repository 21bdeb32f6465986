"""Intervals, rows, and what a turn's events say about time."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
import torch

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import InputError
from csmkit.lab.analysis.rows import records
from csmkit.lab.analysis.statistics import Interval, median_interval, summary_rows
from csmkit.lab.plots.timeline import chunk_rows, turn_rows
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.generator import FakeGenerator


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(0).standard_normal(20)
    assert median_interval(values) == median_interval(values) != median_interval(values[1:])


def test_the_interval_holds_the_true_median_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    intervals = [median_interval(random.standard_normal(21)) for _ in range(200)]
    assert 0.88 < np.mean([interval.low < 0 < interval.high for interval in intervals]) <= 1


def test_what_was_not_measured_is_left_out_and_one_value_has_no_interval():
    assert median_interval([None, 2.0, float("nan")]) == Interval(2.0, None, None, 1)
    assert median_interval([None]) == Interval(None, None, None, 0)
    assert median_interval([3.0, 3.0, None]) == Interval(3.0, 3.0, 3.0, 2)


def test_rows_are_summarised_by_group_in_their_order():
    rows = [{"c": c, "v": v} for c, v in (("b", 1.0), ("a", 5.0), ("b", 3.0), ("a", None))]
    summary = summary_rows(rows, "c", "v")
    assert [(row["c"], row["median"], row["n"]) for row in summary] == [("b", 2.0, 2), ("a", 5.0, 1)]
    assert summary == summary_rows(pandas.DataFrame(rows), ["c"], "v")
    assert summary_rows([{"c": [1, 2], "v": 1.0}], "c", "v")[0]["c"] == (1, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: median_interval([1.0, float("inf")]), "infinity"),
        (lambda: summary_rows([{"v": "text", "c": 1}], "c", "v"), "'text' is no number"),
        (lambda: summary_rows([{"v": 1, "c": 1}], "c", "v", share=True), "share=True: name the units"),
        (lambda: summary_rows([{"v": 1, "c": 1}], "d", "v"), "no column 'd': choose among c, v"),
        (lambda: records([]), "at least one dict"),
        (lambda: records([1, 2]), "at least one dict"),
    ],
)
def test_what_cannot_be_summarised_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def events_of(times_s: list[float], n_frames: int, *spans: dict) -> list:
    chunks = [
        {"type": "audio_chunk", "turn_id": "a", "t": t, "data": torch.zeros(n_frames * 1920), "chunk_num": i}
        for i, t in enumerate(times_s, 1)
    ]
    return [*chunks, {"type": "complete", "turn_id": "a", "t": times_s[-1] + 0.1, "spans": list(spans)}]


def test_chunks_become_rows_in_milliseconds():
    assert chunk_rows(events_of([0.5, 0.75], 2)) == [
        {"turn_id": "a", "chunk": 1, "arrival_ms": 500.0, "duration_ms": 160.0, "n_frames": 2.0},
        {"turn_id": "a", "chunk": 2, "arrival_ms": 750.0, "duration_ms": 160.0, "n_frames": 2.0},
    ]


def test_playback_waits_for_late_chunks_and_queues_early_ones():
    rows = turn_rows(events_of([0.5, 0.6, 1.0], 2))
    heard = [(row["start_ms"], row["end_ms"]) for row in rows if row["lane"] == "playback"]
    assert [time for span in heard for time in span] == pytest.approx([500, 660, 660, 820, 1000, 1160])


def test_the_spans_of_the_end_join_the_rows_of_the_events():
    span = {"lane": "language model", "label": "writes", "start_ms": 80.0, "end_ms": None}
    rows = turn_rows(events_of([0.5], 2, span))
    assert [row["lane"] for row in rows] == ["language model", "chunks", "playback"]
    assert rows[0] == {"turn_id": "a", **span}
    assert [row["lane"] for row in turn_rows(events_of([0.5], 2, span)[:-1])] == ["chunks", "playback"]


def test_events_of_several_turns_or_none_are_refused():
    other = [{**event, "turn_id": "b"} for event in events_of([0.5], 2)]
    with pytest.raises(InputError, match="events of 2 turns"):
        turn_rows(events_of([0.5], 2) + other)
    with pytest.raises(InputError, match="events of 0 turns"):
        turn_rows([])


def test_a_real_turn_fills_its_lanes():
    recogniser = StreamingWhisperASR(transcriber=FakeTranscriber("well of course", word_s=0.16), duty=1.0)
    llm = FakeLLM(["Well of course, I can help you with that today."])
    with StreamingConversationalChatbot(generator=FakeGenerator(), llm=llm, asr=recogniser) as chatbot:
        events = list(chatbot.process_streaming("Hi"))
    rows = turn_rows(events)
    assert list(dict.fromkeys(row["lane"] for row in rows)) == [
        "language model", "clauses", "frames", "chunks", "playback", "recogniser"
    ]  # fmt: skip
    metrics = events[-1]["metrics"]
    frames = [row for row in rows if row["lane"] == "frames"]
    assert len(frames) == metrics["n_frames"] == round(metrics["audio_s"] * 12.5)
    spans = [row for row in rows if row["end_ms"] is not None and row["lane"] != "playback"]
    assert all(0 <= row["start_ms"] <= row["end_ms"] <= metrics["total_ms"] + 5 for row in spans)
    passes = [row["label"] for row in rows if row["lane"] == "recogniser" and row["end_ms"] is not None]
    assert passes.count("final pass") == 1 and len(passes) == metrics["asr_n_decodes"]
    assert len([row for row in rows if row["lane"] == "chunks"]) == len(chunk_rows(events))
    assert {row["turn_id"] for row in rows} == {events[0]["turn_id"]}
