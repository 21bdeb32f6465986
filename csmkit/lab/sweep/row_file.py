"""Rows on disk: one JSON object a line, each on the disk before the next trial counts, whatever happens in between."""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from csmkit.closing import Closing
from csmkit.errors import ResultsError
from csmkit.files.writer import write_whole

ROWS, DAMAGED = "rows.jsonl", "rows.damaged"

logger = logging.getLogger(__name__)


class RowFile(Closing):
    """``rows.jsonl`` of a folder, held by one writer at a time.

    Opening it mends what an interruption has left: a line that is no row goes to ``rows.damaged`` with a warning, and
    its trial counts as not done.

    Args:
        folder: folder of the results; it is made if it does not exist.

    Raises:
        ResultsError: the folder cannot be made, read or written, or another sweep is writing it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / ROWS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise self.failure(error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.rows = self._mended()
            self._file = self._opened()
            os.fsync(self._lock)
        except OSError as error:
            os.close(self._lock)
            if isinstance(error, BlockingIOError):
                raise ResultsError(f"{str(folder)!r} is being written by another sweep: wait for it to end") from error
            raise self.failure(error) from error

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row; it is on the disk when this returns.

        Raises:
            ResultsError: it cannot be written, such as on a full disk. What was written before is kept whole.
        """
        line = _line(row)
        end = os.fstat(self._file).st_size
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, end)  # no half a row stays behind
            raise self.failure(error) from error
        self.rows[row["trial_id"]] = dict(row)

    def keep(self, trial_ids: Container[str]) -> None:
        """Forget all rows but these, at once; raises ResultsError."""
        kept = {key: row for key, row in self.rows.items() if key in trial_ids}
        try:
            write_whole(self.path, b"".join(map(_line, kept.values())))
            os.close(self._file)
            self._file = self._opened()
        except OSError as error:
            raise self.failure(error) from error
        self.rows = kept

    def _opened(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)

    def close(self) -> None:
        """Let others write."""
        os.close(self._file)
        os.close(self._lock)

    def _mended(self) -> dict[str, dict[str, Any]]:
        """The rows by identity, the last of each; damaged lines are moved out of the file first."""
        content = self.path.read_bytes() if self.path.exists() else b""
        rows, good, bad = parse(content)
        if bad:
            with open(self.folder / DAMAGED, "ab") as file:
                file.write(b"".join(line.rstrip(b"\n") + b"\n" for line in bad))
            write_whole(self.path, b"".join(good))
            where = f"{str(self.path)!r} had {len(bad)} damaged line(s), now in {DAMAGED!r}"
            logger.warning("%s: %d rows are kept, the trials of the others will run again", where, len(good))
        return {row["trial_id"]: row for row in rows}

    def failure(self, error: OSError) -> ResultsError:
        """What an error of the system means for who runs a sweep."""
        remedy = "make room or choose another folder with --results, then run the same command again; rows are kept"
        return ResultsError(f"cannot write results in {str(self.folder)!r} ({error.strerror or error}): {remedy}")


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(plain(row), ensure_ascii=False, allow_nan=False).encode() + b"\n"


def parse(content: bytes) -> tuple[list[dict[str, Any]], list[bytes], list[bytes]]:
    """Rows, the lines they came from, and the lines that are none: cut short, no JSON, or without an identity."""
    rows, good, bad = [], [], []
    same: dict[str, str] = {}  # the names of columns and the words in them are stored once, not once a row
    for line in content.splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and isinstance(row.get("trial_id"), str) and line.endswith(b"\n"):
            rows.append({same.setdefault(name, name): _stored_once(value, same) for name, value in row.items()})
            good.append(line)
        else:
            bad.append(line)
    return rows, good, bad


def _stored_once(value: Any, same: dict[str, str]) -> Any:
    return same.setdefault(value, value) if isinstance(value, str) and len(value) < 64 else value


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder, one a trial: the last, where a failed one was run again; ResultsError without any."""
    path = folder / ROWS
    try:
        rows, _, bad = parse(path.read_bytes())
    except OSError as error:
        raise ResultsError(
            f"cannot read {str(path)!r} ({error.strerror}): give a folder that `csmkit sweep` has filled"
        ) from error
    if not rows:
        raise ResultsError(f"{str(path)!r} holds no row: run `csmkit sweep` first")
    if bad:
        logger.warning("%r has %d damaged line(s), which are left out: run the sweep again", str(path), len(bad))
    return list({row["trial_id"]: row for row in rows}.values())


def write_json(path: Path, value: Any) -> None:
    """Write a file of a folder of results; raises ResultsError."""
    try:
        write_whole(path, json.dumps(plain(value), indent=1, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise ResultsError(f"cannot write {str(path)!r} ({error.strerror}): choose another folder") from error


def plain(value: Any) -> Any:
    """A value as JSON has it: numpy's numbers as Python's, tuples as lists, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    number = value.item() if type(value).__module__ == "numpy" else value
    if isinstance(number, float):
        return number if math.isfinite(number) else None
    return number
