"""Runs a recipe: trials that have a row are skipped, each row is on the disk at once, and a failure is a row too."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from csmkit.errors import InputError, ResultsError
from csmkit.lab.metrics.registry import metrics_version
from csmkit.lab.sweep.engines import Engine, EngineOptions
from csmkit.lab.sweep.plan import Planned, plan, tasks
from csmkit.lab.sweep.recipe import Recipe
from csmkit.lab.sweep.row_file import ROWS, RowFile, read_rows, write_json
from csmkit.lab.sweep.worker import Done, model_checksums, origin, voice_name, write_clip
from csmkit.lab.trials.progress import bar_file

CLIPS, FIGURES, RECIPE = "clips", "figures", "recipe.json"
MOST_LOSSES = 3
LOADING_S = 120.0  # that a worker may take before its first trial, on top of the trial's own time
MACHINE = ("cpu", "cores", "gpu")
ORIGINS = {"code_sha256": "state of csmkit", "metrics_version": "version of the metrics"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepSummary:
    """How a sweep went.

    Attributes:
        n_skipped: number of trials that were done before.
        n_run: number of trials that ran now, failures among them.
        n_failed: number of all trials whose row has an error.
    """

    folder: Path
    n_trials: int
    n_skipped: int
    n_run: int
    n_failed: int


def run_sweep(
    recipe: Recipe,
    results: Path | None = None,
    *,
    engine: EngineOptions | None = None,
    retry_failed: bool = False,
    fresh: bool = False,
    renew: bool = False,
    progress: bool = True,
    shard: tuple[int, int] | None = None,
    on_row: Callable[[Mapping[str, Any]], None] | None = None,
) -> SweepSummary:
    """Run the trials of a recipe that have no row yet. May be killed at any moment and called again.

    Args:
        results: folder of the rows; None is ``runs/<name of the recipe>``.
        engine: where trials run; None is one after the other in this process.
        retry_failed: run those again whose row has an error.
        fresh: forget the rows that are there.
        renew: forget those of them that are no trial of this recipe and its models as they are now.
        progress: show a bar on stderr, in a notebook in the cell's output.
        shard: ``(number, of)`` in a job array, from 1: runs one of ``of`` parts; `merge_rows` joins the folders.
        on_row: called with each row once it is on the disk.

    Raises:
        InputError: the folder holds rows of other models, metrics, code or another machine, or no such shard.
        ResultsError: the folder cannot be written, or too many trials failed in a row; rows written are kept.
        CsmkitError: a model is missing, or the engine cannot start; nothing has run then.
    """
    folder = Path("runs") / recipe.name if results is None else results
    options = engine or EngineOptions()
    checksums = model_checksums(recipe)
    trials = _of_shard(plan(recipe, checksums), shard)
    here = _origin(recipe, options)
    with RowFile(folder) as rows:
        if fresh or renew:
            same = {key for key, row in rows.rows.items() if not _other_origin(row, here)}
            _forget(folder, rows, set() if fresh else same & {trial.trial_id for trial in trials})
        _check_same_experiment(recipe, checksums, rows.rows, here)
        done = {key for key, row in rows.rows.items() if not (retry_failed and row.get("error"))}
        todo = [trial for trial in trials if trial.trial_id not in done]
        write_json(folder / RECIPE, recipe.as_json())
        run = _Run(recipe, rows, options, on_row)
        n_done, shown = len(trials) - len(todo), {"disable": not progress, "file": bar_file()}
        with tqdm(total=len(trials), initial=n_done, unit="trial", **shown) as bar:
            if todo:
                run.all(todo, bar)
        failed = [trial for trial in trials if rows.rows[trial.trial_id].get("error")]
        return SweepSummary(folder, len(trials), n_done, len(todo), len(failed))


def _forget(folder: Path, rows: RowFile, but: set[str]) -> None:
    """Forget all rows but some, and take away what was kept and drawn of the others."""
    if not rows.rows.keys() <= but:
        rows.keep(but)
    clips = {row.get("clip") for row in rows.rows.values()}
    try:
        for clip in (folder / CLIPS).glob("*"):
            if f"{CLIPS}/{clip.name}" not in clips:
                clip.unlink()
        if not rows.rows and (folder / FIGURES).is_dir():
            shutil.rmtree(folder / FIGURES)
    except OSError as error:
        raise ResultsError(f"cannot clear {str(folder)!r} ({error}): choose another folder with --results") from error


class _Run:
    """The trials of one call, handed to the engine as it has room."""

    def __init__(
        self, recipe: Recipe, rows: RowFile, options: EngineOptions, on_row: Callable[[Mapping[str, Any]], None] | None
    ) -> None:
        self._recipe, self._rows, self._options, self._on_row = recipe, rows, options, on_row
        self._losses: Counter[str] = Counter()
        self._late: set[Future[list[Done]]] = set()
        self._n_failures = 0  # in a row

    def all(self, todo: Sequence[Planned], bar: Any) -> None:
        """Run them; Ctrl-C and an error of writing end it once what is under way has ended."""
        waiting = deque(tasks(self._recipe, todo))
        running: dict[Future[list[Done]], tuple[list[Planned], float]] = {}
        engine, limit_s = self._options.start(self._recipe), self._options.timeout_s
        patience_s = None if limit_s is None else min(1.0, limit_s / 4)  # until the clock of each task is looked at
        try:
            while waiting or running:
                room = engine.room(len(waiting) + len(running))
                while waiting and len(running) < room:
                    task = waiting.popleft()
                    running[engine.submit(task)] = (task, time.monotonic())
                changes = [*running, *engine.starting]
                for future in wait(changes, patience_s, return_when=FIRST_COMPLETED).done & running.keys():
                    waiting.extendleft(self._settle(engine, future, running.pop(future)[0], bar))
                self._end_late(engine, running)
        finally:
            engine.close()

    def _end_late(self, engine: Engine, running: Mapping[Future[list[Done]], tuple[list[Planned], float]]) -> None:
        """End the workers of tasks that take too long. Their models are loaded anew, which may take a while."""
        if self._options.timeout_s is None:
            return
        for future, (task, since) in running.items():
            seconds = time.monotonic() - since - LOADING_S
            if future not in self._late and seconds > self._options.timeout_s * len(task):
                self._late.add(future)
                engine.abandon(future)

    def _settle(self, engine: Engine, future: Future[list[Done]], task: list[Planned], bar: Any) -> list[list[Planned]]:
        """Write the rows of a task that has ended; what has to run again comes back, in smaller tasks."""
        error = future.exception()
        if error is None:
            self._n_failures = 0
            for trial, done in zip(task, future.result(), strict=True):
                self._write(trial, done.row, done, bar)
            return []
        if future in self._late:
            error = TimeoutError(f"the trial took longer than {self._options.timeout_s:g} s")
        elif engine.is_loss(error):
            self._losses.update(trial.trial_id for trial in task)
            lost = [trial for trial in task if self._losses[trial.trial_id] >= MOST_LOSSES]
            for trial in lost:
                text = f"its worker died {MOST_LOSSES} times, killed or out of memory: {error}"
                self._write(trial, self._failure(trial, "WorkerLost", text), None, bar)
            return [[trial] for trial in task if trial not in lost]
        if len(task) > 1:  # one trial of a batch spoils it for the others: each alone
            return [[trial] for trial in task]
        cause = getattr(error, "cause", None) or error  # Ray wraps what a task raised
        self._write(task[0], self._failure(task[0], type(cause).__name__, str(cause)), None, bar)
        self._n_failures += 1
        if self._n_failures == self._options.most_failures:
            raise ResultsError(
                f"{self._n_failures} trials in a row failed, the last by {type(cause).__name__}: {cause}; correct that "
                "and run again with --retry-failed, or give --most-failures a larger number"
            )
        return []

    def _failure(self, trial: Planned, kind: str, text: str) -> dict[str, Any]:
        logger.warning("trial %s failed: %s: %s", trial.trial_id, kind, text)
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        return {**trial.columns(), "error": text, "error_type": kind, "started": started}

    def _write(self, trial: Planned, row: Mapping[str, Any], done: Done | None, bar: Any) -> None:
        clip = None
        if done is not None and done.clip is not None and len(done.clip):
            clip = f"{CLIPS}/{done.row['audio_sha256']}.flac"  # one file where settings do not change the sound
            try:
                write_clip(self._rows.folder / clip, done.clip)
            except OSError as error:
                raise self._rows.failure(error) from error
        known = {
            "experiment": self._recipe.name,
            "voice": voice_name(self._recipe) if self._recipe.speech == "csm" else self._recipe.speech,
            "metrics": ",".join(self._recipe.metrics),
            "error": None,
            "attempt": 1 + self._rows.rows.get(trial.trial_id, {}).get("attempt", 0),
        }
        whole = {**known, **row, "preset": self._recipe.preset, "clip": clip}
        self._rows.append({name: _rounded(value) for name, value in whole.items()})
        bar.update()
        if self._on_row is not None:
            self._on_row(self._rows.rows[trial.trial_id])


def _rounded(value: Any) -> Any:
    """Six digits of what was measured: no clock and no metric has more, and a file of many rows is a fifth smaller."""
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value


def _of_shard(trials: list[Planned], shard: tuple[int, int] | None) -> list[Planned]:
    number, of = shard or (1, 1)
    if not 1 <= number <= of:
        raise InputError(f"shard {number} of {of}: give a number from 1 to {of}")
    return trials[number - 1 :: of]


def _origin(recipe: Recipe, options: EngineOptions) -> dict[str, Any]:
    """What rows that are compared have in common: the machine, the code and the metrics."""
    known = origin()
    machine = () if options.name == "ray" else MACHINE  # a cluster may have several kinds of nodes
    found = {name: known[name] for name in (*machine, "code_sha256")}
    return {**found, "metrics_version": metrics_version(recipe.metrics)}


def _other_origin(row: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """The first thing in which a row differs from what would be measured here; None where it may stay."""
    if row.get("error") is not None:
        return None
    return next((name for name, value in here.items() if name in row and row[name] != value), None)


def _check_same_experiment(
    recipe: Recipe, checksums: Mapping[str, str | None], rows: Mapping[str, Any], here: Mapping[str, Any]
) -> None:
    """Refuse to mix rows that cannot be compared."""
    metrics = ",".join(recipe.metrics)
    for row in rows.values():
        if row["metrics"] != metrics:
            other = f"rows of the metrics {row['metrics']}, the recipe has {metrics}"
        elif row.get("error") is None and row["voice_sha256"] != checksums["voice"]:
            other = "rows of another voice, or of the same before it was trained further"
        elif row.get("error") is None and row["whisper_sha256"] != checksums.get(row["whisper"], row["whisper_sha256"]):
            other = f"rows of another recogniser that was called {row['whisper']!r} as well"
        elif name := _other_origin(row, here):
            other = f"rows of another {ORIGINS.get(name, 'machine')} ({name} {row[name]}, here {here[name]})"
        else:
            continue
        remedy = f"choose another folder with --results, or forget them with --renew; {ROWS} is as it was"
        raise InputError(f"the folder of results holds {other}: {remedy}")


def merge_rows(folders: Sequence[Path], target: Path) -> int:
    """Put the rows, clips and recipe of several folders, such as the shards of a job array, into one.

    Args:
        target: may be one of them, or new; rows that it has already stay.

    Returns:
        The number of rows that ``target`` has then.

    Raises:
        InputError: folders of different recipes, models, code or metrics.
        ResultsError: a folder without rows, or a target that cannot be written.
    """
    found = {folder: read_rows(folder) for folder in folders}
    same = ("experiment", "metrics", "voice_sha256", "code_sha256", "metrics_version")
    known = {tuple(row.get(name) for name in same) for rows in found.values() for row in rows if not row.get("error")}
    if len(known) > 1:
        named = [name for name, values in zip(same, zip(*known, strict=True), strict=True) if len(set(values)) > 1]
        raise InputError(f"the folders differ in {', '.join(named)}: merge rows of one recipe, voice and code")
    with RowFile(target) as file:
        for folder, rows in found.items():
            for row in rows:
                there = file.rows.get(row["trial_id"])
                if there is None or (there.get("error") and not row.get("error")):
                    file.append(row)
            for path in [folder / RECIPE, *(folder / CLIPS).glob("*")]:
                place = target / path.relative_to(folder)
                if path.is_file() and not place.exists():
                    place.parent.mkdir(exist_ok=True)
                    shutil.copyfile(path, place)
        return len(file.rows)
