"""A Llama-style transformer over a static key-value cache: rotary positions, grouped queries, SwiGLU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csmkit.csm.config import TransformerConfig


def inverse_frequencies(config: TransformerConfig) -> Tensor:
    """The rotary frequencies, ``(head_dim / 2,)`` float32 radians a position.

    With Llama 3's scaling, long waves are stretched by ``factor``, short ones are kept, those between are blended.
    """
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    turns = scaling.original_max_positions * frequencies / (2 * math.pi)  # of each wave within the original context
    span = scaling.high_freq_factor - scaling.low_freq_factor
    keep = ((turns - scaling.low_freq_factor) / span).clamp(0.0, 1.0)
    return keep * frequencies + (1.0 - keep) * frequencies / scaling.factor


def rotary_table(config: TransformerConfig, n_positions: int) -> Tensor:
    """Cosines and signed sines for every position, ``(2, n_positions, 2, head_dim)`` float32.

    In the half-split layout a rotation is ``x * cos + roll(x, head_dim / 2) * sin``, the first half of ``sin`` negated.
    Beside each stands the rotation by nothing, 1 and 0.
    """
    angles = torch.outer(torch.arange(n_positions, dtype=torch.float32), inverse_frequencies(config))
    cos, sin = angles.cos(), angles.sin()
    turned = torch.stack((torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)))
    still = torch.stack((torch.ones_like(turned[0]), torch.zeros_like(turned[0])))
    return torch.stack((turned, still), dim=2)


@dataclass
class KvCache:
    """Keys and values of one batch of streams, in buffers of a fixed size.

    Attributes:
        layers: a tensor each, ``(batch, 2 * n_kv_heads, n_positions, head_dim)``; the heads of the keys come first.
        lengths: positions in use, of each stream; whoever writes some moves them.
    """

    layers: list[Tensor]
    lengths: list[int]

    @classmethod
    def empty(cls, config: TransformerConfig, batch: int, n_positions: int, like: Tensor) -> KvCache:
        """Room for ``n_positions`` positions of each of ``batch`` streams."""
        shape = (batch, 2 * config.n_kv_heads, n_positions, config.head_dim)
        # Zeros and not empty: rows behind a mask are still multiplied by their weight of 0, and 0 * NaN is NaN.
        return cls([like.new_zeros(shape) for _ in range(config.n_layers)], [0] * batch)

    @classmethod
    def join(cls, parts: Sequence[KvCache]) -> KvCache:
        """The streams of several as one batch, with the room of the longest."""
        n_positions = max(part.layers[0].shape[2] for part in parts)
        padded = [
            [F.pad(layer, (0, 0, 0, n_positions - layer.shape[2])) for layer in layers]
            for layers in zip(*(part.layers for part in parts), strict=True)
        ]
        return cls([torch.cat(layers) for layers in padded], [n for part in parts for n in part.lengths])

    def take(self, rows: Sequence[int]) -> KvCache:
        """A copy of these streams alone."""
        return KvCache([layer[list(rows)] for layer in self.layers], [self.lengths[row] for row in rows])

    @property
    def length(self) -> int:
        """Positions in use where the batch is one stream."""
        (length,) = self.lengths
        return length

    def advance(self, n_new: int) -> None:
        """Count positions that every stream has written."""
        self.lengths = [length + n_new for length in self.lengths]


@dataclass(frozen=True)
class AttentionSpan:
    """Where new positions are written, and what they attend to.

    Attributes:
        positions: ``(n_new,)`` int64, the cache rows they take; ``(batch, 1)`` where every stream takes another.
        cos, sin: ``(*positions.shape, heads, head_dim)``, the rotation of queries and keys; values turn by nothing,
            1 and 0.
        n_keys: number of cache rows to attend to, from the first on; a host integer.
        mask: bool, True where a query attends to a row: ``(n_new * group, n_keys)``, or ``(batch, 1, group, n_keys)``
            where every stream takes another position; None where all queries attend to all rows.
    """

    positions: Tensor
    cos: Tensor
    sin: Tensor
    n_keys: int
    mask: Tensor | None = None


def rms_norm(x: Tensor, gain: Tensor, floor: Tensor) -> Tensor:
    """Divide ``(rows, dim)`` by its root mean square in float32, cast back, then scale.

    Written with the length of the row, ``x / hypot(|x|, sqrt(dim eps)) * sqrt(dim) weight``, it takes half the time of
    `torch.nn.functional.rms_norm` for one row on a CPU.

    Args:
        gain: ``(dim,)``, the weight times ``sqrt(dim)``.
        floor: ``(1, 1)`` float32, ``sqrt(dim * eps)``.
    """
    wide = x.float()
    length = torch.hypot(torch.linalg.vector_norm(wide, dim=-1, keepdim=True), floor)
    return (wide / length).type_as(x) * gain


def product(x: Tensor, weight: Tensor | nn.Module) -> Tensor:
    """``(rows, in)`` times a weight ``(in, out)``, or whatever stands for one."""
    return x @ weight if isinstance(weight, Tensor) else weight(x)


def norm_floor(config: TransformerConfig) -> Tensor:
    """The ``floor`` of `rms_norm`."""
    return torch.full((1, 1), math.sqrt(config.dim * config.norm_eps))


class Block(nn.Module):
    """One pre-norm layer.

    Weights are ``(in, out)``: a row times such a matrix is the faster order on a CPU. Norms are kept as the gain of
    `rms_norm`.
    """

    floor: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        n_qkv = config.n_heads + 2 * config.n_kv_heads
        self.attention_norm = new_weight(config.dim)
        self.qkv = new_weight(config.dim, n_qkv * config.head_dim)
        self.out = new_weight(config.n_heads * config.head_dim, config.dim)
        self.mlp_norm = new_weight(config.dim)
        self.gate_up = new_weight(config.dim, 2 * config.ffn_dim)
        self.down = new_weight(config.ffn_dim, config.dim)
        self.register_buffer("floor", norm_floor(config), persistent=False)

    def forward(self, x: Tensor, span: AttentionSpan, cache: Tensor) -> Tensor:
        """Run ``(batch * n_new, dim)``, writing their keys and values to the layer's cache on the way."""
        normed = rms_norm(x, self.attention_norm, self.floor)
        x = x + product(self._attend(product(normed, self.qkv), span, cache), self.out)
        normed = rms_norm(x, self.mlp_norm, self.floor)
        gate, up = product(normed, self.gate_up).chunk(2, dim=-1)
        return x + product(F.silu(gate) * up, self.down)

    def _attend(self, qkv: Tensor, span: AttentionSpan, cache: Tensor) -> Tensor:
        config = self.config
        batch, n_new = cache.shape[0], span.positions.shape[-1]
        heads = qkv.view(batch, n_new, -1, config.head_dim)
        heads = torch.addcmul(heads * span.cos, heads.roll(config.head_dim // 2, -1), span.sin)
        query, new = heads.split((config.n_heads, 2 * config.n_kv_heads), dim=2)
        if span.positions.ndim == 1:
            cache.index_copy_(2, span.positions, new.transpose(1, 2))
        else:
            cache[torch.arange(batch, device=cache.device), :, span.positions[:, 0]] = new[:, 0]
        keys, values = cache.narrow(2, 0, span.n_keys).chunk(2, dim=1)
        # The queries of a group take the place of more queries on one head: no key or value is repeated.
        grouped = query.view(batch, n_new, config.n_kv_heads, config.group, config.head_dim).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(
            grouped.reshape(batch, config.n_kv_heads, n_new * config.group, config.head_dim),
            keys,
            values,
            attn_mask=span.mask,
        )
        mixed = mixed.view(batch, config.n_kv_heads, n_new, config.group, config.head_dim).transpose(1, 2)
        return mixed.reshape(batch * n_new, -1)


class Transformer(nn.Module):
    """The blocks, the final norm and the rotary table of one stack."""

    rotary: Tensor
    turns: Tensor
    floor: Tensor

    def __init__(self, config: TransformerConfig, n_positions: int) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = new_weight(config.dim)
        self.register_buffer("rotary", rotary_table(config, n_positions), persistent=False)
        # Queries and keys are turned, values are not: which of the two rotations each head takes.
        turns = [0] * (config.n_heads + config.n_kv_heads) + [1] * config.n_kv_heads
        self.register_buffer("turns", torch.tensor(turns), persistent=False)
        self.register_buffer("floor", norm_floor(config), persistent=False)

    def forward(self, x: Tensor, span: AttentionSpan, cache: KvCache) -> Tensor:
        """Run ``(batch, n_new, dim)`` at the positions of ``span``; the hidden states after the final norm."""
        rows = x.flatten(0, 1)
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            rows = block(rows, span, layer)
        return rms_norm(rows, self.norm, self.floor).view_as(x)

    def rotation(self, positions: Tensor) -> Tensor:
        """What a `AttentionSpan` holds as cos and sin, ``(2, *positions.shape, heads, head_dim)``."""
        return self.rotary[:, positions].to(self.norm.dtype).index_select(-2, self.turns)


def new_weight(*shape: int) -> nn.Parameter:
    """An empty weight, to be filled from a checkpoint; never trained here."""
    return nn.Parameter(torch.empty(*shape), requires_grad=False)
