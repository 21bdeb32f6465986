"""Tests in a browser are skipped without one, but never where all must run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "from lab_server import need; need('anywidget_that_is_not_there', browser=True)"


@pytest.mark.parametrize(("required", "outcome"), [("", "Skipped"), ("1", "Failed")])
def test_without_chromium_a_file_is_skipped_or_fails_where_it_is_required(required: str, outcome: str) -> None:
    environment = {**os.environ, "PATH": "", "PYTHONPATH": str(Path(__file__).parent)}
    environment["CSMKIT_REQUIRE_BROWSER"] = required
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert run.returncode
    assert f"{outcome}: needs anywidget_that_is_not_there" in run.stderr
    assert "needs chromium, or chrome, on the PATH" in run.stderr
