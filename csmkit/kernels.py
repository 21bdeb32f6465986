"""Matrix products with packed weights, which lie in memory in the order that oneDNN's CPU kernels read.

The time of a product of few rows is the time of reading its weight. With packed weights it took 0.4 to 0.8 of the
time of an ordinary product (AMD EPYC; the weights of the codec in float32, those of CSM-1B in bfloat16 and float32).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

OPERATORS = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
"""Operators that torch has for its compiler; where one is missing, weights are not packed."""


def packed(weight: Tensor) -> Tensor:
    """Pack a weight ``(outputs, inputs)``; unchanged where this machine has no kernel for it.

    Only `project` can use a packed weight: it cannot be copied, saved or cast.
    """
    available = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")
    available = available and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)
    if not available or weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.bfloat16):
        return weight
    if weight.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return weight
    # Packed for two rows: that order is as fast for any number of rows, the order for one row is not.
    return torch.ops.mkldnn._reorder_linear_weight(weight, 2)


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply ``x``, ``(..., inputs)``, by a weight ``(outputs, inputs)``, packed or not: ``x @ weight.T + bias``."""
    if weight.is_mkldnn:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)
