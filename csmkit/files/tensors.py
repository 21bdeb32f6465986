"""Reads single tensors from a checkpoint's files: safetensors files, or a pickle such as ckpt.pt.

Both kinds are mapped into memory, so that only the tensors that are used are read.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from csmkit.errors import CheckpointError, CheckpointNotFoundError

TRANSFORMERS, SESAME, ROUNDED = "transformers", "sesame", "rounded"
LAYOUTS = (TRANSFORMERS, SESAME)  # layouts of published checkpoints; their weights are not rounded
INDEX_NAMES = ("model.safetensors.index.json", "transformers.safetensors.index.json")
WEIGHTS_NAME, PICKLE_NAME = "model.safetensors", "ckpt.pt"

_TRANSFORMERS_MARKS = ("backbone_model.", "depth_decoder.", "codec_model.", "embed_text_tokens.")
ROUNDED_PREFIX = "csmkit."  # prefix of the tensors that `csmkit convert --to int4` writes
_SESAME_MARKS = ("backbone.layers.", "audio_head", "codebook0_head.", "text_embeddings.", "audio_embeddings.")


class TensorFiles:
    """Tensors of one or several safetensors files.

    Args:
        file_of: path of the file that holds each tensor, by the tensor's name.

    Attributes:
        names: names of all tensors.
        paths: paths of the files they are in.
    """

    def __init__(self, file_of: Mapping[str, Path]) -> None:
        self.names: Collection[str] = file_of.keys()
        self.paths = tuple(dict.fromkeys(file_of.values()))
        self._file_of = file_of
        self._open: dict[Path, Any] = {}

    def read(self, name: str) -> Tensor:
        """One of `names`, in the file's dtype, on the CPU; CheckpointError if the file cannot be read."""
        path = self.place(name)
        try:
            if path not in self._open:
                self._open[path] = open_safetensors(path)
            return self._open[path].get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(f"{str(path)!r} has no readable {name!r} ({error}): fetch the file again") from error

    def place(self, name: str) -> Path:
        """The file that one of `names` is in."""
        return self._file_of[name]


class PickledFile(TensorFiles):
    """Tensors of a file that ``torch.save`` wrote, such as Sesame's ckpt.pt. Only tensors are unpickled, never code.

    Args:
        path: path of the file.

    Raises:
        CheckpointError: the file holds something else, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._tensors = _unpickle(path)
        super().__init__(dict.fromkeys(self._tensors, path))

    def read(self, name: str) -> Tensor:
        return self._tensors[name]


def _unpickle(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"cannot read {str(path)!r} as a file of tensors only ({reason}): fetch the file again, "
            "or give the safetensors file of this model"
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise CheckpointError(
            f"{str(path)!r} holds more than tensors by their names: save the model's state_dict() alone, "
            "or give the safetensors file of this model"
        )
    return loaded


def open_safetensors(path: Path) -> Any:
    """Open a safetensors file for reading; raises CheckpointNotFoundError or CheckpointError."""
    if not path.is_file():
        raise CheckpointNotFoundError(f"no weights at {str(path)!r}: fetch the checkpoint again, all of its files")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read {str(path)!r} as safetensors ({error}): fetch the file again") from error


def tensor_names(path: Path) -> list[str]:
    """List the names of the tensors in a safetensors file; errors as `open_safetensors`."""
    return list(open_safetensors(path).keys())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises CheckpointNotFoundError or CheckpointError, which name the file."""
    if not path.is_file():
        raise CheckpointNotFoundError(
            f"no {path.name} in {str(path.parent)!r}: give the directory of a voice in transformers' or Sesame's "
            f"layout, with its {path.name}"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{str(path)!r} is not JSON ({error}): fetch the file again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{str(path)!r} holds a {type(values).__name__}, not a JSON object: fetch the file again")
    return values


def layout_of(names: Collection[str]) -> str | None:
    """The layout that has such names of tensors; None for other models."""
    if any(name.startswith(ROUNDED_PREFIX) for name in names):
        return ROUNDED
    if any(name.startswith(_TRANSFORMERS_MARKS) for name in names):
        return TRANSFORMERS
    return SESAME if any(name.startswith(_SESAME_MARKS) for name in names) else None


def find_tensors(directory: Path, values: Mapping[str, Any]) -> tuple[str, TensorFiles]:
    """Find the weights of a checkpoint and their layout, which the names of the tensors decide, not those of the files.

    If a directory holds a model in both layouts, transformers' is used; a pickle is used only if there is nothing else.

    Args:
        directory: directory of the checkpoint.
        values: contents of its config.json, which may name the index.

    Raises:
        CheckpointNotFoundError: no weights.
        CheckpointError: weights of another architecture, or a file that cannot be read.
    """
    found: dict[str | None, dict[str, Path]] = {ROUNDED: {}, TRANSFORMERS: {}, SESAME: {}, None: {}}
    listed: set[Path] = set()
    for file_of in _indexed(directory, values):
        layout = layout_of(file_of.keys())
        if layout == TRANSFORMERS:
            return layout, TensorFiles(file_of)
        found[layout].update(file_of)
        listed.update(file_of.values())
    for path in _first_named(directory, WEIGHTS_NAME, "*.safetensors"):
        names = tensor_names(path) if path not in listed else []
        found[layout_of(names)].update({name: path for name in names if name not in found[layout_of(names)]})
    for layout in (ROUNDED, *LAYOUTS):
        if found[layout]:
            return layout, TensorFiles(found[layout])
    for path in _first_named(directory, PICKLE_NAME, "*.pt"):
        pickled = PickledFile(path)
        layout = layout_of(pickled.names)
        if layout is not None:
            return layout, pickled
        found[None].update(dict.fromkeys(pickled.names, path))
    for name, path in found[None].items():
        raise CheckpointError(
            f"{str(path)!r} holds another model, with tensors such as {name!r}: "
            "give a CSM in transformers' or Sesame's layout"
        )
    raise CheckpointNotFoundError(
        f"no weights at {str(directory / WEIGHTS_NAME)!r}, no index of shards and no {PICKLE_NAME} either: "
        "fetch the checkpoint again, all of its files"
    )


def _indexed(directory: Path, values: Mapping[str, Any]) -> Iterator[dict[str, Path]]:
    """The file of every tensor by each index, preferred indexes first."""
    for index in _indexes(directory, values):
        file_of = {tensor: directory / file for tensor, file in read_index(index).items()}
        # An index alone is not a model: perhaps only the file of another layout was downloaded, not the shards.
        if any(path.is_file() for path in file_of.values()) or not any(directory.glob("*.safetensors")):
            yield file_of


def weight_files(directory: Path) -> list[str]:
    """The names of the files that hold the weights; only config.json and the index must exist."""
    for index in _indexes(directory, read_json(directory / "config.json")):
        return sorted(set(read_index(index).values()))
    return [WEIGHTS_NAME]


def _indexes(directory: Path, values: Mapping[str, Any]) -> Iterator[Path]:
    """The indexes that exist: that of config.json, then those of the usual names, then any other."""
    named = str(values.get("transformers_weights") or "")
    usual = ([named] if named.endswith(".json") else []) + list(INDEX_NAMES)
    others = sorted(path.name for path in directory.glob("*.safetensors.index.json"))
    for name in dict.fromkeys(usual + others):
        if (directory / name).is_file():
            yield directory / name


def read_index(path: Path) -> dict[str, str]:
    """The file of every tensor; CheckpointError if the index has no such list."""
    weight_map = read_json(path).get("weight_map")
    files = weight_map.values() if isinstance(weight_map, dict) else ()
    if not files or not all(isinstance(file, str) for file in files):
        raise CheckpointError(
            f"{str(path)!r} does not list the file of each tensor under 'weight_map': fetch the file again"
        )
    return weight_map


def _first_named(directory: Path, name: str, pattern: str) -> list[Path]:
    """The files of a pattern, the one called ``name`` first."""
    return sorted(directory.glob(pattern), key=lambda path: (path.name != name, path.name))


def pairs_to_halves(weight: Tensor, n_heads: int) -> Tensor:
    """Reorder the rows of each head: those that were (0, 1) become (0, half), (2, 3) become (1, half + 1), and so on.

    Sesame's CSM and Kyutai's Mimi rotate adjacent pairs of rows; transformers rotates the rows of the two halves.

    Args:
        weight: ``(n_heads * head_dim, dim)``.
    """
    rows, dim = weight.shape
    return weight.reshape(n_heads, rows // n_heads // 2, 2, dim).transpose(1, 2).reshape(rows, dim)


def halves_to_pairs(weight: Tensor, n_heads: int) -> Tensor:
    """The inverse of `pairs_to_halves`."""
    rows, dim = weight.shape
    return weight.reshape(n_heads, 2, rows // n_heads // 2, dim).transpose(1, 2).reshape(rows, dim)
