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

    With Llama 3's scaling, long waves are stretched by ``factor``, short ones are kept, and those between are blended.
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
    Beside each is the identity rotation, 1 and 0.
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
        layers: one tensor for each layer, ``(batch, 2 * n_kv_heads, n_positions, head_dim)``; the key heads come first.
        lengths: number of positions in use of each stream; code that writes positions must update it.
    """

    layers: list[Tensor]
    lengths: list[int]

    @classmethod
    def empty(cls, config: TransformerConfig, batch: int, n_positions: int, like: Tensor) -> KvCache:
        """Room for ``n_positions`` positions of each of ``batch`` streams."""
        shape = (batch, 2 * config.n_kv_heads, n_positions, config.head_dim)
        # Zeros and not empty: rows behind a mask are still multiplied by their weight of 0, and 0 * NaN is NaN.
        return cls([like.new_zeros(shape) for _ in range(config.n_layers)], [0] * batch)

    @property
    def length(self) -> int:
        """Number of positions in use; all streams of the batch must have the same."""
        (length,) = set(self.lengths)
        return length

    def resized(self, batch: int) -> KvCache:
        """An empty cache like this one for another number of streams."""
        layers = [layer.new_zeros(batch, *layer.shape[1:]) for layer in self.layers]
        return KvCache(layers, [0] * batch)

    def advance(self, n_new: int) -> None:
        """Count positions that every stream has written."""
        self.lengths = [length + n_new for length in self.lengths]


@dataclass
class StreamCaches:
    """The caches of several streams, each in its own buffers: streams join and leave without a copy.

    Attributes:
        streams: a cache of one stream each.
    """

    streams: list[KvCache]

    @classmethod
    def join(cls, parts: Sequence[KvCache | StreamCaches]) -> StreamCaches:
        """The streams of several caches as one batch, in their order."""
        return cls([stream for part in parts for stream in (part.streams if isinstance(part, cls) else (part,))])

    def take(self, rows: Sequence[int]) -> KvCache | StreamCaches:
        """These streams alone, over the same memory; a single stream as its own cache."""
        streams = [self.streams[row] for row in rows]
        return streams[0] if len(streams) == 1 else StreamCaches(streams)

    @property
    def layers(self) -> list[list[Tensor]]:
        """Of each layer, the tensors of all streams, ``(1, 2 * n_kv_heads, n_positions, head_dim)``."""
        return [list(layers) for layers in zip(*(stream.layers for stream in self.streams), strict=True)]

    @property
    def lengths(self) -> list[int]:
        """Number of positions in use of each stream."""
        return [stream.length for stream in self.streams]

    def advance(self, n_new: int) -> None:
        """Count positions that every stream has written."""
        for stream in self.streams:
            stream.advance(n_new)


@dataclass(frozen=True)
class AttentionSpan:
    """The cache rows of new positions, and the rows that they attend to.

    Attributes:
        positions: ``(n_new,)`` int64, the cache rows to write; ``(batch, 1)`` if they differ between streams.
        cos, sin: ``(*positions.shape, heads, head_dim)``, the rotation of queries and keys; values have the identity,
            1 and 0.
        n_keys: number of cache rows to attend to, from the first on; a host integer, or one for each stream if
            the streams have separate caches.
        mask: bool, True where a query attends to a row: ``(n_new * group, n_keys)``, or ``(batch, 1, group, n_keys)``
            if the positions differ between streams; None if all queries attend to all rows.
    """

    positions: Tensor
    cos: Tensor
    sin: Tensor
    n_keys: int | list[int]
    mask: Tensor | None = None


def rms_norm(x: Tensor, gain: Tensor, floor: Tensor) -> Tensor:
    """Divide ``(rows, dim)`` by its root mean square in float32, cast back, then scale.

    Computed as ``x / hypot(|x|, sqrt(dim eps)) * sqrt(dim) weight`` it takes half the time of
    `torch.nn.functional.rms_norm` for one row on a CPU.

    Args:
        gain: ``(dim,)``, the weight times ``sqrt(dim)``.
        floor: ``(1, 1)`` float32, ``sqrt(dim * eps)``.
    """
    wide = x.float()
    length = torch.hypot(torch.linalg.vector_norm(wide, dim=-1, keepdim=True), floor)
    return (wide / length).type_as(x) * gain


def product(x: Tensor, weight: Tensor | nn.Module) -> Tensor:
    """``(rows, in)`` times a weight ``(in, out)``, or a module that stands for one."""
    return x @ weight if isinstance(weight, Tensor) else weight(x)


def norm_floor(config: TransformerConfig) -> Tensor:
    """The ``floor`` of `rms_norm`."""
    return torch.full((1, 1), math.sqrt(config.dim * config.norm_eps))


class Block(nn.Module):
    """One pre-norm layer.

    Weights are ``(in, out)``: this order is faster on a CPU for one row. Norms are stored as the gain of `rms_norm`.
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

    def forward(self, x: Tensor, span: AttentionSpan, cache: Tensor | list[Tensor]) -> Tensor:
        """Run ``(batch * n_new, dim)``, and write their keys and values to the layer's cache.

        Args:
            x: hidden states, ``(batch * n_new, dim)``.
            span: cache rows that they attend to.
            cache: a tensor of `KvCache.layers`, or a list of `StreamCaches.layers`.
        """
        normed = rms_norm(x, self.attention_norm, self.floor)
        x = x + product(self._attend(product(normed, self.qkv), span, cache), self.out)
        normed = rms_norm(x, self.mlp_norm, self.floor)
        gate, up = product(normed, self.gate_up).chunk(2, dim=-1)
        return x + product(F.silu(gate) * up, self.down)

    def _attend(self, qkv: Tensor, span: AttentionSpan, cache: Tensor | list[Tensor]) -> Tensor:
        config, batch, n_new = self.config, len(cache), span.positions.shape[-1]
        heads = qkv.view(batch, n_new, -1, config.head_dim)
        heads = torch.addcmul(heads * span.cos, heads.roll(config.head_dim // 2, -1), span.sin)
        query, new = heads.split((config.n_heads, 2 * config.n_kv_heads), dim=2)
        # The queries of a group count as more queries of one head: no key or value is repeated.
        grouped = query.view(batch, n_new, config.n_kv_heads, config.group, config.head_dim).transpose(1, 2)
        grouped = grouped.reshape(batch, config.n_kv_heads, n_new * config.group, config.head_dim)
        if isinstance(cache, list):
            return _attend_apart(grouped, new, span, cache).view(batch, -1)
        if span.positions.ndim == 1:
            cache.index_copy_(2, span.positions, new.transpose(1, 2))
        else:
            cache[torch.arange(batch, device=cache.device), :, span.positions[:, 0]] = new[:, 0]
        keys, values = cache.narrow(2, 0, span.n_keys).chunk(2, dim=1)
        mixed = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=span.mask)
        mixed = mixed.view(batch, config.n_kv_heads, n_new, config.group, config.head_dim).transpose(1, 2)
        return mixed.reshape(batch * n_new, -1)


def _attend_apart(query: Tensor, new: Tensor, span: AttentionSpan, caches: list[Tensor]) -> Tensor:
    """Attention of one position of each stream over its own cache.

    Args:
        query: ``(batch, n_kv_heads, group, head_dim)``.
        new: ``(batch, 1, 2 * n_kv_heads, head_dim)``, keys and values to be written at the last of ``span.n_keys``.
        span: positions of the streams; its mask is not used.
        caches: keys and values of each stream.

    Returns:
        The same shape as ``query``.
    """
    mixed = []
    for row, written, cache, n_keys in zip(
        query.split(1), new.transpose(1, 2).split(1), caches, span.n_keys, strict=True
    ):
        cache.narrow(2, n_keys - 1, 1).copy_(written)
        keys, values = cache.narrow(2, 0, n_keys).chunk(2, dim=1)
        mixed.append(F.scaled_dot_product_attention(row, keys, values))
    return torch.cat(mixed)


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
        # The rotation of each head: queries and keys are rotated, values are not.
        turns = [0] * (config.n_heads + config.n_kv_heads) + [1] * config.n_kv_heads
        self.register_buffer("turns", torch.tensor(turns), persistent=False)
        self.register_buffer("floor", norm_floor(config), persistent=False)

    def forward(self, x: Tensor, span: AttentionSpan, cache: KvCache | StreamCaches) -> Tensor:
        """Run ``(batch, n_new, dim)`` at the positions of ``span``; the hidden states after the final norm."""
        rows = x.flatten(0, 1)
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            rows = block(rows, span, layer)
        return rms_norm(rows, self.norm, self.floor).view_as(x)

    def rotation(self, positions: Tensor) -> Tensor:
        """``cos`` and ``sin`` of an `AttentionSpan`, ``(2, *positions.shape, heads, head_dim)``."""
        return self.rotary[:, positions].to(self.norm.dtype).index_select(-2, self.turns)


def new_weight(*shape: int) -> nn.Parameter:
    """An empty weight, to be filled from a checkpoint; never trained here."""
    return nn.Parameter(torch.empty(*shape), requires_grad=False)
