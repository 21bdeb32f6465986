"""A conversation with a recorded user whose turns are known: which turns were cut off, and how long answers took."""

from __future__ import annotations

import numpy as np
import pytest

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.asr.transcriber import FakeTranscriber
from csmkit.lab.trials.conversation import (
    UserSide,
    UserTurn,
    hold_conversation,
    speak_user_side,
    timeline_rows,
    turn_rows,
    with_silence,
)
from csmkit.live.recorded import Conversation
from csmkit.live.turn_detector import TurnDetection, TurnDetector
from csmkit.live.voice_activity import LoudnessActivity
from csmkit.llm.transformers import FakeLLM
from csmkit.speech.base import FakeGenerator

ANSWER = "Well of course, I can help you with that today. Shall we begin at once?"  # two seconds and a half
TURNS = (UserTurn("one two three four"), UserTurn("five six / seven eight", pause_s=0.4), UserTurn("nine ten"))


@pytest.fixture(scope="module")
def user() -> UserSide:
    return speak_user_side(FakeGenerator(), TURNS)


def hold(user: UserSide, silence_ms: float) -> Conversation:
    asr = StreamingWhisperASR("fake", transcriber=FakeTranscriber("one two three four", word_s=0.16))
    detection = with_silence(TurnDetection(), silence_ms)
    detector = TurnDetector(detection, LoudnessActivity())
    held = hold_conversation(user, FakeGenerator(), FakeLLM([ANSWER]), asr, detection, detector)
    asr.close()
    return held


def rows(user: UserSide, silence_ms: float) -> list[dict]:
    return turn_rows(user, hold(user, silence_ms), silence_ms=silence_ms)


def test_the_ends_of_the_turns_are_where_their_sound_ends(user: UserSide) -> None:
    for turn, (begin_s, end_s) in zip(user.turns, user.ends_s, strict=True):
        after = user.audio[round(end_s * 24_000) : round((end_s + turn.then_s) * 24_000)]
        inside = user.audio[round(begin_s * 24_000) : round(end_s * 24_000)]
        assert not after.any() and inside[0] != 0 != inside[-1]
    begin_s, end_s = user.ends_s[1]
    assert np.count_nonzero(user.audio[round(begin_s * 24_000) : round(end_s * 24_000)] == 0) >= 0.4 * 24_000


def test_a_pause_longer_than_the_silence_cuts_a_turn_off_and_a_shorter_one_does_not(user: UserSide) -> None:
    assert [row["cut_off"] for row in rows(user, 200)] == [0, 1, 0]
    assert [row["cut_off"] for row in rows(user, 700)] == [0, 0, 0]


def test_a_longer_silence_makes_a_later_answer(user: UserSide) -> None:
    quick, slow = rows(user, 300)[0], rows(user, 900)[0]
    assert quick["found"] == slow["found"] == 1
    assert 450 < slow["end_to_audible_ms"] - quick["end_to_audible_ms"] < 750
    assert quick["heard"] == "one two three four" and quick["silence_ms"] == 300


def test_who_speaks_before_the_answer_has_ended_breaks_in() -> None:
    turns = (UserTurn("one two three four", then_s=1.4), UserTurn("five six seven eight"))
    user = speak_user_side(FakeGenerator(), turns)
    first, second = rows(user, 500)
    assert (first["breaks_in"], second["breaks_in"]) == (False, True)
    assert first["barge_in_to_silence_ms"] > 0 and second["barge_in_to_silence_ms"] is None


def test_the_timeline_of_a_turn_begins_with_the_user_and_ends_within_its_conversation(user: UserSide) -> None:
    spans = timeline_rows(hold(user, 500))
    assert min(span["start_ms"] for span in spans) == 0 and spans[0]["lane"] == "user"
    longest_ms = 1000 * len(user.audio) / 24_000
    assert all((span["end_ms"] or span["start_ms"]) < longest_ms for span in spans)


def test_the_probable_end_comes_no_later_than_the_end() -> None:
    assert with_silence(TurnDetection(), 100).probable_end_ms == 100
    assert with_silence(TurnDetection(), 800).probable_end_ms == TurnDetection().probable_end_ms
