"""Reports: what is said of rows, what is not, and that everything but the rows comes back from them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from lab_server import need
from serving import wait_until

from csmkit.errors import InputError, MissingDependencyError, ResultsError
from csmkit.lab.analysis.pairs import HIGHER, LOWER, NOT_SHOWN, SAME, TOO_FEW, paired_rows
from csmkit.lab.analysis.statistics import crossed_interval
from csmkit.lab.plots.paper import DARK
from csmkit.lab.report import analyse, build_report, sentences
from csmkit.lab.report.folder import REMADE, copy_results, results_folder
from csmkit.lab.report.tracking import FakeTracker, MlflowTracker, WandbTracker
from csmkit.lab.sweep import make_recipe, run_sweep
from experiments.log import NOT_MEASURED
from experiments.log import main as fill_log


def trials(n_texts: int = 16, n_seeds: int = 3, **effect: float) -> list[dict[str, Any]]:
    """Rows at chunk sizes 2 and 6: texts and seeds differ much, the settings by ``effect`` with little noise."""
    random = np.random.default_rng(0)
    texts, seeds = random.normal(0, 100, n_texts), random.normal(0, 20, n_seeds)
    return [
        {
            "trial_id": f"{size}-{text}-{seed}",
            "metrics": "latency,wer",
            "error": None,
            "chunk_frames": size,
            "text": f"text {text}",
            "seed": seed,
            "finish_reason": "end_of_speech",
            "started": f"2026-01-01T00:00:{text:02}",
            "ttfa_ms": 500 + texts[text] + seeds[seed] + effect.get("gain", 0) * (size == 2) + random.normal(0, 2),
            "wer": float((text + seed + (size == 2) * (text % 2)) % 2) / 4,
            "rtf": text / 8,
            "n_words": 4 + text,
        }
        for size in (2, 6)
        for text in range(n_texts)
        for seed in range(n_seeds)
    ]


def test_a_difference_that_texts_would_hide_is_found_in_pairs():
    findings = analyse(trials(gain=-30), {"chunk_frames": 6})
    found = {item.headline.column: item for item in findings.comparisons}
    assert found["ttfa_ms"].verdict == LOWER and found["ttfa_ms"].difference.n == 48
    assert found["ttfa_ms"].difference.median == pytest.approx(-30, abs=3)
    alone = findings.table[0]["ttfa_ms"]
    assert alone.high - alone.low > 30  # the medians alone could not tell
    assert found["wer"].verdict == NOT_SHOWN and found["rtf"].verdict == SAME
    told = sentences(findings)
    assert any("lower at chunk size 2 than at 6 by" in text for text in told["shown"])
    assert any("word error rate" in text and "neither a difference" in text for text in told["not shown"])
    assert any("real-time factor (s/s): the same in every pair" in text for text in told["shown"])
    assert analyse(trials(gain=30), {"chunk_frames": 6}).comparisons[0].verdict == HIGHER


def test_nothing_is_concluded_from_less_than_twelve_texts():
    for rows in (trials(n_texts=11, n_seeds=20, gain=-300), trials(n_texts=1, gain=-300)):
        findings = analyse(rows, {"chunk_frames": 6})
        assert {item.verdict for item in findings.comparisons} == {TOO_FEW}
        told = sentences(findings)
        assert not told["shown"] and all("nothing can be said" in text for text in told["too few"])


def test_error_rates_are_means_by_words():
    rows = [{"text": "a", "seed": 0, "wer": 1.0, "n_words": 1}, {"text": "b", "seed": 0, "wer": 0.0, "n_words": 9}]
    assert crossed_interval(rows, "wer", weight="n_words").median == pytest.approx(0.1)
    assert crossed_interval(rows, "wer").median == 0.5


def test_intervals_over_texts_and_seeds_hold_the_truth_where_trials_are_not_independent():
    random, held, naive = np.random.default_rng(1), 0, 0
    for _ in range(60):
        texts, seeds = random.normal(0, 1, 12), random.normal(0, 1, 12)
        rows = [{"text": t, "seed": s, "v": texts[t] + seeds[s]} for t in range(12) for s in range(12)]
        crossed = crossed_interval(rows, "v", resamples=200)
        alone = crossed_interval([row | {"text": i, "seed": i} for i, row in enumerate(rows)], "v", resamples=200)
        held += crossed.low < 0 < crossed.high
        naive += alone.low < 0 < alone.high
    assert held >= 52 > naive  # 95 % are 57 of 60; taken as independent they hold far too seldom


def test_pairs_share_all_units_and_repeats_count_once():
    rows = [{"text": "a", "seed": s, "v": v} for s, v in ((0, 1.0), (0, 3.0), (1, 5.0), (2, None), (3, 9.0))]
    others = [{"text": "a", "seed": s, "v": 1.0} for s in (0, 1, 2)]
    assert [(row["seed"], row["v"]) for row in paired_rows(rows, others, "v")] == [(0, 1.0), (1, 4.0)]


def small_table() -> dict[str, Any]:
    return {
        "title": "A <small> sweep",
        "question": "Is it?",
        "texts": [f"one two {name}" for name in "abcdefghijkl"],
        "seeds": [0, 1, 2],
        "metrics": ["latency", "seams"],
        "speech": "fake",
        "axes": {"codec": "fake", "chunk_frames": [2, 4, [1, 2]]},
    }


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "small"
    recipe = make_recipe("small", small_table())
    run_sweep(recipe, folder, progress=False)
    build_report(folder, command="csmkit sweep small.toml")
    return folder


def test_a_report_stands_alone_and_tells_all(swept: Path):
    page = (swept / "report.html").read_text()
    assert "<h1>A &lt;small&gt; sweep</h1>" in page and "108 trials: 12 texts, 3 seeds" in page
    assert page.count("data:image/png;base64,") >= 3
    assert page.count("data:audio/flac;base64,") == 1  # the size of chunks does not change the sound
    assert "<strong>chunk size 2; chunk size 4; chunk size 1-2</strong>" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # nothing is fetched from anywhere
    for part in (
        f"figure img {{ {DARK}; }}",
        "What the data does not support",
        "csmkit sweep small.toml",
        "torch",
        "1-2",
        "corrected for that number (Holm)",
    ):
        assert part in page
    assert {path.suffix for path in (swept / "figures").iterdir()} == {".pdf", ".png", ".svg"}
    assert (swept / "references.bib").is_file() and "108 trials" in (swept / "paper.tex").read_text()
    table = pandas.read_csv(swept / "table.csv")
    assert len(table) == 108 and set(table["chunk_frames"]) == {"2", "4", "1-2"}
    assert list(table["started"]) == sorted(table["started"])
    same = json.loads((swept / "manifest.json").read_text())["same_in_all_rows"]
    assert {"preset", "version_torch", "version_csmkit"} <= set(same) and not set(same) & set(table.columns)
    rows = [json.loads(line) for line in (swept / "rows.jsonl").read_text().splitlines()]
    assert set(rows[0]) == set(same) | set(table.columns)
    assert all(row["rtf"] == float(f"{row['rtf']:.6g}") for row in rows), "six digits are all that a clock has"


def test_the_answer_and_its_plot_come_first_and_headers_are_repeated_in_print(swept: Path):
    page = (swept / "report.html").read_text()
    assert page.index("What to choose") < page.index("<figure>") < page.index("What the data shows")
    for table in page.split("<table")[1:]:
        assert table.index("<thead>") < table.index("<td")
    assert "<th>chunk_frames</th>" not in page


def test_the_manifest_has_every_file_with_its_checksum(swept: Path):
    manifest = json.loads((swept / "manifest.json").read_text())
    there = {str(path.relative_to(swept)) for path in swept.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == {path for path in there - {"manifest.json"} if Path(path).suffix not in REMADE}
    assert manifest["n_rows"] == 108 and manifest["recipe"]["name"] == "small"
    assert manifest["measured_with"]["version_csmkit"] and manifest["command"] == "csmkit sweep small.toml"


def test_everything_but_the_rows_comes_back_from_them(swept: Path, tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes((swept / "rows.jsonl").read_bytes())
    build_report(tmp_path)
    assert (tmp_path / "table.csv").read_bytes() == (swept / "table.csv").read_bytes()
    figures = {path.name: path.read_bytes() for path in (swept / "figures").glob("*.png")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").glob("*.png")} == figures
    assert "108 trials" in (tmp_path / "report.html").read_text()


def test_a_sweep_is_compared_with_a_former_one(swept: Path, tmp_path: Path):
    rows = [json.loads(line) for line in (swept / "rows.jsonl").read_text().splitlines()]
    slower = [row | {"ttfa_ms": row["ttfa_ms"] + 1000} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in slower))
    page = build_report(tmp_path, against=swept).read_text()
    assert "Against a former sweep" in page and "+1000 [1000, 1000]" in page
    found = analyse(slower, against=rows).against
    assert {item.verdict for item in found if item.headline.column == "ttfa_ms"} == {HIGHER}
    assert {item.difference.median for item in found if item.headline.column == "seam_click_auc"} <= {0.0}


def test_what_cannot_be_reported_is_told(tmp_path: Path):
    with pytest.raises(ResultsError, match="give a folder that `csmkit sweep` has filled"):
        build_report(tmp_path)
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(ResultsError, match="holds no row"):
        build_report(tmp_path)
    row = {"trial_id": "a", "metrics": "wer", "error": "no memory", "error_type": "DeviceError", "started": ""}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ResultsError, match=r"all 1 trials .* DeviceError: no memory"):
        build_report(tmp_path)


def test_results_are_copied_to_an_address_that_fsspec_knows(swept: Path):
    fsspec = pytest.importorskip("fsspec")
    assert results_folder("memory://bucket/small", "small") == Path("runs/small")
    assert results_folder("elsewhere", "small") == Path("elsewhere")
    copy_results(swept, "memory://bucket/small")
    store = fsspec.filesystem("memory")
    assert store.cat_file("/bucket/small/rows.jsonl") == (swept / "rows.jsonl").read_bytes()
    assert len(store.find("/bucket/small")) == sum(path.is_file() for path in swept.rglob("*"))
    with pytest.raises(InputError, match="not an address that fsspec knows"):
        copy_results(swept, "nowhere://bucket")


def test_a_tracker_is_a_plugin(swept: Path):
    assert FakeTracker().track(swept) == "memory" and FakeTracker.tracked[-1] == swept


@pytest.mark.filterwarnings("ignore")  # of mlflow's own
def test_mlflow_gets_parameters_figures_and_files(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    need("mlflow", extra="mlflow")
    import mlflow

    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = mlflow.create_experiment("sweeps", artifact_location=(tmp_path / "files").as_uri())
    mlflow.set_experiment("sweeps")
    address = MlflowTracker().track(swept)
    client = mlflow.MlflowClient()
    runs = client.search_runs([experiment])
    (outer,) = [run for run in runs if run.info.run_id in address]
    inner = [run for run in runs if run is not outer]
    assert outer.data.params["axis_chunk_frames"] == "[2, 4, [1, 2]]" and outer.data.metrics["n_rows"] == 108
    assert {run.data.params["chunk_frames"] for run in inner} == {"2", "4", "1-2"}
    assert all(run.data.metrics["ttfa_ms_low"] <= run.data.metrics["ttfa_ms"] for run in inner)
    tracker, recipe = MlflowTracker(), make_recipe("small", small_table())
    tracker.start(swept, recipe)  # the same sweep, told again and gone on with
    tracker.row({"ttfa_ms": 12.0, "rtf": 0.5, "text": "one", "seed": 3})
    assert tracker.track(swept) == address
    again = client.search_runs([experiment])
    assert {run.info.run_id for run in again} == {run.info.run_id for run in runs}
    live = client.get_metric_history(outer.info.run_id, "ttfa_ms")
    assert [(item.value, item.step) for item in live] == [(12.0, 1)] and "seed" not in outer.data.metrics
    files = {item.path for item in client.list_artifacts(outer.info.run_id)}
    assert {"rows.jsonl", "report.html", "figures", "table.csv"} <= files


@pytest.mark.filterwarnings("ignore")  # of wandb's own
def test_wandb_gets_trials_and_settings_without_a_network(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    need("wandb", extra="wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    tracker = WandbTracker()
    tracker.start(swept, make_recipe("small", small_table()))
    tracker.row({"ttfa_ms": 12.0, "text": "one"})
    address = tracker.track(swept)
    (log,) = tmp_path.rglob("run-*.wandb")
    assert str(tmp_path) in address
    # A process of wandb's own writes the file; on a busy machine it may still do so when the run has ended.
    wait_until(lambda: b"ttfa_ms" in log.read_bytes() and b"settings" in log.read_bytes(), "both are in the run's file")


def test_without_mlflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(MissingDependencyError, match=r"csmkit\[mlflow\]"):
        MlflowTracker()


def test_the_log_is_filled_from_rows_and_again_without_a_change(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = json.loads((swept / "recipe.json").read_text())
    (tmp_path / "small.toml").write_text(
        f"texts = {json.dumps(recipe['texts'])}\nseeds = [0, 1, 2]\nmetrics = ['latency', 'seams']\nspeech = 'fake'\n"
        "[axes]\ncodec = 'fake'\nchunk_frames = [2, 4, [1, 2]]\n"
    )
    (tmp_path / "small").mkdir()
    rows = tmp_path / "small" / "rows.jsonl"
    rows.write_bytes((swept / "rows.jsonl").read_bytes())
    log = tmp_path / "LOG.md"
    log.write_text("Words.\n\n<!-- figures: small -->\nold\n<!-- end -->\n\nMore words.\n")
    folders = ["--results", str(tmp_path), "--recipes", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["log", *folders, "--log", str(log)])
    fill_log()
    filled = log.read_text()
    assert "108 trials, 0 failed: 12 texts, 3 seeds" in filled and "| 1-2 | 36 |" in filled and "old" not in filled
    assert filled.startswith("Words.\n") and filled.endswith("More words.\n")
    fill_log()
    assert log.read_text() == filled
    rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(SystemExit, match="small: no rows of the recipe and models as they are; make results"):
        fill_log()
    assert NOT_MEASURED in log.read_text() and "108 trials" not in log.read_text()
    rows.unlink()
    with pytest.raises(SystemExit, match="small"):
        fill_log()
