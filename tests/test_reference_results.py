"""The results that come with the repository: whole, of the recipes and models as they are, and small."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from csmkit.lab.report.folder import REMADE
from csmkit.lab.sweep import load_recipe, read_rows
from csmkit.lab.sweep.plan import plan
from csmkit.lab.sweep.worker import model_checksums

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "experiments").glob("*.toml"))


def folder_of(name: str) -> Path:
    folder = ROOT / "results" / name
    assert (folder / "manifest.json").is_file(), f"no results of {name} here: make results"
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_there_is_one_row_for_each_trial_of_the_recipe_and_none_failed(name: str):
    rows = read_rows(folder_of(name))
    recipe = load_recipe(ROOT / "experiments" / f"{name}.toml")
    wanted = {trial.trial_id for trial in plan(recipe, model_checksums(recipe))}
    assert {row["trial_id"] for row in rows} == wanted, "the recipe or a model has changed: make results"
    assert [row["error"] for row in rows if row["error"]] == []


@pytest.mark.parametrize("name", RECIPES)
def test_every_file_is_as_the_manifest_has_it(name: str):
    folder = folder_of(name)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert {"rows.jsonl", "table.csv", "report.html", "recipe.json"} <= set(files)
    changed = [
        path
        for path, told in files.items()
        if not (folder / path).is_file() or hashlib.sha256((folder / path).read_bytes()).hexdigest() != told["sha256"]
    ]
    assert changed == []


def test_all_results_together_are_no_larger_than_ten_megabytes():
    files = [path for path in (ROOT / "results").rglob("*") if path.is_file() and path.suffix not in REMADE]
    sizes = [path.stat().st_size for path in files]
    assert sum(sizes) <= 10_000_000
