"""Writes a file, a folder or a checkpoint whole or not at all: under another name first, then renamed.

Tensors are written one at a time; the safetensors library's own writer wants all tensors of a file in memory at once.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from csmkit.errors import CheckpointError, CheckpointWriteError, InputError
from csmkit.files.tensors import WEIGHTS_NAME

Tensors = dict[str, Callable[[], Tensor]]  # for each name, a function that reads the tensor
Plan = dict[str, tuple[dict[str, Any], Tensors]]  # for each folder, "" being the directory: config.json and weights

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_METADATA = {"format": "pt"}  # transformers refuses files that do not say so


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one step: at any time there is the old or the new content, never a part. Raises OSError."""
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
    """Raise InputError unless ``target`` does not exist or is an empty directory."""
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise InputError(
            f"target {str(target)!r} is a file or a directory with files in it, which are never overwritten: "
            "give a new directory, or empty this one"
        )


@contextmanager
def fill_whole(target: Path) -> Iterator[Path]:
    """Fill a directory completely, or leave it unchanged: files written to the yielded folder move there at the end.

    Args:
        target: an empty directory, or the path of a new one.

    Yields:
        An empty folder inside ``target``, so that moving at the end never crosses disks.

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


class SafetensorsWriter:
    """Writes a safetensors file, one tensor at a time.

    Args:
        tensors: a function for each name, which reads the tensor. It is called twice, for the shape and for the
            content: the first call costs little with a mapped file.

    Attributes:
        n_bytes: size of the whole file in bytes.

    Raises:
        CheckpointError: a tensor has a dtype that is not for weights.
    """

    def __init__(self, tensors: Mapping[str, Callable[[], Tensor]]) -> None:
        described = {name: _describe(name, read()) for name, read in tensors.items()}
        # Wide elements first, as the library orders them: so every tensor is aligned to its element size.
        names = sorted(described, key=lambda name: (-described[name][0].itemsize, name))
        self._tensors = {name: tensors[name] for name in names}
        header: dict[str, object] = {"__metadata__": _METADATA}
        offset = 0
        for name in names:
            dtype, shape, n_bytes = described[name]
            header[name] = {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": [offset, offset + n_bytes]}
            offset += n_bytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._header = len(text).to_bytes(8, "little") + text
        self.n_bytes = len(self._header) + offset

    def write(self, path: Path, on_tensor: Callable[[int], object]) -> None:
        """Write the file; ``on_tensor`` is called with the size of each tensor written, in bytes. Raises OSError."""
        with path.open("wb") as file:
            file.write(self._header)
            for read in self._tensors.values():
                tensor = read().contiguous()
                file.write(tensor.reshape(-1).view(torch.uint8).numpy())
                on_tensor(tensor.nbytes)


def _describe(name: str, tensor: Tensor) -> tuple[torch.dtype, list[int], int]:
    if tensor.dtype not in _DTYPES:
        raise CheckpointError(
            f"tensor {name!r} has dtype {tensor.dtype}: give a checkpoint in float32, bfloat16 or float16"
        )
    return tensor.dtype, list(tensor.shape), tensor.nbytes


def write_checkpoint(plan: Plan, side_files: list[Path], target: Path) -> int:
    """Fill a directory completely, or leave it unchanged; shows progress on a terminal.

    Args:
        plan: config.json and weights of each folder.
        side_files: paths of the files that are copied beside them.
        target: an empty directory, or the path of a new one.

    Returns:
        The size in bytes of the files with tensors.

    Raises:
        CheckpointError: a tensor cannot be read.
        CheckpointWriteError: the directory cannot be written, or the disk is full.
    """
    writers = {folder: SafetensorsWriter(tensors) for folder, (_, tensors) in plan.items()}
    n_bytes = sum(writer.n_bytes for writer in writers.values())
    try:
        with fill_whole(target) as work:
            _require_space(target, n_bytes)
            for path in side_files:
                shutil.copyfile(path, work / path.name)
            with tqdm(total=n_bytes, unit="B", unit_scale=True, disable=None, desc=target.name) as progress:
                for folder, (values, _) in plan.items():
                    (work / folder).mkdir(exist_ok=True)
                    (work / folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
                    writers[folder].write(work / folder / WEIGHTS_NAME, progress.update)
    except CheckpointError:  # some are an OSError, too, and have a message already
        raise
    except OSError as error:
        raise CheckpointWriteError(
            f"cannot write {str(target)!r} ({error}): give a directory you may write to, "
            f"on a disk with {n_bytes / 1e9:.1f} GB free"
        ) from error
    return n_bytes


def _require_space(target: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(target).free
    if free < n_bytes:
        raise CheckpointWriteError(
            f"{str(target)!r} has {free / 1e9:.1f} GB free, the checkpoint takes {n_bytes / 1e9:.1f} GB: "
            "free some, or give a directory on another disk"
        )
