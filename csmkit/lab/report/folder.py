"""Folders of results: the table, the manifest, and a copy elsewhere."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from csmkit.errors import ResultsError
from csmkit.files.addresses import find_store, open_address
from csmkit.files.writer import write_whole
from csmkit.lab.analysis.pairs import shown
from csmkit.lab.sweep.axes import AXES
from csmkit.lab.sweep.row_file import DAMAGED, ROWS, write_json
from csmkit.lab.sweep.worker import origin

logger = logging.getLogger(__name__)

TABLE, PARQUET, MANIFEST = "table.csv", "table.parquet", "manifest.json"
REMADE = (".csv", ".parquet", ".pdf", ".svg")  # not in the manifest, nor in this repository: made again from the rows
MODELS = ("preset", "voice", "voice_sha256", "whisper", "whisper_sha256")  # columns that say what spoke and heard
_IN_EACH_ROW = ("trial_id", "text", "seed", "started", "error", *AXES)


def results_folder(given: str | None, experiment: str) -> Path:
    """Where rows are written: the folder given; for none or an address such as ``s3://bucket/path``, runs/NAME.

    Rows need a disk that a write is certain to have reached, which no object store has: `RowsMirror` copies them.
    """
    return Path("runs") / experiment if given is None or "://" in given else Path(given)


class RowsMirror:
    """Keeps the rows of a running sweep at an fsspec address too, such as ``s3://bucket/path``; called with each row.

    Args:
        every_s: seconds between two copies; the report's end makes the last one, by `copy_results`.

    Raises:
        MissingDependencyError, InputError: as `csmkit.files.addresses.find_store`.
    """

    def __init__(self, address: str, folder: Path, every_s: float = 30.0) -> None:
        self._system, self._path = find_store(address)
        self._address, self._folder, self._every_s = address, folder, every_s
        self._copied_at = -every_s

    def pull(self) -> int:
        """Fetch rows that are there and not here, so that the sweep goes on with them; returns how many files.

        Raises:
            ResultsError: the store refuses.
        """
        if (self._folder / ROWS).exists():
            return 0
        try:
            found = self._system.find(self._path) if self._system.exists(f"{self._path}/{ROWS}") else []
            if found:
                self._system.get(f"{self._path}/", f"{self._folder}/", recursive=True)
        except OSError as error:
            raise ResultsError(f"cannot read {self._address!r} ({error}): check the address and its rights") from error
        return len(found)

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Copy the rows, if the last copy is old. A store that refuses is a warning: the rows are safe here."""
        if time.monotonic() - self._copied_at < self._every_s:
            return
        self._copied_at = time.monotonic()
        try:
            self._system.makedirs(self._path, exist_ok=True)
            self._system.put_file(str(self._folder / ROWS), f"{self._path}/{ROWS}")
        except OSError as error:
            logger.warning("cannot copy rows to %r (%s): they are whole in %r", self._address, error, str(self._folder))


def copy_results(folder: Path, address: str) -> str:
    """Copy a folder to an fsspec address, such as ``s3://bucket/path``; returns where it is.

    Raises:
        MissingDependencyError, InputError: as `csmkit.files.addresses.find_store`.
        ResultsError: the store refuses.
    """
    system, path = find_store(address)
    files = [item for item in folder.rglob("*") if item.is_file() and not item.name.startswith(".")]
    try:
        system.put([str(file) for file in files], [f"{path}/{file.relative_to(folder).as_posix()}" for file in files])
    except OSError as error:
        raise ResultsError(f"cannot copy to {address!r} ({error}): the results are whole in {str(folder)!r}") from error
    return address


def keep_rows(rows: Iterable[Mapping[str, Any]], place: str) -> str:
    """Write rows to ``rows.jsonl`` of a folder or an address, one JSON object a line; an earlier file is replaced.

    Args:
        place: a folder, or an address such as ``s3://bucket/path``; empty keeps nothing.

    Returns:
        Where they are, or a sentence that they were not kept.

    Raises:
        ResultsError: the place cannot be written.
        MissingDependencyError: the package for this kind of address is not installed, such as s3fs.
    """
    if not place:
        return "The rows were not kept: give a folder or an address as `keep`."
    path = f"{place.rstrip('/')}/{ROWS}"
    try:
        with open_address(path, "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    except OSError as error:
        raise ResultsError(f"cannot write {path!r} ({error}): give a folder or an address you may write to") from error
    return path


def write_table(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write the rows as CSV, and as parquet where pyarrow is installed; schedules are written as "1-2-4-6".

    Returns:
        The columns that are the same in all rows, such as versions: the table leaves them out, the manifest has them.
    """
    import pandas

    frame = pandas.DataFrame.from_records(list(rows))
    for name in {key for row in rows for key, value in row.items() if isinstance(value, tuple | list)}:
        frame[name] = frame[name].map(lambda value: value if value is None else shown(value))
    constant = [name for name in frame if name not in _IN_EACH_ROW and frame[name].nunique(dropna=False) == 1]
    same = {name: frame[name].iloc[0] for name in constant} if len(frame) > 1 else {}
    frame = frame.drop(columns=list(same))
    frame = frame.sort_values("started", kind="stable") if "started" in frame else frame
    write_whole(folder / TABLE, frame.to_csv(index=False).encode())
    if find_spec("pyarrow") is not None:
        frame.to_parquet(folder / PARQUET, index=False)
    return {name: None if pandas.isna(value) else value for name, value in same.items()}


def write_manifest(
    folder: Path, rows: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any], command: str, same: Mapping[str, Any]
) -> None:
    """Write what the folder holds and where it comes from; every file with its size and checksum.

    Tables, and figures as PDF and SVG, are left out: `csmkit report` makes them again.
    """
    files = {
        str(path.relative_to(folder)): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, DAMAGED) and not path.name.startswith(".")
        if path.suffix not in REMADE
    }
    measured = [row for row in rows if not row.get("error")]
    manifest = {
        "experiment": recipe.get("name", folder.name),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "n_rows": len(rows),
        "n_failed": len(rows) - len(measured),
        "first_trial": min((row["started"] for row in rows), default=None),
        "last_trial": max((row["started"] for row in rows), default=None),
        "measured_with": {
            name: sorted({str(row[name]) for row in measured if row.get(name) is not None})
            for name in (*origin(), "device", *MODELS)
            if any(name in row for row in measured)
        },
        "same_in_all_rows": dict(same),
        "recipe": dict(recipe),
        "files": files,
    }
    write_json(folder / MANIFEST, manifest)
