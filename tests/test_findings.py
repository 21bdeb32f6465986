"""Trials compared, and what the sentences about them say: each on rows whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.chat.chatbot import StreamingConversationalChatbot
from csmkit.errors import InputError
from csmkit.lab.analysis.findings import analyse
from csmkit.lab.analysis.questions import (
    beside_controls,
    chunk_finding,
    differences,
    extremes,
    interval_table,
    range_finding,
    said,
    seam_finding,
    turn_finding,
    variety_rows,
    whisper_finding,
)
from csmkit.lab.analysis.sentences import sentences
from csmkit.lab.analysis.statistics import Interval, median_interval
from csmkit.lab.metrics.seams import worst_seam
from csmkit.lab.notebook import hear_turn
from csmkit.lab.trials.trial import TrialSettings, run_trials
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.generator import FakeGenerator


def chunk_rows(n_texts: int = 14, **first_ms: float) -> list[dict[str, Any]]:
    """Trials of sizes ``s1``, ``s2``...; a negative time stands for trials in which playback waits."""
    return [
        {"chunk_frames": int(size[1:]), "text": f"t{text}", "seed": seed, "ttfa_ms": abs(ms) + text + seed}
        | {"max_underrun_ms": 80.0 * (ms < 0), "rtf": 0.2 + 0.001 * seed}
        for size, ms in first_ms.items()
        for text in range(n_texts)
        for seed in range(3)
    ]


def test_the_chunk_that_is_heard_first_without_a_wait_is_chosen():
    finding = chunk_finding(chunk_rows(s1=-20.0, s2=40.0, s6=100.0))
    assert finding.startswith("**What to choose**\n\n- chunk size 2\n")
    assert "playback had to wait (share of trials), as clearly worse than chunk size 2: chunk size 1" in finding
    assert "time to first audio (ms), as clearly worse than chunk size 2: chunk size 6 by 60" in finding


def test_a_notebook_and_a_report_say_the_same_of_the_same_rows():
    rows = [row | {"metrics": "latency", "error": None} for row in chunk_rows(s1=-20.0, s2=40.0, s6=100.0)]
    told = sentences(analyse(rows))
    finding = chunk_finding(rows)
    assert told["choice"] and all(f"- {line}" in finding for lines in told.values() for line in lines)


def test_on_a_machine_that_is_too_slow_waiting_decides_nothing():
    finding = chunk_finding(chunk_rows(s1=-20.0, s2=-70.0))
    assert finding.startswith("**What to choose**\n\n- chunk size 1\n")


def test_of_eleven_texts_nothing_is_chosen():
    finding = chunk_finding(chunk_rows(n_texts=11, s1=20.0, s2=400.0))
    assert "the data does not choose: too few texts, at least 12 texts are needed" in finding
    assert "What the data shows" not in finding


def test_without_sound_there_is_no_choice():
    rows = [{"chunk_frames": 1, "ttfa_ms": None, "max_underrun_ms": None, "rtf": None}]
    with pytest.raises(InputError, match="nothing was spoken"):
        chunk_finding(rows)


def test_borders_are_judged_by_how_often_they_are_worse_than_their_control():
    random = np.random.default_rng(0)
    rows = [
        {"codec": codec, "text": f"t{text}", "seed": seed, "seam_click_auc": min(1.0, auc + random.normal(0, 0.02))}
        for codec, auc in (("streaming", 0.5), ("independent", 1.0), ("rough", 0.56))
        for text in range(14)
        for seed in range(3)
    ]
    streaming, independent, rough = seam_finding(rows).splitlines()
    assert "codec streaming has 0.497" in streaming and "like any other place, within 0.1 of 0.5" in streaming
    assert "codec independent has" in independent and "so borders are worse than other places" in independent
    assert "so borders are worse than other places; below the margin of 0.1" in rough
    (few,) = seam_finding([row for row in rows if row["codec"] == "rough" and row["text"] in ("t1", "t2")]).splitlines()
    assert "nothing can be said, at least 12 texts" in few
    unjudged = [{"codec": "x", "text": "a", "seed": 0, "seam_click_auc": None}]
    assert seam_finding(unjudged) == "No border to judge."


def test_borders_stand_beside_their_controls():
    row = {"codec": "streaming", "seam_click_z": 9.0, "seam_click_control_z": 1.0, "seed": 3}
    places = beside_controls([row])
    assert [(p["place"], p["seam_click_z"], p["seed"]) for p in places] == [
        ("streaming, borders", 9.0, 3),
        ("streaming, elsewhere", 1.0, 3),
    ]


@pytest.mark.parametrize(
    ("high", "verdict"),
    [
        (1.4, "in pairs that is +0.400 [0.400, 0.400], clear."),
        (1.01, "in pairs that is +0.010 [0.010, 0.010], clear but below the margin of 0.03."),
    ],
)
def test_a_range_says_where_it_ends_and_whether_pairs_tell_the_ends_apart(high: float, verdict: str):
    rows = [
        {"temperature": t, "wer": wer + text / 14, "text": f"t{text}", "seed": seed}
        for t, wer in ((0.3, 1.0), (0.9, high))
        for text in range(14)
        for seed in range(3)
    ]
    finding = range_finding(rows, "temperature", "wer", ".1f", "!")
    assert finding.startswith("The median word error rate is lowest at temperature 0.3, 1.5 !")
    assert "highest at 0.9, " in finding and finding.endswith(verdict)


def test_a_range_of_noise_is_not_shown_to_be_one_and_few_texts_say_nothing():
    random = np.random.default_rng(0)
    rows = [
        {"temperature": t, "wer": random.uniform(0, 1), "text": f"t{text}", "seed": 0}
        for t in (0.3, 0.6, 0.9)
        for text in range(14)
    ]
    assert "neither a difference nor its absence is shown" in range_finding(rows, "temperature", "wer")
    assert "at least 12 texts are needed" in range_finding(rows[:5] + rows[14:19], "temperature", "wer")


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
    (row,) = interval_table(crossed_rows(13), "temperature", ["wer"])
    median, _, bounds = row["word error rate (errors/word)"].partition(" ")
    low, high = (float(bound) for bound in bounds.strip("[]").split(", "))
    assert row["trials"] == 78 and median == "0.600" and high - low >= 0.5, "as wide as the texts differ"
    (few,) = interval_table(crossed_rows(11), "temperature", ["wer"])
    assert few["word error rate (errors/word)"] == "0.500", "eleven texts tell too little of others"


def test_an_error_rate_is_a_mean_that_counts_words():
    finding = range_finding(crossed_rows(3), "temperature", "wer", weight="n_words")
    assert finding == "The mean word error rate is 0.10 at every temperature."
    without = [{key: row[key] for key in ("temperature", "wer", "n_words")} for row in crossed_rows(3)]
    other = [row | {"temperature": 0.9, "wer": 1.0} for row in without]
    assert "nothing can be said" in range_finding(without + other, "temperature", "wer", weight="n_words")


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
            "asr_revised": seed,
            "asr_lag_oldest_p50_ms": 7.0,
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
