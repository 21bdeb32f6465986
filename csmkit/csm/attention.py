"""What new positions look at: by host integers, or by a mask over the whole cache where shapes must be constant."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from csmkit.csm.transformer import Reach, Transformer


def prefix_reach(transformer: Transformer, start: int, n_new: int) -> Reach:
    """Positions ``start`` to ``start + n_new`` that look at the rows before them and at themselves."""
    positions = torch.arange(start, start + n_new, device=transformer.norm.device)
    cos, sin = transformer.rotation(positions)
    if n_new == 1:
        return Reach(positions, cos, sin, span=start + 1)
    seen = torch.arange(start + n_new, device=positions.device) <= positions[:, None]
    return Reach(positions, cos, sin, start + n_new, seen.repeat_interleave(transformer.config.group, dim=0))


def ragged_reach(transformer: Transformer, lengths: Sequence[int]) -> Reach:
    """One new position for each stream of a batch, after the rows that stream has."""
    positions = torch.tensor(lengths, device=transformer.norm.device)
    return _one_each(transformer, positions, max(lengths) + 1)


def whole_reach(transformer: Transformer, position: Tensor, n_positions: int) -> Reach:
    """One new position a stream that looks at the whole cache through a mask: constant shapes, nothing read back.

    Args:
        position: ``(batch,)`` int64 on the device, the rows each stream has.
        n_positions: rows of the cache.
    """
    if len(position) > 1:
        return _one_each(transformer, position, n_positions)
    cos, sin = transformer.rotation(position)
    seen = torch.arange(n_positions, device=position.device) <= position[:, None]
    return Reach(position, cos, sin, n_positions, seen.expand(transformer.config.group, -1))


def bucket_reach(transformer: Transformer, start: Tensor, n_new: Tensor, bucket: int, n_positions: int) -> Reach:
    """``bucket`` positions from ``start`` on, of which ``n_new`` count: constant shapes, nothing read back.

    Those that do not count are written to the cache's last row, which nothing that counts may use.

    Args:
        start: ``(1,)`` int64 on the device.
        n_new: likewise.
        bucket: a host integer.
        n_positions: rows of the cache.
    """
    steps = torch.arange(bucket, device=start.device)
    positions = torch.where(steps < n_new, start + steps, n_positions - 1)
    cos, sin = transformer.rotation(positions)
    seen = torch.arange(n_positions, device=start.device) <= positions[:, None]
    return Reach(positions, cos, sin, n_positions, seen.repeat_interleave(transformer.config.group, dim=0))


def _one_each(transformer: Transformer, positions: Tensor, span: int) -> Reach:
    positions = positions.unsqueeze(1)
    cos, sin = transformer.rotation(positions)
    seen = torch.arange(span, device=positions.device) <= positions
    return Reach(positions, cos, sin, span, seen[:, None, None].expand(-1, -1, transformer.config.group, -1))
