"""Products of one row with a big weight on a CPU: the fastest of torch's kernels is chosen by measuring, at loading.

A frame consists of such products, and a product takes the time of reading its weight. How long that is depends on
kernel, dtype, layout and processor. All products of a frame of CSM-1B in bfloat16, in milliseconds on two threads:

- Intel Xeon with AMX: 1 172 as ``x @ weight`` over ``(in, out)``; 712 by ``linear``, 523 by ``mv`` over ``(out, in)``;
- AMD EPYC 9004: 648, 558 and 852; 281 by oneDNN over packed weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csmkit.csm.model import CsmModel
from csmkit.csm.quantization import put, rounded_places
from csmkit.kernels import packed, project

SMALLEST = 2**19  # values; smaller weights stay in a core's own cache, where a plain product is fast
N_TRIES = 3
PLAIN, LINEAR, MV, PACKED = "x @ weight", "linear", "mv", "packed"

Shape = tuple[int, ...]


class Kernel(NamedTuple):
    """A way to multiply.

    Attributes:
        lay_out: changes a weight ``(in, out)`` into the layout that ``multiply`` reads.
        multiply: a row or several, ``(rows, in)``, by such a weight: ``(rows, out)``.
    """

    lay_out: Callable[[Tensor], Tensor]
    multiply: Callable[[Tensor, Tensor], Tensor]


def _transposed(weight: Tensor) -> Tensor:
    return weight.t().contiguous()


def _mv(x: Tensor, rows: Tensor) -> Tensor:
    return torch.mv(rows, x[0])[None] if len(x) == 1 else F.linear(x, rows)


KERNELS = {
    PLAIN: Kernel(lambda weight: weight, torch.matmul),
    LINEAR: Kernel(_transposed, F.linear),
    MV: Kernel(_transposed, _mv),
    PACKED: Kernel(lambda weight: packed(_transposed(weight)), project),
}


class RowWeight(nn.Module):
    """A weight in the layout of a kernel, in place of one ``(in, out)``.

    Args:
        weight: floating-point weight ``(in, out)``.
        kernel: a name of `KERNELS`.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, kernel: str) -> None:
        super().__init__()
        self.register_buffer("weight", KERNELS[kernel].lay_out(weight))
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, in)`` to ``(rows, out)``."""
        return KERNELS[self.kernel].multiply(x, self.weight)


def arrange(model: CsmModel) -> None:
    """Change each big weight of a model on a CPU into the layout of its fastest kernel; small ones are not changed."""
    kernels = {shape: min(times, key=times.__getitem__) for shape, times in measure(model).items()}
    for owner, name in rounded_places(model):
        weight = getattr(owner, name)
        if not isinstance(weight, Tensor) or kernels.get(tuple(weight.shape[-2:]), PLAIN) == PLAIN:
            continue
        kernel = kernels[tuple(weight.shape[-2:])]
        parts = [RowWeight(part, kernel) for part in weight.detach().view(-1, *weight.shape[-2:])]
        put(owner, name, parts[0] if weight.ndim == 2 else nn.ModuleList(parts))


def measure(model: CsmModel) -> dict[Shape, dict[str, float]]:
    """Time one row by each kernel, in seconds, for each shape of the big weights that are not laid out yet."""
    timings: dict[Shape, dict[str, float]] = {}
    with torch.inference_mode():
        for weight, _ in _weights(model):
            shape = tuple(weight.shape)
            if weight.numel() >= SMALLEST and shape not in timings:
                timings[shape] = _time(weight)
    return timings


def frame_s(model: CsmModel, timings: dict[Shape, dict[str, float]]) -> float:
    """Add up the seconds that the big products of a frame take by the fastest kernels."""
    shapes = ((tuple(weight.shape), n_times) for weight, n_times in _weights(model))
    return sum(n_times * min(timings[shape].values()) for shape, n_times in shapes if shape in timings)


def _time(weight: Tensor) -> dict[str, float]:
    x = weight.new_ones(1, len(weight))
    weights = {name: kernel.lay_out(weight) for name, kernel in KERNELS.items()}
    times = dict.fromkeys(KERNELS, float("inf"))
    for _ in range(N_TRIES):
        for name, kernel in KERNELS.items():
            if name == PACKED and not weights[PACKED].is_mkldnn:
                continue  # no such kernel here
            began = time.perf_counter()
            kernel.multiply(x, weights[name])
            times[name] = min(times[name], time.perf_counter() - began)
    return times


def _weights(model: CsmModel) -> Iterator[tuple[Tensor, int]]:
    """The two-dimensional weights of a frame's products, and how often a frame multiplies by each."""
    depth = {id(block) for block in model.depth.blocks}
    for owner, name in rounded_places(model):
        weight = getattr(owner, name)
        if isinstance(weight, Tensor):
            n_times = model.config.n_codebooks - 1 if id(owner) in depth else 1
            yield from ((part, n_times) for part in weight.detach().view(-1, *weight.shape[-2:]))
