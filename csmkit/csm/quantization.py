"""Weights of 4 or 8 bits, rounded a block at a time, in the layout that ONNX Runtime's MatMulNBits reads.

Each block of consecutive inputs of an output has a scale of its own: ``weight = scale * integer``. The scale begins as
the block's largest value by the most negative integer, which uses the whole range, and is then fitted by least squares:
on normal weights that leaves 10.0 % of the norm at 4 bits in blocks of 128 (8.3 % in blocks of 32) where the plain
``largest / 7`` leaves 11.7 % (9.7 %). Zero points gain next to nothing over that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csmkit.csm.model import CsmModel
from csmkit.errors import DeviceError, InputError

BITS = (4, 8)
BLOCKS = (16, 32, 64, 128, 256)  # of MatMulNBits
NAMES = ("qkv", "out", "gate_up", "down")
HEADS = ("first_head", "other_heads")
N_FITS = 2  # a third changes the error in its fifth digit
PART = 2_048  # outputs rounded at once: what that takes stays small


@dataclass(frozen=True)
class Rounding:
    """How weights are rounded.

    Attributes:
        bits: 4 or 8.
        block: inputs that share a scale, one of `BLOCKS`.

    Raises:
        InputError: another number.
    """

    bits: int
    block: int = 128

    def __post_init__(self) -> None:
        if self.bits not in BITS or self.block not in BLOCKS:
            raise InputError(f"weights of {self.bits!r} bits in blocks of {self.block!r}: give {BITS} and {BLOCKS}")


ROUNDINGS = {"int4": Rounding(4), "int8": Rounding(8)}  # of the execution modes


class BlockWeight(nn.Module):
    """A weight ``(..., n_inputs, n_outputs)`` in integers; leading dimensions are more outputs.

    Args:
        packed: ``(n_outputs, n_blocks, block * bits / 8)`` uint8; at 4 bits the even inputs are the low half. The
            integers are stored with ``2 ** (bits - 1)`` added.
        scale: ``(n_outputs, n_blocks)`` float32.
        shape: shape of the floating-point weight.
        bits: 4 or 8.
    """

    packed: Tensor
    scale: Tensor

    def __init__(self, packed: Tensor, scale: Tensor, shape: tuple[int, ...], bits: int) -> None:
        super().__init__()
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.shape, self.bits = shape, bits

    @property
    def block(self) -> int:
        """Inputs that share a scale."""
        return self.packed.shape[2] * 8 // self.bits

    @classmethod
    def round(cls, weight: Tensor, rounding: Rounding) -> BlockWeight:
        """Round a floating-point weight on the CPU."""
        rows = weight.detach().transpose(-1, -2).flatten(0, -2)
        parts = [_round(part.float(), rounding) for part in rows.split(PART)]
        packed, scale = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return cls(packed, scale, tuple(weight.shape), rounding.bits)

    def parts(self) -> list[BlockWeight]:
        """The weights ``(n_inputs, n_outputs)`` of the first leading dimension, over the same memory."""
        n_outputs = self.shape[-1]
        parts = zip(self.packed.split(n_outputs), self.scale.split(n_outputs), strict=True)
        return [BlockWeight(packed, scale, self.shape[-2:], self.bits) for packed, scale in parts]

    def wide(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The rounded weight as floating-point numbers, in the original shape."""
        half, packed = 2 ** (self.bits - 1), self.packed
        integers = packed if self.bits == 8 else torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
        rows = ((integers.float() - half) * self.scale.unsqueeze(-1)).flatten(1)[:, : self.shape[-2]]
        leading = self.shape[:-2]
        return rows.view(*leading, self.shape[-1], self.shape[-2]).transpose(-1, -2).to(dtype).contiguous()


def _round(rows: Tensor, rounding: Rounding) -> tuple[Tensor, Tensor]:
    """Round ``(n_outputs, n_inputs)`` to the two tensors of `BlockWeight`."""
    half, block = 2 ** (rounding.bits - 1), rounding.block
    blocks = F.pad(rows, (0, -rows.shape[1] % block)).unflatten(1, (-1, block))
    largest = blocks.gather(-1, blocks.abs().argmax(dim=-1, keepdim=True))
    scale = largest / -half
    for _ in range(N_FITS):
        integers = _integers(blocks, scale, half)
        fit = (blocks * integers).sum(-1, keepdim=True) / integers.square().sum(-1, keepdim=True).clamp(min=1)
        scale = torch.where(fit == 0, scale, fit)
    integers = (_integers(blocks, scale, half) + half).to(torch.uint8)
    packed = integers if rounding.bits == 8 else integers[..., ::2] | (integers[..., 1::2] << 4)
    return packed, scale.squeeze(-1)


def _integers(blocks: Tensor, scale: Tensor, half: int) -> Tensor:
    return (blocks / torch.where(scale == 0, 1.0, scale)).round_().clamp_(-half, half - 1)


def put(owner: nn.Module, name: str, weight: Tensor | BlockWeight) -> None:
    """Set an attribute of a module to a weight or to a module that replaces a weight."""
    if hasattr(owner, name):
        delattr(owner, name)  # a module cannot take the name of a parameter, nor the other way round
    setattr(owner, name, weight if isinstance(weight, nn.Module) else nn.Parameter(weight, requires_grad=False))


def quantize(model: CsmModel, rounding: Rounding) -> None:
    """Round the weights of both stacks and of the heads, one by one; embeddings and norms stay as they are.

    Raises:
        DeviceError: the model is on another device than the CPU.
        InputError: its weights were rounded before.
    """
    if model.device.type != "cpu":
        raise DeviceError(
            f"weights of {rounding.bits} bits are for the CPU, the model is on {model.device}: "
            "on a GPU take 'graph' or 'compiled', in bfloat16"
        )
    if (was := rounded_bits(model)) is not None:
        raise InputError(f"this voice's weights have {was} bits already: load the checkpoint they were made from")
    for owner, name in rounded_places(model):
        put(owner, name, BlockWeight.round(getattr(owner, name), rounding))


def widen(model: CsmModel) -> None:
    """Turn rounded weights, if any, into floating-point ones of the embeddings' dtype; the rounding remains."""
    if rounded_bits(model) is None:
        return
    dtype = model.projection.dtype
    for owner, name in rounded_places(model):
        put(owner, name, getattr(owner, name).wide(dtype))
    for parameter in model.parameters():  # norms; tables of angles stay in float32
        parameter.data = parameter.to(dtype)


def rounded_bits(model: CsmModel) -> int | None:
    """The bits of a model's rounded weights; None where they are ordinary ones."""
    weight = model.backbone.blocks[0].qkv
    return weight.bits if isinstance(weight, BlockWeight) else None


def packed_shapes(shape: tuple[int, ...], rounding: Rounding) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of `BlockWeight.packed` and `BlockWeight.scale` for a weight of this shape."""
    *leading, n_inputs, n_outputs = shape
    scale = (math.prod(leading) * n_outputs, -(-n_inputs // rounding.block))
    return (*scale, rounding.block * rounding.bits // 8), scale


def rounded_places(model: CsmModel) -> Iterator[tuple[nn.Module, str]]:
    """Yield each weight that is rounded, as the module that holds it and the name of its attribute."""
    for stack in (model.backbone, model.depth):
        yield from ((block, name) for block in stack.blocks for name in NAMES)
    yield from ((model, name) for name in HEADS)
