"""Telling an experiment tracker of a sweep. A tracker is a plugin of kind ``tracker``: a factory, called with nothing.

MLflow's is found as usual, by MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME; SageMaker's managed server takes the
address that is its ARN once the package sagemaker-mlflow is installed.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, Protocol

from csmkit.errors import MissingDependencyError, ResultsError
from csmkit.lab.analysis.findings import Findings, analyse
from csmkit.lab.analysis.pairs import shown
from csmkit.lab.report.folder import MANIFEST
from csmkit.lab.sweep.row_file import read_rows

LONGEST = 500  # letters of a parameter that MLflow keeps


class Tracker(Protocol):
    """What a tracker plugin makes."""

    def track(self, folder: Path) -> str:
        """Tell of a folder of results, once its report is built; returns where to look."""
        ...


class MlflowTracker:
    """One MLflow run a sweep, with a run inside it for each combination of settings.

    The sweep's has the recipe as parameters, and figures, tables and page as artifacts; the inner ones have their
    settings as parameters and the median or mean of each figure, with the ends of its interval, as metrics.

    Raises:
        MissingDependencyError: mlflow is not installed.
    """

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing goes anywhere but to the server asked for
        try:
            import mlflow
        except ImportError as error:
            raise MissingDependencyError.for_extra("mlflow", "mlflow") from error
        self._mlflow: Any = mlflow
        logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every table it makes

    def track(self, folder: Path) -> str:
        """Log the sweep; returns the run's address.

        Raises:
            ResultsError: no rows, no report yet, or the server refuses.
        """
        manifest_path = folder / MANIFEST
        if not manifest_path.is_file():
            raise ResultsError(f"no report in {str(folder)!r} yet: run `csmkit report {folder}` first")
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        findings = analyse(read_rows(folder), manifest["recipe"].get("baseline"))
        try:
            with self._mlflow.start_run(run_name=manifest["experiment"]) as run:
                self._mlflow.log_params(_parameters(manifest))
                self._mlflow.log_metrics({"n_rows": manifest["n_rows"], "n_failed": manifest["n_failed"]})
                self._mlflow.log_artifacts(str(folder))
                self._points(findings)
        except self._mlflow.exceptions.MlflowException as error:
            raise ResultsError(f"MLflow refuses ({error}): check MLFLOW_TRACKING_URI; the results are whole") from error
        return f"{self._mlflow.get_tracking_uri()} run {run.info.run_id}"

    def _points(self, findings: Findings) -> None:
        for row in findings.table:
            settings = {name: shown(row[name]) for name in findings.axes}
            name = ", ".join(f"{axis} {value}" for axis, value in settings.items()) or "all trials"
            with self._mlflow.start_run(run_name=name, nested=True):
                self._mlflow.log_params(settings)
                for item in findings.headlines:
                    interval = row[item.column]
                    ends = {"": interval.median, "_low": interval.low, "_high": interval.high}
                    known = {item.column + end: value for end, value in ends.items() if value is not None}
                    self._mlflow.log_metrics({**known, "n": row["n"]})


def _parameters(manifest: dict[str, Any]) -> dict[str, str]:
    recipe = {name: value for name, value in manifest["recipe"].items() if name not in ("texts", "axes", "question")}
    axes = {f"axis_{name}": values for name, values in manifest["recipe"].get("axes", {}).items()}
    machine = {name: ", ".join(values) for name, values in manifest["measured_with"].items() if values}
    told = {**recipe, **axes, **machine}
    return {name: str(value)[:LONGEST] for name, value in told.items() if value not in (None, "", {}, [])}


class FakeTracker:
    """Remembers the folders it was told of: for tests, and as a template."""

    tracked: list[Path] = []  # noqa: RUF012  # of all trackers: a plugin is made anew for each sweep

    def track(self, folder: Path) -> str:
        """Remember a folder."""
        self.tracked.append(folder)
        return "memory"
