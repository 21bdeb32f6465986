"""What a sweep will cost and can show, before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from csmkit.cli import app
from csmkit.lab.report.forecast import forecast
from csmkit.lab.sweep import Recipe, make_recipe

TABLE = {
    "texts": "harvard",
    "n_texts": 20,
    "seeds": [0, 1],
    "metrics": ["latency"],
    "axes": {"chunk_frames": [2, 6, 8]},
}


def recipe(**more: Any) -> Recipe:
    return make_recipe("sizes", {**TABLE, **more})


def write_rows(folder: Path, planned: Recipe, n_texts: int, **more: Any) -> None:
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = [
        {"trial_id": f"{size}-{text}-{seed}", "chunk_frames": size, "text": text, "seed": seed, "repeat": 0}
        | {"preset": "pocket", "metrics": "latency", "error": None, "n_batch": 1, "trial_s": 0.5}
        | {"ttfa_ms": 10.0 * size + random.normal(0, 8), "rtf": 0.1, "finish_reason": "end_of_speech"}
        | more
        for size in (2, 6, 8)
        for text in planned.texts[:n_texts]
        for seed in (0, 1)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_plan_without_rows_says_its_size_and_how_to_learn_the_rest(tmp_path: Path):
    lines = forecast(recipe(), tmp_path / "sizes")
    assert lines[0] == "sizes: 120 trials (3 settings x 20 texts x 2 seeds), 0 of them done"
    assert "unknown" in lines[1] and "n_texts=2" in lines[1]
    assert "standard deviations between texts" in lines[2]


def test_time_and_power_are_learned_from_the_rows_that_are_there(tmp_path: Path):
    write_rows(tmp_path / "sizes", recipe(), 15)
    lines = forecast(recipe(), tmp_path / "sizes")
    assert "120 trials" in lines[0] and "90 of them done" in lines[0]
    assert "about 15 s in one process, at 0.50 s a trial" in lines[1]
    assert 4 < smallest_ms(lines) < 14, "differences of two seeds of 8 ms vary by 8 ms; 3.6 errors of 20 texts"
    assert smallest_ms(forecast(recipe(n_texts=80), tmp_path / "sizes")) < 0.6 * smallest_ms(lines)


def smallest_ms(lines: list[str]) -> float:
    (line,) = [line for line in lines if line.startswith("  time to first audio (ms)")]
    return float(line.split()[5].rstrip(","))


def test_a_neighbour_of_the_same_kind_of_trials_teaches_a_new_sweep_and_others_do_not(tmp_path: Path):
    write_rows(tmp_path / "other", recipe(), 15)
    write_rows(tmp_path / "batched", recipe(), 15, n_batch=8)
    assert forecast(recipe(), tmp_path / "sizes")[1].endswith("a trial as in other")


def test_a_plan_of_too_few_texts_is_told_so(tmp_path: Path):
    lines = forecast(recipe(n_texts=11), tmp_path / "sizes")
    assert lines[-1] == "11 texts: nothing will be called clear, 12 are the least"


def test_the_command_line_plans_and_runs_nothing(tmp_path: Path):
    path = tmp_path / "sizes.toml"
    path.write_text('texts = "harvard"\nn_texts = 12\nmetrics = ["latency"]\n[axes]\nchunk_frames = [2, 6]\n')
    for option in ("--plan", "--dry-run"):
        done = CliRunner().invoke(app, ["sweep", str(path), option, "--results", str(tmp_path / "results")])
        assert done.exit_code == 0 and "sizes: 72 trials (2 settings x 12 texts x 3 seeds)" in done.output
    assert not (tmp_path / "results").exists()
