"""How conversations with recorded voices are scored, on events that are made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from csmkit.audio import SAMPLE_RATE
from csmkit.live.recorded import Conversation
from experiments.live.evaluate import rows_of, summary, table
from experiments.live.users import Item, Said, ScriptedUser

SECOND = np.ones(SAMPLE_RATE, np.float32)


def event(kind: str, time_s: float, turn: int = 1, **content: Any) -> dict[str, Any]:
    return {"type": kind, "time_s": time_s, "turn": turn, **content}


def scored(said: list[Said], events: list[dict[str, Any]]) -> dict[str, Any]:
    user = ScriptedUser([done.item for done in said])
    user.said = said
    return summary(rows_of(user, Conversation(events, np.zeros(60 * SAMPLE_RATE), np.zeros(0))))


def test_an_end_near_the_true_one_is_found_and_one_within_the_speech_has_cut_it_off():
    turns = [Said(Item(SECOND, "turn", 0), start_s, start_s + 1) for start_s in (1.0, 11.0, 21.0)]
    stops = [
        event("speech_stopped", 2.55, audio_s=2.05),
        event("speech_stopped", 12.0, 2, audio_s=11.5),
        event("speech_stopped", 12.5, 3, audio_s=12.0),
    ]
    figures = scored(turns, stops)
    assert figures["found"] == pytest.approx(2 / 3) and figures["cut_off"] == pytest.approx(1 / 3)
    assert figures["detected_p50_ms"] == pytest.approx((550 + 500) / 2)


def test_a_voice_that_stops_for_a_cough_was_interrupted_for_nothing():
    said = [Said(Item(SECOND, "cough", 0), 1, 2), Said(Item(SECOND, "barge_in", 0), 11, 12)]
    figures = scored(said, [event("interrupted", 1.4), event("interrupted", 11.2)])
    assert figures["false_barge_ins_per_10_min"] == pytest.approx(10)
    assert figures["barge_ins_found"] == 1 and figures["to_silence_p50_ms"] == pytest.approx(220)


def test_the_table_has_a_row_for_each_setting():
    rows: list[dict[str, Any]] = []
    for noise_db in (20.0, 40.0):
        rows.append({"kind": "turn", "found": True, "cut_off": False, "noise_db": noise_db})
        rows.append({"kind": "conversation", "n_false_barge_ins": 0, "minutes": 1, "noise_db": noise_db})
    assert len(table(rows, ["noise_db"]).splitlines()) == 4
