"""The results that come with the repository: whole, small, and quoted in the log only while they are current."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from csmkit.lab.report.folder import REMADE
from csmkit.lab.sweep import load_recipe, read_rows
from csmkit.lab.sweep.plan import plan
from csmkit.lab.sweep.worker import model_checksums
from experiments.log import NOT_MEASURED, filled, section

pytestmark = pytest.mark.results

ROOT = Path(__file__).parents[1]
LOG = ROOT / "experiments" / "LOG.md"
RECIPES = sorted(path.stem for path in (ROOT / "experiments").glob("*.toml"))


def manifest_of(name: str) -> dict:
    path = ROOT / "results" / name / "manifest.json"
    assert path.is_file(), f"no results of {name}: make results"
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", RECIPES)
def test_the_rows_are_those_that_the_manifest_counts_and_none_failed(name: str):
    rows, manifest = read_rows(ROOT / "results" / name), manifest_of(name)
    assert (len(rows), manifest["n_failed"]) == (manifest["n_rows"], 0)
    assert [row["error"] for row in rows if row["error"]] == []
    measured = {name: set(map(str, values)) for name, values in manifest["measured_with"].items() if values}
    assert all(str(row[name]) in values for row in rows for name, values in measured.items() if row[name] is not None)


@pytest.mark.parametrize("name", RECIPES)
def test_every_file_is_as_the_manifest_has_it(name: str):
    folder, files = ROOT / "results" / name, manifest_of(name)["files"]
    assert {"rows.jsonl", "report.html", "recipe.json"} <= set(files)
    changed = [
        path
        for path, told in files.items()
        if not (folder / path).is_file() or hashlib.sha256((folder / path).read_bytes()).hexdigest() != told["sha256"]
    ]
    assert changed == []


def test_no_manifest_names_a_file_that_git_leaves_out():
    named = [f"results/{name}/{path}" for name in RECIPES for path in manifest_of(name)["files"]]
    assert [path for path in named if Path(path).suffix in REMADE] == []
    if shutil.which("git") and (ROOT / ".git").exists():
        ignored = subprocess.run(
            ["git", "check-ignore", "--no-index", *named], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert ignored.stdout == ""


def test_the_log_says_what_the_rows_say_and_nothing_of_other_models_or_settings():
    assert LOG.read_text() == filled(LOG.read_text(), ROOT / "results"), "run python -m experiments.log"


def test_the_log_quotes_no_rows_of_another_recipe_or_model(tmp_path: Path):
    name = "seams"
    folder = tmp_path / name
    folder.mkdir()
    rows = read_rows(ROOT / "results" / name)
    recipe = load_recipe(ROOT / "experiments" / f"{name}.toml")
    trials = plan(recipe, model_checksums(recipe))
    texts = defaultdict(lambda: rows[0], {row["text"]: row for row in rows})

    def write(trial_ids: list[str]) -> None:
        lines = (
            {**texts[trial.text], **trial.columns(), "trial_id": trial_id}
            for trial, trial_id in zip(trials, trial_ids, strict=True)
        )
        (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    current = [trial.trial_id for trial in trials]
    write(current)
    assert NOT_MEASURED not in section(name, tmp_path)
    write([*current[:-1], "of another model"])
    assert section(name, tmp_path).strip() == NOT_MEASURED


def test_the_results_of_all_recipes_are_no_larger_than_ten_megabytes():
    found = (path for name in RECIPES for path in (ROOT / "results" / name).rglob("*"))
    files = [path for path in found if path.is_file() and path.suffix not in REMADE]
    sizes = [path.stat().st_size for path in files]
    assert sum(sizes) <= 10_000_000
