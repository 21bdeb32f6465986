"""Writes safetensors files a tensor at a time: the library's own writer wants all of them in memory at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from csmkit.errors import CheckpointError

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


class SafetensorsWriter:
    """A safetensors file to be.

    Args:
        tensors: a function each, by name. It is called twice, for the shape and for the content: reading from a mapped
            file costs little the first time.

    Attributes:
        n_bytes: of the whole file.

    Raises:
        CheckpointError: a tensor of a dtype that is not for weights.
    """

    def __init__(self, tensors: Mapping[str, Callable[[], Tensor]]) -> None:
        described = {name: _describe(name, read()) for name, read in tensors.items()}
        # Wide elements first, as the library orders them: every tensor is then aligned to its own elements.
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
        """Write the file; ``on_tensor`` is told the bytes of each tensor written. Raises OSError as writing does."""
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
