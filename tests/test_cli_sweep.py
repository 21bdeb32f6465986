"""csmkit sweep and csmkit report, as they are typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from csmkit.cli import app, run
from csmkit.lab.report.tracking import FakeTracker

RECIPE = """
texts = ["one two three", "four five", "six"]
seeds = [0, 1, 2]
metrics = ["latency"]
speech = "fake"
[axes]
codec = "fake"
chunk_frames = [1, 2]
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sizes.toml"
    path.write_text(RECIPE)
    return path


def test_a_sweep_runs_reports_and_is_not_run_twice(recipe: Path):
    first = CliRunner().invoke(app, ["sweep", str(recipe), "seeds=0,1,2", "--track", "fake"], catch_exceptions=False)
    assert first.exit_code == 0, first.output
    assert "18 trials run, 0 were there, 0 of 18 failed" in first.output
    assert "Report: runs/sizes/report.html" in first.output and "Tracked: memory" in first.output
    assert FakeTracker.tracked[-1] == Path("runs/sizes")
    assert f"csmkit sweep {recipe} seeds=0,1,2" in Path("runs/sizes/report.html").read_text()
    again = CliRunner().invoke(app, ["sweep", str(recipe), "--results", "runs/sizes"], catch_exceptions=False)
    assert "0 trials run, 18 were there" in again.output
    Path("runs/sizes/report.html").unlink()
    report = CliRunner().invoke(app, ["report", "runs/sizes", "--against", "runs/sizes"], catch_exceptions=False)
    assert report.exit_code == 0 and "Against a former sweep" in Path("runs/sizes/report.html").read_text()


def test_a_copy_goes_where_an_address_says(recipe: Path):
    fsspec = pytest.importorskip("fsspec")
    done = CliRunner().invoke(app, ["sweep", str(recipe), "--results", "memory://runs/sizes"], catch_exceptions=False)
    assert "Copied to memory://runs/sizes" in done.output
    assert fsspec.filesystem("memory").exists("/runs/sizes/report.html")


def test_a_mistake_is_one_line(recipe: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="1"):
        run(lambda: app(["sweep", str(recipe), "chunk_frame=2"], standalone_mode=False))
    assert capsys.readouterr().err.startswith(
        "error: override of an unknown 'chunk_frame': did you mean 'chunk_frames'"
    )
    assert not Path("runs").exists()


def test_failed_trials_end_with_status_1(recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "broken").touch()
    monkeypatch.setenv("BROKEN", str(tmp_path / "broken"))
    recipe.write_text(RECIPE.replace('"fake"\n[axes]', '"slow_voice:FailsOnce"\n[axes]').replace("six", "broken"))
    done = CliRunner().invoke(app, ["sweep", str(recipe)])
    assert done.exit_code == 1 and "6 of 18 failed" in done.output
    assert "out of memory, says the test" in Path("runs/sizes/report.html").read_text()


def test_ctrl_c_tells_that_nothing_is_lost(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("csmkit.lab.sweep.run_sweep", interrupted)
    done = CliRunner().invoke(app, ["sweep", str(recipe)])
    assert done.exit_code != 0 and "Stopped; the rows are in runs/sizes, and the same command continues" in done.output
