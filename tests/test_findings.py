"""Trials compared, and what the sentences about them say: each on rows whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from csmkit.asr.fake import FakeTranscriber
from csmkit.asr.worker import StreamingWhisperASR
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.chat.llm import FakeLLM
from csmkit.errors import InputError
from csmkit.generator import FakeGenerator
from csmkit.lab.comparisons import beside_controls, differences, extremes, variety_rows
from csmkit.lab.findings import (
    chunk_finding,
    interval_table,
    range_finding,
    said,
    seam_finding,
    turn_finding,
    whisper_finding,
)
from csmkit.lab.listening import hear_turn
from csmkit.lab.seams import worst_seam
from csmkit.lab.statistics import Interval, median_interval
from csmkit.lab.trials import TrialSettings, run_trials


def chunk_rows(**first_ms: float) -> list[dict[str, Any]]:
    """Three trials a size ``s1``, ``s2``...; a negative time stands for trials with an underrun."""
    return [
        {"chunk_frames": int(size[1:]), "ttfa_ms": abs(ms) + spread, "n_underruns": int(ms < 0), "rtf": ms**2 / 1e4}
        for size, ms in first_ms.items()
        for spread in (-1, 0, 1)
    ]


def test_the_chunk_that_is_heard_first_without_an_underrun_is_chosen():
    finding = chunk_finding(chunk_rows(s1=-20.0, s2=40.0, s6=100.0))
    assert finding.startswith(
        "2 of 3 sizes played every trial without an underrun. Of them, chunks of **2** are heard first: 40 ms"
    )
    assert "from 0.040 (chunks of 1) to 1.000 (6), 2400 % more; the intervals are apart." in finding


def test_an_overhead_that_is_within_the_noise_says_so():
    rows = [row | {"rtf": 0.2 + 0.01 * i} for i, row in enumerate(chunk_rows(s1=20.0, s2=40.0) * 2)]
    assert "the intervals overlap" in chunk_finding(rows)


def test_on_a_machine_that_is_too_slow_the_choice_says_so():
    finding = chunk_finding(chunk_rows(s1=-20.0, s2=-40.0))
    assert finding.startswith("0 of 2") and "slower than the voice speaks" in finding
    assert "chunks of **1** are heard first" in finding


def test_without_sound_there_is_no_choice():
    rows = [{"chunk_frames": 1, "ttfa_ms": None, "n_underruns": None, "rtf": None}]
    with pytest.raises(InputError, match="nothing was spoken"):
        chunk_finding(rows)


def test_borders_are_judged_by_how_often_they_are_worse_than_their_control():
    rows = [
        {"codec": codec, "seam_click_z": z, "seam_click_control_z": 3.5, "seam_click_auc": auc}
        for codec, z, auc in (("streaming", 3.6, 0.5), ("independent", 900.0, 1.0), ("streaming", 3.8, 0.6))
    ]
    finding = seam_finding(rows)
    assert "**streaming**: borders are like other places of the same sound: 3.7 (3.6 to 3.8, n = 2) against" in finding
    assert "**independent**: borders are worse than other places of the same sound: 900.0 (n = 1) against" in finding
    assert "probability 1.00" in finding
    unjudged = [{"codec": "x", "seam_click_z": None, "seam_click_control_z": None, "seam_click_auc": None}]
    assert seam_finding(unjudged) == "**x**: no border to judge."


def test_borders_stand_beside_their_controls():
    row = {"codec": "streaming", "seam_dip_db": -9.0, "seam_dip_control_db": -1.0, "seed": 3}
    places = beside_controls([row], "seam_dip", "db")
    assert [(p["place"], p["seam_dip_db"], p["seed"]) for p in places] == [
        ("streaming, borders", -9.0, 3),
        ("streaming, elsewhere", -1.0, 3),
    ]


@pytest.mark.parametrize(("high", "verdict"), [(10.0, "the intervals are apart"), (1.4, "the intervals overlap")])
def test_a_range_says_where_it_ends_and_whether_that_is_sure(high: float, verdict: str):
    rows = [{"temperature": t, "wer": wer + d} for t, wer in ((0.3, 1.0), (0.9, high)) for d in (-0.5, 0.0, 0.5)]
    finding = range_finding(rows, "temperature", "wer", ".1f", "!")
    assert finding.startswith("The median word error rate is lowest at temperature 0.3, 1.0 ! (0.5 to 1.5, n = 3)")
    assert f"highest at 0.9, {high:.1f}" in finding
    assert verdict in finding


def test_a_range_without_any_difference_says_so():
    rows = [{"temperature": t, "wer": 0.0} for t in (0.3, 0.9)]
    assert range_finding(rows, "temperature", "wer") == "The median word error rate is 0.00 at every temperature."
    with pytest.raises(InputError, match="measured in no row"):
        range_finding([{"temperature": 1, "wer": None}], "temperature", "wer")


def crossed_rows(n_texts: int) -> list[dict[str, Any]]:
    """Texts that differ much, said by seeds that do not: all that is known of other texts are so many."""
    return [
        {"temperature": 0.3, "text": f"t{text}", "seed": seed, "wer": 0.1 * text, "n_words": 1 + 9 * (text == 1)}
        for text in range(n_texts)
        for seed in range(6)
    ]


def test_intervals_are_over_texts_and_seeds_where_rows_name_them():
    (three,) = interval_table(crossed_rows(3), "temperature", ["wer"])
    assert three == {
        "temperature (no unit)": "0.3",
        "trials": 18,
        "word error rate (errors/word)": "0.1 (0 to 0.2)",  # as wide as the texts differ
    }
    (two,) = interval_table(crossed_rows(2), "temperature", ["wer"])
    assert two["word error rate (errors/word)"] == "0.05", "two texts tell nothing of others"


def test_an_error_rate_is_a_mean_that_counts_words():
    finding = range_finding(crossed_rows(3), "temperature", "wer", weight="n_words")
    assert finding == "The mean word error rate is 0.10 at every temperature."
    without = [{key: row[key] for key in ("temperature", "wer", "n_words")} for row in crossed_rows(3)]
    other = [row | {"temperature": 0.9, "wer": 1.0} for row in without]
    assert "too few trials to say" in range_finding(without + other, "temperature", "wer", weight="n_words")


def test_an_interval_is_said_with_its_bounds_as_far_as_it_has_any():
    assert said(median_interval([1, 2, 3]), "ms").startswith("2 ms (1 to 3, n = 3)")
    assert said(median_interval([2]), form=".1f") == "2.0 (n = 1)"
    assert said(Interval(None, None, None, 0)) == "not measured"


def whisper_rows() -> list[dict[str, Any]]:
    return [
        {
            "whisper": name,
            "text": "a",
            "seed": seed,
            "rtf": rtf + seed,
            "cpu_s": None,
            "wer": 0.1 * seed,
            "n_words": 30 // seed,
            "n_revised_words": seed,
            "asr_lag_p50_ms": 7.0,
        }
        for name, rtf in ((None, 0.2), ("tiny", 0.3), ("base", 0.5))
        for seed in (1, 2)
    ]


def test_differences_are_taken_from_the_trial_that_is_the_same_but_for_one_thing():
    added = differences(whisper_rows(), "whisper", None, ["rtf", "cpu_s"])
    assert [(row["whisper"], row["seed"]) for row in added] == [("tiny", 1), ("tiny", 2), ("base", 1), ("base", 2)]
    assert [row["rtf"] for row in added] == pytest.approx([0.1, 0.1, 0.3, 0.3])
    assert {row["cpu_s"] for row in added} == {None}
    with pytest.raises(InputError, match=r"no trial with whisper=None for \('a', 2\)"):
        differences([row for row in whisper_rows() if (row["whisper"], row["seed"]) != (None, 2)], "whisper", None, [])


def test_what_a_recogniser_gets_wrong_and_costs_is_said_for_each():
    added = differences(whisper_rows(), "whisper", None, ["rtf", "cpu_s"])
    finding = whisper_finding(whisper_rows(), added)
    words = "**tiny**: 13.3% (n = 2) word errors, 3 of 45 words committed and yet changed"
    assert f"{words}, text 7 ms (n = 2) behind the sound" in finding, "errors of longer texts weigh more"
    assert "changes by +0.300" in finding.split("**base**")[1]


def test_extremes_are_whole_trials_and_variety_counts_the_seeds_of_each_text():
    settings = [TrialSettings(codec="fake", seed=seed, temperature=t) for t in (0.1, 0.2) for seed in (1, 1, 2)]
    trials = run_trials(FakeGenerator(), ["one two", "one two three"], settings)
    short, long = extremes(trials, "audio_s")
    assert (short.row["text"], long.row["text"]) == ("one two", "one two three")
    with pytest.raises(InputError, match="column 'wer' was measured in none of 12 trials"):
        extremes(trials, "wer")
    rows = variety_rows(trials)
    assert [(row["text"], row["temperature"], row["n_seeds"]) for row in rows] == [
        ("one two", 0.1, 3),
        ("one two", 0.2, 3),
        ("one two three", 0.1, 3),
        ("one two three", 0.2, 3),
    ]
    assert rows[0]["variety"] == pytest.approx((0 + 1 + 1) / 3)  # of three pairs one has the same seed


def test_the_worst_border_is_the_one_with_the_click():
    sound = 0.1 * torch.randn(24_000, generator=torch.Generator().manual_seed(0)).numpy()
    sound[12_000] += 2.0
    assert worst_seam(sound, [6_000, 12_000, 18_000]) == 12_000
    with pytest.raises(InputError, match="one chunk meets no other"):
        worst_seam(sound, [])


class ThreadlessPlayer:
    """Plays in the caller's thread, so that a turn is over when the call is."""

    def play(self, source: Any, *, on_event: Any, on_stop: Any) -> None:
        for event in source:
            on_event(event)


@pytest.fixture
def chatbot():
    asr = StreamingWhisperASR("fake", transcriber=FakeTranscriber())
    llm = FakeLLM(["one two three four five six seven eight."])
    with StreamingConversationalChatbot(generator=FakeGenerator(), llm=llm, asr=asr, chunk_frames=2) as chatbot:
        yield chatbot


def test_the_events_of_a_turn_are_kept_while_it_plays(chatbot: StreamingConversationalChatbot):
    events = hear_turn(chatbot, ThreadlessPlayer(), "Hello!")
    assert events[-1]["type"] == "complete" and len([e for e in events if e["type"] == "audio_chunk"]) == 8
    finding = turn_finding(events[-1]["metrics"])
    assert finding.startswith("The language model wrote its first word after") and "1.28 s of sound" in finding


def test_an_interruption_after_some_chunks_leaves_what_was_spoken(chatbot: StreamingConversationalChatbot):
    events = hear_turn(chatbot, ThreadlessPlayer(), "Hello!", interrupt_after=2)
    assert events[-1]["finish_reason"] == "interrupted"
    heard = np.concatenate([event["data"] for event in events if event["type"] == "audio_chunk"])
    assert len(heard) == 4 * 1920
    assert chatbot.history[-1]["content"] in "one two three four five six seven eight."
    assert len(chatbot.history[-1]["content"]) < 40


def test_of_a_turn_in_which_nothing_was_spoken_nothing_is_said():
    assert turn_finding({}) == "Nothing was spoken in this turn."
