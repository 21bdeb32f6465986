"""A report says what of a recipe has not been measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from csmkit.lab.report import coverage_rows, missing_of
from csmkit.lab.sweep import Recipe, load_recipe

RECIPE = """
question = "Which?"
speech = "fake"
asr = "fake"
texts = ["good morning.", "hello."]
seeds = [0, 1]
metrics = ["latency"]
[axes]
chunk_frames = [2, [1, 2]]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "sizes.toml").write_text(RECIPE)
    return load_recipe(tmp_path / "sizes.toml")


def rows_of(recipe: Recipe) -> list[dict[str, Any]]:
    """As they are read from a file: schedules are lists, and what the voice chose itself is a number."""
    return [
        {"chunk_frames": size, "temperature": 0.9, "text": text, "seed": seed, "repeat": 0}
        for size in (2, [1, 2])
        for text in recipe.texts
        for seed in recipe.seeds
    ]


def test_nothing_is_missing_where_every_trial_has_a_row(recipe: Recipe) -> None:
    assert missing_of(recipe, rows_of(recipe)) == []


def test_missing_trials_are_counted_by_setting_with_the_command_that_runs_them(recipe: Recipe) -> None:
    (told,) = missing_of(recipe, rows_of(recipe)[1:-2])
    assert told == (
        "Trials without a row: 3 of 8, chunk size 2 (1), chunk size 1-2 (2). "
        "`csmkit sweep experiments/sizes.toml` runs them."
    )


def test_failures_and_trials_of_another_recipe_are_told_apart(recipe: Recipe) -> None:
    rows = rows_of(recipe)
    rows[0] |= {"error": "no room", "error_type": "OSError"}
    failed, others = missing_of(recipe, [*rows, rows[1] | {"seed": 9}])
    assert failed.startswith("Trials that failed: 1, the first by OSError: no room.") and "--retry-failed" in failed
    assert others.startswith("Trials that the recipe does not have: 1;")
    assert missing_of(recipe, [*rows, rows_of(recipe)[0]]) == [], "it was run again and succeeded"


def test_each_recipe_of_a_folder_says_what_it_lacks(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(RECIPE)
    (tmp_path / "results" / "sizes").mkdir(parents=True)
    (tmp_path / "results" / "sizes" / "rows.jsonl").write_text(
        "".join(json.dumps(row | {"trial_id": str(i)}) + "\n" for i, row in enumerate(rows_of(recipe)))
    )
    other, sizes = coverage_rows(tmp_path, tmp_path / "results")
    assert (sizes["trials"], sizes["question"], sizes["is missing"]) == (8, "Which?", "nothing")
    assert other["is missing"].startswith("All: there are no rows yet")
