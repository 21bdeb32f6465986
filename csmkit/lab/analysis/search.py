"""Settings found where a grid is too big: Optuna proposes, a sweep measures, and the best trade-offs are kept.

Each proposal is run on every text and seed of the recipe, so its figures are those of any sweep, and its rows are in
the same file: a search that is stopped goes on, and a report is made as usual. With several aims the sampler is NSGA-II
(Deb et al., IEEE Trans. Evolutionary Computation 2002), with one it is TPE (Bergstra et al., NeurIPS 2011).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from csmkit.errors import InputError
from csmkit.lab.analysis.columns import column_of
from csmkit.lab.analysis.findings import with_derived
from csmkit.lab.analysis.rows import pareto_front
from csmkit.lab.analysis.statistics import central
from csmkit.lab.sweep.axes import AXES
from csmkit.lab.sweep.plan import plan
from csmkit.lab.sweep.recipe import Recipe
from csmkit.lab.sweep.row_file import read_rows, write_json
from csmkit.lab.sweep.runner import RECIPE, SweepSummary, run_sweep
from csmkit.lab.sweep.worker import model_checksums
from csmkit.plugins import library

FRONT = "front.json"


def run_search(recipe: Recipe, folder: Path, **options: Any) -> SweepSummary:
    """Try the settings that Optuna proposes, until ``n_settings`` of them have rows.

    Args:
        folder: folder of the rows; `FRONT` is written there too, the settings that no other one beats in all aims.

    Raises:
        InputError: a recipe without ``search``, or an aim that was measured in no row.
        MissingDependencyError: optuna is not installed.
        CsmkitError: as `run_sweep`.
    """
    if not recipe.search:
        raise InputError(f"recipe {recipe.name!r} has no [search]: run it as a sweep")
    study, aims = _study(recipe), recipe.search["aims"]
    options, fresh = {**options, "fresh": False}, bool(options.get("fresh"))
    found: list[dict[str, Any]] = []
    done: list[SweepSummary] = []
    for number in range(recipe.search["n_settings"]):
        trial = study.ask()
        point = {name: (_proposed(trial, recipe, name),) for name in recipe.varied}
        one = replace(recipe, axes={**recipe.axes, **point}, baseline={})
        done.append(run_sweep(one, folder, **{**options, "fresh": fresh and number == 0, "renew": False}))
        figures = _figures(one, folder, aims)
        study.tell(trial, [figures[name] for name in aims])
        found.append({**{name: values[0] for name, values in point.items()}, **figures})
    write_json(folder / RECIPE, recipe.as_json())
    write_json(folder / FRONT, pareto_front(found, aims))
    counts = [sum(getattr(item, name) for item in done) for name in ("n_trials", "n_skipped", "n_run", "n_failed")]
    return SweepSummary(folder, *counts)


def _study(recipe: Recipe) -> Any:
    optuna = library("optuna", "search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ways = ["minimize" if way == "lower" else "maximize" for way in recipe.search["aims"].values()]
    kind = optuna.samplers.NSGAIISampler if len(ways) > 1 else optuna.samplers.TPESampler
    sampler = kind(seed=recipe.order_seed)
    return optuna.create_study(directions=ways, sampler=sampler)


def _proposed(trial: Any, recipe: Recipe, name: str) -> Any:
    """A value of an axis: one of its values, or a number of its range."""
    span = recipe.search["ranges"].get(name)
    values = recipe.axes[name]
    if span is None:
        return values[trial.suggest_categorical(name, list(range(len(values))))]
    whole = isinstance(span["low"], int) and isinstance(span["high"], int)
    suggest = trial.suggest_int if whole else trial.suggest_float
    value = suggest(name, span["low"], span["high"], log=bool(span.get("log")))
    return AXES[name].check(value if whole else float(f"{value:.3g}"), recipe.preset)


def _figures(recipe: Recipe, folder: Path, aims: Mapping[str, str]) -> dict[str, float]:
    """The figure of each aim over the rows of one setting."""
    mine = {trial.trial_id for trial in plan(recipe, model_checksums(recipe))}
    rows = [with_derived(row) for row in read_rows(folder) if row["trial_id"] in mine and not row.get("error")]
    figures = {}
    for item in map(column_of, aims):
        known = [row for row in rows if item.column in row]
        value = central(known, item.column, weight=item.weight, share=item.share)
        if value is None:
            raise InputError(f"aim {item.column!r} was measured in no row: name one of {', '.join(recipe.metrics)}")
        figures[item.column] = value
    return figures
