"""Experiment trackers. A tracker is a plugin of kind ``tracker``: a factory that is called without arguments.

MLflow's is found as usual, by MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME; SageMaker's managed server takes the
address that is its ARN once the package sagemaker-mlflow is installed. Without its package a tracker raises
MissingDependencyError.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from csmkit.errors import ResultsError
from csmkit.lab.analysis.columns import columns
from csmkit.lab.analysis.findings import Findings, analyse
from csmkit.lab.analysis.pairs import setting, shown
from csmkit.lab.analysis.rows import is_number
from csmkit.lab.analysis.sentences import interval_rows
from csmkit.lab.report.folder import MANIFEST
from csmkit.lab.sweep.recipe import Recipe
from csmkit.lab.sweep.row_file import plain, read_rows
from csmkit.plugins import library

logger = logging.getLogger(__name__)

LONGEST = 500  # letters of a parameter that MLflow keeps


class Tracker(Protocol):
    """What a tracker plugin makes. A tracker may also have ``start(folder, recipe)``, called before the first trial,
    and ``row(row)``, called with each row once it is on the disk."""

    def track(self, folder: Path) -> str:
        """Report a folder of results, once its report is built; returns where to look."""
        ...


def run_key(folder: Path, recipe: Mapping[str, Any]) -> str:
    """The key of a sweep's run at a tracker: the same folder and recipe give the same run each time."""
    identity = json.dumps([str(folder.resolve()), plain(recipe)], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The measured columns of a row, which a tracker draws trial by trial."""
    known = {name for name, column in columns().items() if column.margin is not None or name.endswith("_ms")}
    return {name: float(value) for name, value in row.items() if name in known and is_number(value)}


class MlflowTracker:
    """One MLflow run a sweep, with a run inside it for each combination of settings.

    While the sweep runs, the figures of each trial are logged as it ends. At the end the run has the recipe as
    parameters, and figures, tables and page as artifacts; the inner runs have their settings as parameters and the
    median or mean of each figure, with the ends of its interval, as metrics. A sweep that is tracked twice, or that is
    continued after an interruption, is the same run: it is found by the tag ``csmkit.run``.
    """

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing goes anywhere but to the server asked for
        self._mlflow = library("mlflow", "mlflow")
        self._live: str | None = None
        self._step = 0
        logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs every table it makes

    def start(self, folder: Path, recipe: Recipe) -> None:
        """Begin the sweep's run, or find it; raises ResultsError where the server refuses."""
        with self._explained():
            self._live = self._run(run_key(folder, recipe.as_json()), recipe.name)
            history = self._mlflow.MlflowClient().get_run(self._live).data.metrics
            self._step = int(history.get("trials_done", 0))

    def row(self, row: Mapping[str, Any]) -> None:
        """Log a trial. A server that refuses is a warning: the row is safe on the disk."""
        if self._live is None:
            return
        self._step += 1
        try:
            found = {**numbers(row), "trials_done": self._step}
            batch = [self._mlflow.entities.Metric(name, value, 0, self._step) for name, value in found.items()]
            self._mlflow.MlflowClient().log_batch(self._live, metrics=batch)
        except self._mlflow.exceptions.MlflowException as error:
            logger.warning("MLflow refuses a trial (%s): its row is on the disk", error)

    def track(self, folder: Path) -> str:
        """Log the sweep and return the run's address; ResultsError without a report, or where the server refuses."""
        manifest, findings = _reported(folder)
        key = run_key(folder, manifest["recipe"])
        with self._explained():
            run_id = self._run(key, manifest["experiment"])
            with self._mlflow.start_run(run_id=run_id):
                self._log(run_id, _parameters(manifest), _counts(manifest))
                self._mlflow.log_artifacts(str(folder))
                for row in findings.table:
                    point = {name: row[name] for name in findings.axes}
                    inner = self._run(f"{key} {setting(point)}", setting(point))
                    with self._mlflow.start_run(run_id=inner, nested=True):
                        settings = {name: shown(value) for name, value in point.items()}
                        self._log(inner, settings, {**_ends(findings, row), "n": row["n"]})
        return f"{self._mlflow.get_tracking_uri()} run {run_id}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._mlflow.exceptions.MlflowException as error:
            raise ResultsError(f"MLflow refuses ({error}): check MLFLOW_TRACKING_URI; the results are whole") from error

    def _run(self, key: str, name: str) -> str:
        """The run of a key, made where there is none yet."""
        client = self._mlflow.MlflowClient()
        places = [experiment.experiment_id for experiment in client.search_experiments()]
        found = client.search_runs(places, f"tags.`csmkit.run` = '{key}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        with self._mlflow.start_run(run_name=name, tags={"csmkit.run": key}, nested=True) as run:
            return str(run.info.run_id)

    def _log(self, run_id: str, parameters: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Log into the run under way; parameters that it has stay, as MLflow refuses another value."""
        known = self._mlflow.MlflowClient().get_run(run_id).data.params
        self._mlflow.log_params({name: value for name, value in parameters.items() if name not in known})
        self._mlflow.log_metrics(dict(metrics))


class WandbTracker:
    """One Weights & Biases run a sweep: each trial as it ends, at the end the table of settings and the page.

    Tracked twice, or continued, it is the same run. ``WANDB_PROJECT`` and ``WANDB_MODE=offline`` are heeded.
    """

    def __init__(self) -> None:
        self._wandb = library("wandb", "wandb")
        self._run: Any = None

    def start(self, folder: Path, recipe: Recipe) -> None:
        """Begin the sweep's run, or go on with it."""
        self._begin(run_key(folder, recipe.as_json()), recipe.name, recipe.as_json())

    def _begin(self, key: str, name: str, config: Mapping[str, Any]) -> None:
        if self._run is None:
            project = os.environ.get("WANDB_PROJECT", "csmkit")
            self._run = self._wandb.init(project=project, id=key, name=name, config=dict(config), resume="allow")

    def row(self, row: Mapping[str, Any]) -> None:
        """Log a trial."""
        if self._run is not None:
            self._run.log(numbers(row))

    def track(self, folder: Path) -> str:
        """Log the table of settings and the page, end the run, and return its address, or its folder offline."""
        manifest, findings = _reported(folder)
        self._begin(run_key(folder, manifest["recipe"]), manifest["experiment"], manifest["recipe"])
        rows = interval_rows(findings)
        data = [[str(value) for value in row.values()] for row in rows]
        self._run.log({"settings": self._wandb.Table(columns=list(rows[0]), data=data)})
        self._run.summary.update(_counts(manifest))
        self._run.save(str(folder / "report.html"), base_path=str(folder), policy="now")
        address = str(self._run.url or self._run.dir)
        self._run.finish()
        self._run = None
        return address


def _reported(folder: Path) -> tuple[dict[str, Any], Findings]:
    """The manifest of a folder, and the analysis of its rows."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ResultsError(f"no report in {str(folder)!r} yet: run `csmkit report {folder}` first")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    return manifest, analyse(read_rows(folder), manifest["recipe"].get("baseline"))


def _counts(manifest: Mapping[str, Any]) -> dict[str, int]:
    return {name: manifest[name] for name in ("n_rows", "n_failed")}


def _ends(findings: Findings, row: Mapping[str, Any]) -> dict[str, float]:
    """Each figure of a setting and the ends of its interval."""
    columns = (row[item.column].columns(item.column) for item in findings.headlines)
    return {name: value for known in columns for name, value in known.items() if value is not None}


def _parameters(manifest: dict[str, Any]) -> dict[str, str]:
    recipe = {name: value for name, value in manifest["recipe"].items() if name not in ("texts", "axes", "question")}
    axes = {f"axis_{name}": values for name, values in manifest["recipe"].get("axes", {}).items()}
    machine = {name: ", ".join(values) for name, values in manifest["measured_with"].items() if values}
    parameters = {**recipe, **axes, **machine}
    return {name: str(value)[:LONGEST] for name, value in parameters.items() if value not in (None, "", {}, [])}


class FakeTracker:
    """Remembers the folders that it was given: for tests, and as a template."""

    tracked: list[Path] = []  # noqa: RUF012  # of all trackers: a plugin is made anew for each sweep

    def track(self, folder: Path) -> str:
        """Remember a folder."""
        self.tracked.append(folder)
        return "memory"
