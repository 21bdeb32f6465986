"""Which cache rows new positions attend to: by host integers, or by a mask if shapes must be constant."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from csmkit.csm.transformer import AttentionSpan, Transformer


def prefix_span(transformer: Transformer, start: int, n_new: int) -> AttentionSpan:
    """Positions ``start`` to ``start + n_new``, which attend to all rows before them and to themselves."""
    positions = torch.arange(start, start + n_new, device=transformer.norm.device)
    cos, sin = transformer.rotation(positions)
    if n_new == 1:
        return AttentionSpan(positions, cos, sin, n_keys=start + 1)
    visible = torch.arange(start + n_new, device=positions.device) <= positions[:, None]
    mask = visible.repeat_interleave(transformer.config.group, dim=0)
    return AttentionSpan(positions, cos, sin, start + n_new, mask)


def separate_span(transformer: Transformer, lengths: Sequence[int]) -> AttentionSpan:
    """One new position for each stream, after the rows of its own cache."""
    positions = torch.tensor(lengths, device=transformer.norm.device).unsqueeze(1)
    cos, sin = transformer.rotation(positions)
    return AttentionSpan(positions, cos, sin, [length + 1 for length in lengths])


def masked_span(transformer: Transformer, position: Tensor, n_keys: int) -> AttentionSpan:
    """One new position for each stream, which attends to the first rows of the cache through a mask.

    Shapes are constant, and nothing is copied to the host.

    Args:
        transformer: stack that the positions belong to; its rotary table is used.
        position: ``(batch,)`` int64 on the device, the number of rows that each stream has.
        n_keys: number of cache rows to read; more than any of ``position``.
    """
    if len(position) > 1:
        return _one_each(transformer, position, n_keys)
    cos, sin = transformer.rotation(position)
    visible = torch.arange(n_keys, device=position.device) <= position[:, None]
    return AttentionSpan(position, cos, sin, n_keys, visible.expand(transformer.config.group, -1))


def bucket_span(transformer: Transformer, start: Tensor, n_new: Tensor, bucket: int, n_keys: int) -> AttentionSpan:
    """``bucket`` positions from ``start`` on, of which the first ``n_new`` are used.

    Shapes are constant, and nothing is copied to the host. The unused positions are written to the last cache row,
    which no used position may have.

    Args:
        transformer: stack that the positions belong to; its rotary table is used.
        start: ``(1,)`` int64 on the device, the first position.
        n_new: ``(1,)`` int64 on the device, the number of positions in use.
        bucket: number of positions, a host integer.
        n_keys: number of rows of the cache.
    """
    steps = torch.arange(bucket, device=start.device)
    positions = torch.where(steps < n_new, start + steps, n_keys - 1)
    cos, sin = transformer.rotation(positions)
    visible = torch.arange(n_keys, device=start.device) <= positions[:, None]
    return AttentionSpan(positions, cos, sin, n_keys, visible.repeat_interleave(transformer.config.group, dim=0))


def _one_each(transformer: Transformer, positions: Tensor, n_keys: int) -> AttentionSpan:
    positions = positions.unsqueeze(1)
    cos, sin = transformer.rotation(positions)
    visible = torch.arange(n_keys, device=positions.device) <= positions
    mask = visible[:, None, None].expand(-1, -1, transformer.config.group, -1)
    return AttentionSpan(positions, cos, sin, n_keys, mask)
