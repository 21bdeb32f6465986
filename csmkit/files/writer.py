"""Fills a checkpoint directory, all of it or nothing."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from csmkit.errors import CheckpointError, CheckpointWriteError, InputError
from csmkit.files.safetensors_writer import SafetensorsWriter
from csmkit.files.tensors import WEIGHTS_NAME

Tensors = dict[str, Callable[[], Tensor]]  # a function each, which reads it
Plan = dict[str, tuple[Mapping[str, Any], Tensors]]  # for each folder, "" being the directory: config.json and weights


def require_empty(target: Path) -> None:
    """Raise InputError unless there is nothing at ``target``, or an empty directory."""
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise InputError(
            f"target {str(target)!r} is a file or a directory with files in it, which are never overwritten: "
            "give a new directory, or empty this one"
        )


def write_checkpoint(plan: Plan, side_files: list[Path], target: Path) -> int:
    """Fill a directory, or leave it as it was; shows progress on a terminal.

    Args:
        plan: of its weights.
        side_files: which are copied beside them.
        target: an empty directory, or none yet.

    Returns:
        the bytes of its files with tensors.

    Raises:
        CheckpointError: a tensor cannot be read.
        CheckpointWriteError: the directory cannot be written, or the disk is full.
    """
    writers = {folder: SafetensorsWriter(tensors) for folder, (_, tensors) in plan.items()}
    n_bytes = sum(writer.n_bytes for writer in writers.values())
    is_new = not target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        _require_space(target, n_bytes)
        # Inside the target, which may be a disk of its own: moving at the end then stays on it.
        with tempfile.TemporaryDirectory(dir=target, prefix=".partial-") as partial:
            work = Path(partial)
            for path in side_files:
                shutil.copyfile(path, work / path.name)
            with tqdm(total=n_bytes, unit="B", unit_scale=True, disable=None, desc=target.name) as progress:
                for folder, (values, _) in plan.items():
                    (work / folder).mkdir(exist_ok=True)
                    (work / folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
                    writers[folder].write(work / folder / WEIGHTS_NAME, progress.update)
            for path in sorted(work.iterdir()):
                path.rename(target / path.name)
    except OSError as error:
        if isinstance(error, CheckpointError):  # it has said what is wrong
            raise
        raise CheckpointWriteError(
            f"cannot write {str(target)!r} ({error}): give a directory you may write to, "
            f"on a disk with {n_bytes / 1e9:.1f} GB free"
        ) from error
    finally:
        if is_new and target.is_dir() and not any(target.iterdir()):
            target.rmdir()
    return n_bytes


def _require_space(target: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(target).free
    if free < n_bytes:
        raise CheckpointWriteError(
            f"{str(target)!r} has {free / 1e9:.1f} GB free, the checkpoint takes {n_bytes / 1e9:.1f} GB: "
            "free some, or give a directory on another disk"
        )
