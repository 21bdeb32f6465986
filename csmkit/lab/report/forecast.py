"""What a recipe plans: what it will cost and show, and what of it the rows do not have. No model is loaded."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from csmkit.errors import ResultsError
from csmkit.lab.analysis.columns import Column
from csmkit.lab.analysis.findings import Findings, analyse
from csmkit.lab.analysis.pairs import Comparison, paired_rows, setting, smallest_difference
from csmkit.lab.analysis.rows import Row
from csmkit.lab.analysis.statistics import LEAST_TEXTS, UNITS, reduced
from csmkit.lab.sweep.plan import plan
from csmkit.lab.sweep.recipe import Recipe, load_recipe
from csmkit.lab.sweep.row_file import plain, read_rows

POWER = 0.8


def forecast(recipe: Recipe, folder: Path) -> list[str]:
    """Plan a sweep by what earlier rows took and how far they varied, in lines of text.

    Args:
        folder: folder of the results; where it has no rows, those of its neighbours with the same preset are used.
    """
    planned, rows, n_texts = planned_points(recipe), _rows(folder), len(recipe.texts)
    learned = {folder.name: rows} if rows else _neighbours(recipe, folder)
    n_done = len(done_of(recipe, rows) & set(planned))
    n_settings = len(planned) // max(1, n_texts * len(recipe.seeds) * recipe.repeats)
    repeats = f" x {recipe.repeats} repeats" if recipe.repeats > 1 else ""
    size = f"{n_settings} settings x {n_texts} texts x {len(recipe.seeds)} seeds{repeats}"
    lines = [f"{recipe.name}: {len(planned)} trials ({size}), {n_done} of them done"]
    lines.append(_time(len(planned) - n_done, learned))
    if n_texts < LEAST_TEXTS:
        return [*lines, f"{n_texts} texts: nothing will be called clear, {LEAST_TEXTS} are the least"]
    return [*lines, *_power(recipe, [row for some in learned.values() for row in some])]


def _time(n_left: int, learned: Mapping[str, Sequence[Row]]) -> str:
    seconds = [row["trial_s"] for rows in learned.values() for row in rows if row.get("trial_s") is not None]
    if not seconds:
        return f"Time for {n_left} trials: unknown, no rows of such trials yet; run with n_texts=2 to learn it"
    trial_s = float(np.median(seconds))
    rate = f"at {trial_s:.2f} s a trial as in {', '.join(learned)}"
    return f"Time for {n_left} trials: about {_duration(n_left * trial_s)} in one process, {rate}"


def _power(recipe: Recipe, rows: Sequence[Row]) -> list[str]:
    """Each figure with the smallest true difference that is found in four of five such sweeps, after correction."""
    spreads = _spreads(recipe, rows)
    n_comparisons = sum(len(recipe.axes[name]) - 1 for name in recipe.varied) * max(1, len(spreads))
    if not n_comparisons:
        return []
    found = f"that is found in 4 of 5 such sweeps, after correction for {n_comparisons} differences"
    per_spread = smallest_difference(1.0, len(recipe.texts), n_comparisons, POWER)
    if not spreads:
        learn = "between texts; no rows yet to learn those from, run with n_texts=12 first"
        return [f"Smallest difference {found}: {per_spread:.2f} standard deviations {learn}"]
    width = max(len(item.label) for item, _ in spreads)
    figures = [f"  {item.label:{width}}  {_against(item, per_spread * spread)}" for item, spread in spreads]
    return [f"Smallest true difference {found}:", *figures]


def _against(item: Column, value: float) -> str:
    margin = "no margin stated" if item.margin is None else f"margin {item.margin:g}"
    more = " (too few texts for that)" if item.margin is not None and value > item.margin else ""
    return f"{value:.{max(item.digits, 1)}f}, {margin}{more}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _rows(folder: Path) -> list[dict[str, Any]]:
    try:
        return read_rows(folder)
    except ResultsError:
        return []


def _neighbours(recipe: Recipe, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of other sweeps that took the same kind of trials: of the same preset, timed or not."""
    kind = (recipe.preset, recipe.times)
    found = {
        path.parent.name: [row for row in _rows(path.parent) if (row.get("preset"), row.get("n_batch") == 1) == kind]
        for path in sorted(folder.parent.glob("*/rows.jsonl"))
    }
    return {name: rows for name, rows in found.items() if rows}


def _spreads(recipe: Recipe, rows: Sequence[Row]) -> list[tuple[Column, float]]:
    """Of each figure of the recipe, how far its paired differences vary between texts: a standard deviation."""
    done = [row for row in rows if not row.get("error")]
    if not done:
        return []
    findings = analyse(done, recipe.baseline, figures=recipe.metrics, margins=recipe.margins)
    spreads = []
    for item in findings.headlines:
        found = [_spread(findings, one) for one in findings.comparisons if one.headline == item]
        known = [value for value in found if value is not None and math.isfinite(value)]
        if known and np.median(known) > 0:
            spreads.append((item, float(np.median(known))))
    return spreads


def _spread(findings: Findings, one: Comparison) -> float | None:
    units = [*UNITS, *(name for name in findings.axes if name != one.axis)]
    here, there = ([row for row in findings.rows if row[one.axis] == value] for value in (one.value, one.baseline))
    column = one.headline.column
    cells = reduced(paired_rows(here, there, column, units=units), column, mean=True)
    return float(cells.of_texts().std(ddof=1)) if cells.n_texts > 2 else None


def coverage_rows(experiments: Path, results: Path) -> list[dict[str, Any]]:
    """One row a recipe of a folder: ``experiment``, ``question``, ``trials``, and what ``is missing`` of them."""
    table = []
    for path in sorted(experiments.glob("*.toml")):
        recipe = load_recipe(path)
        missing = " ".join(missing_of(recipe, _rows(results / recipe.name))) or "nothing"
        row = {"experiment": recipe.name, "question": recipe.question, "trials": len(planned_points(recipe))}
        table.append({**row, "is missing": missing})
    return table


def missing_of(recipe: Recipe, rows: Iterable[Row]) -> list[str]:
    """What is missing of a sweep, in sentences; none where all trials of the recipe have succeeded."""
    found = list(rows)
    planned, command = planned_points(recipe), f"csmkit sweep experiments/{recipe.name}.toml"
    if not found:
        return [f"All: there are no rows yet, `{command}` makes them."]
    failed = {_key(recipe, row): row for row in found if row.get("error")}
    done = done_of(recipe, found)
    lines = []
    missing = [point for key, point in planned.items() if key not in done and key not in failed]
    if missing:
        places = ", ".join(f"{point} ({count})" for point, count in Counter(missing).items())
        lines.append(f"Trials without a row: {len(missing)} of {len(planned)}, {places}. `{command}` runs them.")
    if lost := [row for key, row in failed.items() if key in planned and key not in done]:
        error = f"{lost[0].get('error_type')}: {lost[0]['error']}"
        lines.append(
            f"Trials that failed: {len(lost)}, the first by {error}. `{command} --retry-failed` runs them again."
        )
    if others := len(done - set(planned)):
        lines.append(f"Trials that the recipe does not have: {others}; it was changed, or overridden.")
    return lines


def planned_points(recipe: Recipe) -> dict[str, str]:
    """The varied settings of each trial in words, by what makes it a trial of its own; needs no model."""
    trials = [trial.columns() for trial in plan(recipe, defaultdict(lambda: None))]
    return {_key(recipe, trial): setting({name: trial[name] for name in recipe.varied}) for trial in trials}


def done_of(recipe: Recipe, rows: Iterable[Row]) -> set[str]:
    """What makes each row without an error a trial of its own, as `planned_points` has it."""
    return {_key(recipe, row) for row in rows if not row.get("error")}


def _key(recipe: Recipe, row: Row) -> str:
    names = [*recipe.varied, "text", "seed", "repeat"]
    return json.dumps([plain(row.get(name)) for name in names])
