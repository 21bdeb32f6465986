"""What the doctor sees of the notebook's widgets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from csmkit.cli.tools import examine, front_end


def test_the_packages_of_the_notebook_are_looked_for():
    assert {"jupyterlab", "ipywidgets", "anywidget", "matplotlib"} <= {finding.subject for finding in examine()}


def test_a_player_without_its_front_end_is_told_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr("site.getuserbase", lambda: str(tmp_path / "user"))
    missing = front_end()
    assert not missing.ok and "reload its page" in missing.remedy
    (tmp_path / "user" / "share" / "jupyter" / "labextensions" / "anywidget").mkdir(parents=True)
    assert front_end().ok
