"""How conversations with recorded voices are scored, on events that are made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csmkit.audio import SAMPLE_RATE
from csmkit.errors import InputError
from csmkit.live.recorded import Conversation
from csmkit.live.turn_detector import TurnDetection
from experiments.live.evaluate import TurnRecipe, read_turn_recipe, report, rows_of, summary, table
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


def test_the_recipe_of_the_sweep_names_settings_that_turns_have_and_the_default_among_them():
    recipe = read_turn_recipe(Path(__file__).parents[1] / "experiments" / "live" / "turns.toml")
    usual = {name: getattr(TurnDetection(), name) for name in recipe.axes}
    assert usual in recipe.settings()
    assert all(TurnDetection(**setting) for setting in recipe.settings())


def test_a_recipe_with_a_setting_that_turns_do_not_have_is_refused():
    with pytest.raises(InputError, match=r"axes: 'loudness' is none of threshold, prefix_ms"):
        TurnRecipe("", "", [], [], {"loudness": [1]})


def test_the_report_of_a_sweep_has_a_line_for_each_setting_and_a_figure(tmp_path: Path):
    recipe = TurnRecipe("Turns", "Which?", ["flite-awb"], [40, 10], {"threshold": [0.3, 0.5], "silence_ms": [300, 500]})
    done = {"found": 1.0, "false_barge_ins_per_10_min": 0.0, "detected_p50_ms": 550.0, "to_silence_p50_ms": None}
    cut = {40: 0.0, 10: 0.04}
    rows = [one | done | {"noise_db": db, "cut_off": cut[db]} for one in recipe.settings() for db in recipe.noises_db]
    report(recipe, rows, tmp_path)
    lines = (tmp_path / "sweep.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| 0")]
    assert len(cells) == 4 and cells[0] == ["0.3", "300", "100", "2", "0", "550", ""]
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
