"""What a sweep's recipe plans, and what of it the rows do not have."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from csmkit.errors import ResultsError
from csmkit.lab.analysis.pairs import shown
from csmkit.lab.sweep.plan import plan
from csmkit.lab.sweep.recipe import Recipe, load_recipe
from csmkit.lab.sweep.row_file import plain, read_rows


def coverage_rows(experiments: Path, results: Path) -> list[dict[str, Any]]:
    """One row a recipe of a folder: ``experiment``, ``question``, ``trials``, and what ``is missing`` of them.

    Args:
        experiments: folder of recipes.
        results: folder that has a folder of rows for each, or for some.
    """
    table = []
    for path in sorted(experiments.glob("*.toml")):
        recipe = load_recipe(path)
        try:
            rows = read_rows(results / recipe.name)
        except ResultsError:
            rows = []
        missing = " ".join(missing_of(recipe, rows)) or "nothing"
        told = {"experiment": recipe.name, "question": recipe.question, "trials": len(planned_points(recipe))}
        table.append({**told, "is missing": missing})
    return table


def missing_of(recipe: Recipe, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is missing of a sweep, in sentences; none where all trials of the recipe have succeeded.

    Args:
        recipe: that was to be run.
        rows: of it.
    """
    found = list(rows)
    planned, command = planned_points(recipe), f"csmkit sweep experiments/{recipe.name}.toml"
    if not found:
        return [f"All: there are no rows yet, `{command}` makes them."]
    failed = {_key(recipe, row): row for row in found if row.get("error")}
    done = keys_of(recipe, [row for row in found if not row.get("error")])
    told = []
    missing = [point for key, point in planned.items() if key not in done and key not in failed]
    if missing:
        places = ", ".join(f"{point} ({count})" for point, count in Counter(missing).items())
        told.append(f"Trials without a row: {len(missing)} of {len(planned)}, {places}. `{command}` runs them.")
    if lost := [row for key, row in failed.items() if key in planned and key not in done]:
        error = f"{lost[0].get('error_type')}: {lost[0]['error']}"
        told.append(
            f"Trials that failed: {len(lost)}, the first by {error}. `{command} --retry-failed` runs them again."
        )
    if others := len(done - set(planned)):
        told.append(f"Trials that the recipe does not have: {others}; it was changed, or overridden.")
    return told


def planned_points(recipe: Recipe) -> dict[str, str]:
    """The varied settings of each trial in words, by what makes it a trial of its own; needs no model."""
    trials = plan(recipe, defaultdict(lambda: None))
    return {
        _key(recipe, trial.columns()): ", ".join(f"{name} {shown(trial.point[name])}" for name in recipe.varied)
        for trial in trials
    }


def keys_of(recipe: Recipe, rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """What makes each row a trial of its own, as `planned_points` has it."""
    return {_key(recipe, row) for row in rows}


def _key(recipe: Recipe, row: Mapping[str, Any]) -> str:
    names = [*recipe.varied, "text", "seed", "repeat"]
    return json.dumps([plain(row.get(name)) for name in names])
