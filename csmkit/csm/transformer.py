"""A Llama-style transformer over a static key-value cache: rotary positions, grouped queries, SwiGLU."""

from __future__ import annotations

import math
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
    """Cosines and signed sines for every position, ``(2, n_positions, head_dim)`` float32.

    In the half-split layout a rotation is ``x * cos + roll(x, head_dim / 2) * sin``, the first half of ``sin`` negated.
    """
    angles = torch.outer(torch.arange(n_positions, dtype=torch.float32), inverse_frequencies(config))
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)))


class KvCache:
    """Keys and values of one batch of streams, in buffers of a fixed size.

    Attributes:
        layers: a tensor each, ``(batch, 2 * n_kv_heads, n_positions, head_dim)``; the heads of the keys come first.
        length: rows in use, the same for the whole batch; whoever writes rows moves it.
    """

    def __init__(self, config: TransformerConfig, batch: int, n_positions: int, like: Tensor) -> None:
        shape = (batch, 2 * config.n_kv_heads, n_positions, config.head_dim)
        # Zeros and not empty: rows behind a mask are still multiplied by their weight of 0, and 0 * NaN is NaN.
        self.layers = [like.new_zeros(shape) for _ in range(config.n_layers)]
        self.n_positions = n_positions
        self.length = 0


@dataclass(frozen=True)
class Reach:
    """Where new positions are written, and what they may look at.

    Attributes:
        positions: ``(n_new,)`` int64, the cache rows they take.
        cos, sin: ``(n_new, heads, head_dim)``, the rotation of queries and keys; values turn by nothing, 1 and 0.
        span: cache rows to look at; a host integer.
        mask: ``(n_new * group, span)`` bool, True where a query may look; None where all may look at all.
    """

    positions: Tensor
    cos: Tensor
    sin: Tensor
    span: int
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
    return (wide / length).to(x.dtype) * gain


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

    def forward(self, x: Tensor, reach: Reach, cache: Tensor) -> Tensor:
        """Run ``(batch * n_new, dim)``, writing their keys and values to the layer's cache on the way."""
        normed = rms_norm(x, self.attention_norm, self.floor)
        x = x + self._attend(normed @ self.qkv, reach, cache) @ self.out
        normed = rms_norm(x, self.mlp_norm, self.floor)
        gate, up = (normed @ self.gate_up).chunk(2, dim=-1)
        return x + (F.silu(gate) * up) @ self.down

    def _attend(self, qkv: Tensor, reach: Reach, cache: Tensor) -> Tensor:
        config = self.config
        batch, n_new = cache.shape[0], reach.positions.shape[0]
        heads = qkv.view(batch, n_new, -1, config.head_dim)
        heads = torch.addcmul(heads * reach.cos, heads.roll(config.head_dim // 2, -1), reach.sin)
        query, new = heads.split((config.n_heads, 2 * config.n_kv_heads), dim=2)
        cache.index_copy_(2, reach.positions, new.transpose(1, 2))
        keys, values = cache.narrow(2, 0, reach.span).chunk(2, dim=1)
        # The queries of a group take the place of more queries on one head: no key or value is repeated.
        grouped = query.view(batch, n_new, config.n_kv_heads, config.group, config.head_dim).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(
            grouped.reshape(batch, config.n_kv_heads, n_new * config.group, config.head_dim),
            keys,
            values,
            attn_mask=reach.mask,
        )
        mixed = mixed.view(batch, config.n_kv_heads, n_new, config.group, config.head_dim).transpose(1, 2)
        return mixed.reshape(batch * n_new, -1)


class Transformer(nn.Module):
    """The blocks, the final norm and the rotary table of one stack."""

    rotary: Tensor
    floor: Tensor

    def __init__(self, config: TransformerConfig, n_positions: int) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = new_weight(config.dim)
        self.register_buffer("rotary", rotary_table(config, n_positions), persistent=False)
        self.register_buffer("floor", norm_floor(config), persistent=False)

    def forward(self, x: Tensor, reach: Reach, cache: KvCache) -> Tensor:
        """Run ``(batch, n_new, dim)`` at the positions of ``reach``; the hidden states after the final norm."""
        rows = x.flatten(0, 1)
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            rows = block(rows, reach, layer)
        return rms_norm(rows, self.norm, self.floor).view_as(x)

    def rotation(self, positions: Tensor) -> Tensor:
        """What a `Reach` holds as cos and sin for ``(n_new,)`` positions, ``(2, n_new, heads, head_dim)``."""
        config = self.config
        turned = self.rotary[:, positions].to(self.norm.dtype).unsqueeze(2)
        still = torch.stack((torch.ones_like(turned[0]), torch.zeros_like(turned[0])))
        n_turned = config.n_heads + config.n_kv_heads
        parts = (turned.expand(-1, -1, n_turned, -1), still.expand(-1, -1, config.n_kv_heads, -1))
        return torch.cat(parts, dim=2)


def new_weight(*shape: int) -> nn.Parameter:
    """An empty weight, to be filled from a checkpoint; never trained here."""
    return nn.Parameter(torch.empty(*shape), requires_grad=False)
