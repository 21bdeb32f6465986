"""Searches: proposals become trials of a sweep, and the settings that none beats are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab_server import need

from csmkit.errors import InputError
from csmkit.lab.analysis.rows import pareto_front
from csmkit.lab.analysis.search import run_search
from csmkit.lab.report import build_report
from csmkit.lab.sweep import make_recipe, read_rows

AIMS = {"n_chunks": "lower", "audio_s": "higher"}


def recipe(**changes):
    table = {
        "texts": ["one two three", "four five"],
        "seeds": [0],
        "metrics": ["latency"],
        "speech": "fake",
        "keep": "none",
        "axes": {"codec": "fake", "chunk_frames": {"low": 1, "high": 12}, "temperature": {"low": 0.1, "high": 1.2}},
        "search": {"n_settings": 8, "aims": AIMS},
    }
    return make_recipe("searched", {**table, **changes})


def test_of_points_those_are_the_front_that_no_other_beats():
    points = [
        {"a": 1, "b": 5},
        {"a": 2, "b": 2},
        {"a": 2, "b": 3},
        {"a": 5, "b": 1},
        {"a": 5, "b": 5},
        {"a": 2, "b": 2},
    ]
    assert pareto_front(points, {"a": "lower", "b": "lower"}) == [points[0], points[1], points[3]]
    assert pareto_front(points, {"a": "lower", "b": "higher"}) == [points[0]]


def test_a_search_fills_the_rows_of_a_sweep_and_keeps_the_front(tmp_path: Path):
    need("optuna", extra="search")
    done = run_search(recipe(), tmp_path / "searched", progress=False)
    rows = read_rows(tmp_path / "searched")
    assert done.n_failed == 0 and len({row["chunk_frames"] for row in rows}) > 2
    assert all(1 <= row["chunk_frames"] <= 12 and 0.1 <= row["temperature"] <= 1.2 for row in rows)
    front = json.loads((tmp_path / "searched" / "front.json").read_text())
    least = min(row["n_chunks"] for row in rows)
    assert front and all(found["n_chunks"] <= least + 1 for found in front[:1])
    assert build_report(tmp_path / "searched").is_file()


def test_the_same_search_again_proposes_the_same_and_runs_nothing(tmp_path: Path):
    need("optuna", extra="search")
    first = run_search(recipe(), tmp_path / "searched", progress=False)
    again = run_search(recipe(), tmp_path / "searched", progress=False)
    assert first.n_run > 0 and (again.n_run, again.n_trials) == (0, first.n_trials)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"aims": {}}}, "give n_settings, and aims"),
        ({"search": {"aims": {"wer": "least"}}}, "lower, higher"),
        ({"search": {}}, "only a recipe with"),
        ({"axes": {"temperature": {"low": 2, "high": 1}}}, "low below high"),
    ],
)
def test_a_search_that_cannot_be_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        recipe(**changes)


def test_a_sweep_without_search_is_no_search(tmp_path: Path):
    with pytest.raises(InputError, match=r"has no .search.: run it as a sweep"):
        run_search(make_recipe("plain", {"texts": ["a"], "speech": "fake", "axes": {"codec": "fake"}}), tmp_path)
