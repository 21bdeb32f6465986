"""Weights of 8 bits on a CPU, where a frame of a big voice takes as long as reading its weights takes.

Each output has a scale of its own: ``weight = scale * integer``. Few rows are multiplied by torch's kernel for this;
many, as of a prompt, by the weights turned back into bfloat16, a part at a time. Heads and embeddings stay as they are.
The sum of squares of what is rounded off is some 1e-4 of the weights', so greedy codes need not be those of "eager".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csmkit.csm.model import CsmModel
from csmkit.errors import DeviceError

SMALLEST = 2**19  # values; smaller weights stay in the core's own cache, and a plain product is quicker
FEW_ROWS = 16  # up to here the kernel is quicker than turning the weight back
PART = 2_048  # outputs turned back at once: what they take stays in the cache
NAMES = ("qkv", "out", "gate_up", "down")


class Int8Weight(nn.Module):
    """A weight for `csmkit.csm.transformer.product`.

    Args:
        weight: ``(n_inputs, n_outputs)`` floating point on the CPU.
    """

    integers: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows = weight.t().float()
        scale = (rows.abs().amax(dim=1) / 127).clamp(min=1e-12).to(torch.bfloat16)
        integers = (rows / scale.float()[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        self.register_buffer("integers", integers.contiguous())
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, n_inputs)`` to ``(rows, n_outputs)`` of the same dtype."""
        narrow = x.to(torch.bfloat16)
        if len(x) <= FEW_ROWS:
            return torch.ops.aten._weight_int8pack_mm(narrow, self.integers, self.scale).to(x.dtype)
        parts = [F.linear(narrow, part.to(torch.bfloat16)) for part in self.integers.split(PART)]
        return (torch.cat(parts, dim=1) * self.scale).to(x.dtype)


def quantise(model: CsmModel, smallest: int = SMALLEST) -> None:
    """Replace the big weights of both stacks, one by one.

    Args:
        model: on the CPU.
        smallest: values of a weight that is worth it.

    Raises:
        DeviceError: the model is on another device, or none of its weights is big enough to gain.
    """
    if model.device.type != "cpu":
        raise DeviceError(f"int8 weights are for the CPU, the voice is on {model.device}")
    blocks = [block for stack in (model.backbone, model.depth) for block in stack.blocks]
    found = [(block, name) for block in blocks for name in NAMES if _gains(getattr(block, name), smallest)]
    if not found:
        raise DeviceError(f"no weight of this voice has {smallest} values, and int8 makes smaller ones slower")
    for block, name in found:
        weight = getattr(block, name)
        delattr(block, name)  # a module cannot take the name of a parameter
        setattr(block, name, Int8Weight(weight))


def _gains(weight: Tensor | nn.Module, smallest: int) -> bool:
    return isinstance(weight, Tensor) and weight.numel() >= smallest and not any(n % 16 for n in weight.shape)
