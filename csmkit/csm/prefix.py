"""Context that was read before is not read again: what the backbone made of the last prompt's turns is kept.

Prompts are read a block at a time, one block a turn, whether or not something is kept. A block that is restored is
therefore, bit for bit, the block that would have been computed: reuse changes the time to the first frame, no code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from csmkit.csm.prompt import Block
from csmkit.csm.transformer import KvCache


@dataclass(frozen=True)
class _Kept:
    key: bytes
    layers: tuple[Tensor, ...]  # (1, 2 * n_kv_heads, n_rows, head_dim) each


class PrefixStore:
    """The cache rows of one prompt's turns. Streams copy from it and never write to it: they may run side by side."""

    def __init__(self) -> None:
        self._kept: tuple[_Kept, ...] = ()  # replaced as a whole: a reader in another thread has the old or the new one

    def restore(self, blocks: Sequence[Block], cache: KvCache) -> int:
        """Copy the leading blocks that are known into an empty cache; how many those were."""
        kept = _shared(self._kept, blocks)
        for block in kept:
            n_rows = block.layers[0].shape[2]
            for layer, rows in zip(cache.layers, block.layers, strict=True):
                layer.narrow(2, cache.length, n_rows).copy_(rows)
            cache.advance(n_rows)
        return len(kept)

    def keep(self, blocks: Sequence[Block], cache: KvCache) -> None:
        """Keep the rows of ``blocks``, which fill ``cache`` from its start, in place of what was kept.

        A prompt without turns changes nothing.
        """
        if not blocks:
            return
        kept = list(_shared(self._kept, blocks))
        start = sum(block.n_rows for block in blocks[: len(kept)])
        for block in blocks[len(kept) :]:
            rows = tuple(layer.narrow(2, start, block.n_rows).clone() for layer in cache.layers)
            kept.append(_Kept(block.key, rows))
            start += block.n_rows
        self._kept = tuple(kept)


def _shared(kept: Sequence[_Kept], blocks: Sequence[Block]) -> list[_Kept]:
    """The leading part of ``kept`` that ``blocks`` begin with."""
    shared: list[_Kept] = []
    for old, new in zip(kept, blocks, strict=False):
        if old.key != new.key:
            break
        shared.append(old)
    return shared
