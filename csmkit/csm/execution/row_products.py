"""The product of one row with a big weight on a CPU: which of torch's kernels is fastest is measured, once, at loading.

A frame is such products, and what they cost is reading the weights. How fast that goes depends on kernel, dtype, layout
and processor by factors: on an Intel Xeon with AMX all bfloat16 products of a frame of CSM-1B took 1 172 ms as
``x @ weight`` over ``(in, out)``, 712 by ``linear`` and 523 by ``mv`` over ``(out, in)``; elsewhere it is another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csmkit.csm.model import CsmModel
from csmkit.csm.quantization import put, rounded_places

SMALLEST = 2**19  # values; smaller weights stay in a core's own cache, and a plain product is quick
N_TRIES = 3
PLAIN, LINEAR, MV = "x @ weight", "linear", "mv"
KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    PLAIN: lambda x, weight, _: x @ weight,
    LINEAR: lambda x, _, rows: F.linear(x, rows),
    MV: lambda x, _, rows: torch.mv(rows, x[0])[None],
}

Shape = tuple[int, ...]


class RowWeight(nn.Module):
    """A weight kept ``(out, in)``, in place of one ``(in, out)``.

    Args:
        rows: the weight transposed, contiguous.
        kernel: of one row, `LINEAR` or `MV`.
    """

    rows: Tensor

    def __init__(self, rows: Tensor, kernel: str) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, in)`` to ``(rows, out)``."""
        if len(x) == 1 and self.kernel == MV:
            return torch.mv(self.rows, x[0])[None]
        return F.linear(x, self.rows)


def arrange(model: CsmModel, timings: dict[Shape, dict[str, float]] | None = None) -> None:
    """Lay out each big weight of a model on a CPU for the kernel that is fastest for it; smaller ones stay as they are.

    Args:
        timings: from `measure`; None to measure now.
    """
    kernels = {shape: min(times, key=times.__getitem__) for shape, times in (timings or measure(model)).items()}
    for owner, name in rounded_places(model):
        weight = getattr(owner, name)
        if not isinstance(weight, Tensor) or kernels.get(tuple(weight.shape[-2:]), PLAIN) == PLAIN:
            continue
        kernel = kernels[tuple(weight.shape[-2:])]
        parts = [RowWeight(part.t().contiguous(), kernel) for part in weight.detach().view(-1, *weight.shape[-2:])]
        put(owner, name, parts[0] if weight.ndim == 2 else nn.ModuleList(parts))


def measure(model: CsmModel) -> dict[Shape, dict[str, float]]:
    """Seconds of one row by each kernel, for each shape of the big weights that are not laid out yet."""
    timings: dict[Shape, dict[str, float]] = {}
    with torch.inference_mode():
        for weight, _ in _weights(model):
            shape = tuple(weight.shape)
            if weight.numel() >= SMALLEST and shape not in timings:
                timings[shape] = _time(weight)
    return timings


def frame_s(model: CsmModel, timings: dict[Shape, dict[str, float]]) -> float:
    """Seconds that the big products of a frame take by the fastest kernels."""
    shapes = ((tuple(weight.shape), n_times) for weight, n_times in _weights(model))
    return sum(n_times * min(timings[shape].values()) for shape, n_times in shapes if shape in timings)


def _time(weight: Tensor) -> dict[str, float]:
    x, rows = weight.new_ones(1, len(weight)), weight.t().contiguous()
    times = dict.fromkeys(KERNELS, float("inf"))
    for _ in range(N_TRIES):
        for name, kernel in KERNELS.items():
            began = time.perf_counter()
            kernel(x, weight, rows)
            times[name] = min(times[name], time.perf_counter() - began)
    return times


def _weights(model: CsmModel) -> Iterator[tuple[Tensor, int]]:
    """The two-dimensional weights of a frame's products, and how often it multiplies by each."""
    depth = {id(block) for block in model.depth.blocks}
    for owner, name in rounded_places(model):
        weight = getattr(owner, name)
        if isinstance(weight, Tensor):
            n_times = model.config.n_codebooks - 1 if id(owner) in depth else 1
            yield from ((part, n_times) for part in weight.detach().view(-1, *weight.shape[-2:]))
