"""A sweep whose models or recipe have changed: what is still its own stays, the rest is forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_disk import largest_file
from test_sweep import fake_recipe, lines

from csmkit.errors import ResultsError
from csmkit.lab.report import build_report
from csmkit.lab.sweep import run_sweep
from csmkit.lab.sweep.row_file import RowFile


def test_rows_of_other_settings_and_models_are_forgotten_and_the_others_are_not_run_again(tmp_path: Path):
    run_sweep(fake_recipe(axes={"chunk_frames": [2, 4]}), tmp_path, progress=False)
    assert len(lines(tmp_path)) == 8
    kept = run_sweep(fake_recipe(axes={"chunk_frames": [2, 6]}), tmp_path, renew=True, progress=False)
    assert (kept.n_run, kept.n_skipped) == (4, 4)
    assert sorted(row["chunk_frames"] for row in lines(tmp_path)) == [2] * 4 + [6] * 4
    other = run_sweep(fake_recipe(metrics=["levels"]), tmp_path, renew=True, progress=False)
    assert (other.n_run, other.n_skipped) == (4, 0)
    assert {row["metrics"] for row in lines(tmp_path)} == {"levels"}


def test_a_sweep_that_is_renewed_is_resumed_like_any_other(tmp_path: Path):
    run_sweep(fake_recipe(), tmp_path, renew=True, progress=False)
    before = (tmp_path / "rows.jsonl").read_bytes()
    assert run_sweep(fake_recipe(), tmp_path, renew=True, progress=False).n_run == 0
    assert (tmp_path / "rows.jsonl").read_bytes() == before


def test_clips_and_figures_of_what_is_forgotten_go_too(tmp_path: Path):
    run_sweep(fake_recipe(metrics=["latency"]), tmp_path, progress=False)
    build_report(tmp_path)
    (tmp_path / "clips" / "stray.flac").write_bytes(b"of a trial that was killed before its row")
    (clip,) = {row["clip"] for row in lines(tmp_path) if row["clip"]}
    run_sweep(fake_recipe(metrics=["latency"]), tmp_path, renew=True, progress=False)
    assert [path.name for path in (tmp_path / "clips").iterdir()] == [Path(clip).name]
    run_sweep(fake_recipe(keep="none"), tmp_path, renew=True, progress=False)
    assert not list((tmp_path / "clips").iterdir()) and not (tmp_path / "figures").exists()


def test_rows_are_forgotten_at_once_or_not_at_all(tmp_path: Path):
    with RowFile(tmp_path) as rows:
        for name in ("first", "second", "third"):
            rows.append({"trial_id": name, "text": "x" * 300})
        with largest_file(400), pytest.raises(ResultsError, match=r"make room"):
            rows.keep({"first", "third"})
        assert [row["trial_id"] for row in lines(tmp_path)] == ["first", "second", "third"]
        rows.keep({"first", "third"})
        rows.append({"trial_id": "fourth"})
    assert [row["trial_id"] for row in lines(tmp_path)] == ["first", "third", "fourth"]
