"""Writes a file or a folder whole or not at all: under another name first, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from csmkit.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that there is the old or the new one at any moment, never a part; raises OSError."""
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def require_empty(target: Path) -> None:
    """Raise InputError unless there is nothing at ``target``, or an empty directory."""
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise InputError(
            f"target {str(target)!r} is a file or a directory with files in it, which are never overwritten: "
            "give a new directory, or empty this one"
        )


@contextmanager
def fill_whole(target: Path) -> Iterator[Path]:
    """Fill a directory, or leave it as it was: what is written to the folder given moves there at the end.

    Args:
        target: an empty directory, or the path of a new one.

    Yields:
        An empty folder inside ``target``, which may be a disk of its own: moving at the end then stays on it.

    Raises:
        OSError: the directory cannot be written.
    """
    is_new = not target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".partial-") as partial:
            yield Path(partial)
            for path in sorted(Path(partial).iterdir()):
                path.rename(target / path.name)
    finally:
        if is_new and target.is_dir() and not any(target.iterdir()):
            target.rmdir()
