"""Running a recipe: what is done is skipped, what is finished is on the disk, what fails is a row."""

from __future__ import annotations

import logging
import math
import shutil
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from csmkit.errors import InputError, ResultsError
from csmkit.lab.sweep.engines import Engine, EngineOptions
from csmkit.lab.sweep.plan import Planned, plan, tasks
from csmkit.lab.sweep.recipe import Recipe
from csmkit.lab.sweep.row_file import ROWS, RowFile, plain, write_whole
from csmkit.lab.sweep.worker import Done, model_checksums, voice_name, write_clip
from csmkit.lab.trials.progress import bar_file

CLIPS, FIGURES, RECIPE = "clips", "figures", "recipe.json"
MOST_LOSSES = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepSummary:
    """How a sweep went.

    Attributes:
        folder: of the results.
        n_trials: of the recipe.
        n_skipped: that were done before.
        n_run: that ran now, failures among them.
        n_failed: of all, those whose row has an error.
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
) -> SweepSummary:
    """Run the trials of a recipe that have no row yet. May be killed at any moment and called again.

    Args:
        recipe: as `load_recipe` reads it.
        results: folder of the rows; None is ``results/<name of the recipe>``.
        engine: where trials run; None is one after the other in this process.
        retry_failed: run those again whose row has an error.
        fresh: forget the rows that are there.
        renew: forget those of them that are no trial of this recipe and its models as they are now.
        progress: show a bar on stderr, in a notebook in the cell's output.

    Raises:
        ResultsError: the folder cannot be written, or holds rows of other models or metrics; rows written are kept.
        CsmkitError: a model is missing, or the engine cannot start; nothing has run then.
    """
    folder = Path("results") / recipe.name if results is None else results
    checksums = model_checksums(recipe)
    trials = plan(recipe, checksums)
    with RowFile(folder) as rows:
        if fresh or renew:
            _forget(folder, rows, set() if fresh else {trial.trial_id for trial in trials})
        _check_same_experiment(recipe, checksums, rows.rows)
        done = {key for key, row in rows.rows.items() if not (retry_failed and row.get("error"))}
        todo = [trial for trial in trials if trial.trial_id not in done]
        _write(folder / RECIPE, recipe)
        run = _Run(recipe, rows, (engine or EngineOptions()))
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

    def __init__(self, recipe: Recipe, rows: RowFile, options: EngineOptions) -> None:
        self._recipe, self._rows, self._options = recipe, rows, options
        self._losses: Counter[str] = Counter()

    def all(self, todo: Sequence[Planned], bar: Any) -> None:
        """Run them; Ctrl-C and an error of writing end it once what is under way has ended."""
        waiting = deque(tasks(self._recipe, todo))
        running: dict[Future[list[Done]], list[Planned]] = {}
        engine = self._options.start(self._recipe)
        try:
            while waiting or running:
                while waiting and self._has_room(engine, waiting[0], running.values()):
                    task = waiting.popleft()
                    running[engine.submit(task)] = task
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    waiting.extendleft(self._settle(engine, future, running.pop(future), bar))
        finally:
            engine.close()

    def _has_room(self, engine: Engine, task: Sequence[Planned], others: Collection[Sequence[Planned]]) -> bool:
        """Whether a task may start; where a worker's death takes others along, who saw one runs alone from then on.

        Else a deadly trial would take its neighbours along each time, and all would be given up as deadly.
        """
        witnesses = any(trial.trial_id in self._losses for some in (task, *others) for trial in some)
        return len(others) < (1 if engine.shares_fate and witnesses else engine.room)

    def _settle(self, engine: Engine, future: Future[list[Done]], task: list[Planned], bar: Any) -> list[list[Planned]]:
        """Write the rows of a task that has ended; what has to run again comes back, in smaller tasks."""
        error = future.exception()
        if error is None:
            for trial, done in zip(task, future.result(), strict=True):
                self._write(trial, done.row, done, bar)
            return []
        if engine.is_loss(error):
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
            "preset": self._recipe.preset,
            "voice": voice_name(self._recipe) if self._recipe.speech == "csm" else self._recipe.speech,
            "metrics": ",".join(self._recipe.metrics),
            "error": None,
            "attempt": 1 + self._rows.rows.get(trial.trial_id, {}).get("attempt", 0),
        }
        self._rows.append({name: _rounded(value) for name, value in {**known, **row, "clip": clip}.items()})
        bar.update()


def _rounded(value: Any) -> Any:
    """Six digits of what was measured: no clock and no metric has more, and a file of many rows is a fifth smaller."""
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value


def _write(path: Path, recipe: Recipe) -> None:
    import json

    try:
        write_whole(path, json.dumps(plain(recipe.as_json()), indent=1, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise ResultsError(f"cannot write {str(path)!r} ({error.strerror}): choose another folder") from error


def _check_same_experiment(recipe: Recipe, checksums: Mapping[str, str | None], rows: Mapping[str, Any]) -> None:
    """Refuse to mix rows that cannot be compared."""
    metrics = ",".join(recipe.metrics)
    for row in rows.values():
        if row["metrics"] != metrics:
            other = f"rows of the metrics {row['metrics']}, the recipe has {metrics}"
        elif row.get("error") is None and row["voice_sha256"] != checksums["voice"]:
            other = "rows of another voice, or of the same before it was trained further"
        elif row.get("error") is None and row["whisper_sha256"] != checksums.get(row["whisper"], row["whisper_sha256"]):
            other = f"rows of another recogniser that was called {row['whisper']!r} as well"
        else:
            continue
        remedy = f"choose another folder with --results, or forget them with --renew; {ROWS} is as it was"
        raise InputError(f"the folder of results holds {other}: {remedy}")
