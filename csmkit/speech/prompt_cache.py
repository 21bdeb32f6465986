"""Context that was read before is not read again: what the backbone made of the last prompts is kept.

Prompts are read a block at a time, cut at the same rows whether or not something is kept. A block that is restored is
therefore, bit for bit and in every dtype, the block that would have been computed: history cannot change the codes. For
the same reason an answer's own cache rows are not kept. They were computed one by one, and a block of them rounds
differently; the next prompt reads the answer as a block, as a fresh generator would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from csmkit.csm.transformer import KvCache
from csmkit.speech.prompt import Block


@dataclass(frozen=True)
class KeptBlock:
    """The cache rows of one block."""

    key: bytes
    layers: tuple[Tensor, ...]  # (1, 2 * n_kv_heads, n_rows, head_dim) each


class PrefixStore:
    """The cache rows of the turns of the last prompts. Streams copy from it and never write to it.

    Attributes:
        n_prompts: number of prompts to keep, at least 1; turns that several begin with are kept once.
    """

    def __init__(self) -> None:
        self.n_prompts = 1
        # The last one first; replaced as a whole, so that another thread reads the old ones or the new ones.
        self._kept: tuple[tuple[KeptBlock, ...], ...] = ()

    def restore(self, blocks: Sequence[Block], cache: KvCache) -> int:
        """Copy the leading blocks that are known into an empty cache, and count them."""
        known = self._longest_shared(blocks)
        for block in known:
            n_rows = block.layers[0].shape[2]
            for layer, rows in zip(cache.layers, block.layers, strict=True):
                layer.narrow(2, cache.length, n_rows).copy_(rows)
            cache.advance(n_rows)
        return len(known)

    def copy(self, blocks: Sequence[Block], cache: KvCache) -> tuple[KeptBlock, ...]:
        """Copy the rows of ``blocks``, which fill ``cache`` from its start, for `keep`."""
        kept = self._longest_shared(blocks)
        start = sum(block.n_rows for block in blocks[: len(kept)])
        for block in blocks[len(kept) :]:
            layers = tuple(layer.narrow(2, start, block.n_rows).clone() for layer in cache.layers)
            kept.append(KeptBlock(block.key, layers))
            start += block.n_rows
        return tuple(kept)

    def keep(self, blocks: tuple[KeptBlock, ...]) -> None:
        """Keep a prompt, once it is known to be finite, in place of the oldest and of those that it continues."""
        if blocks:
            keys = [block.key for block in blocks]
            others = [old for old in self._kept if [block.key for block in old] != keys[: len(old)]]
            self._kept = (blocks, *others)[: self.n_prompts]

    def _longest_shared(self, blocks: Sequence[Block]) -> list[KeptBlock]:
        """The longest beginning of ``blocks`` that is kept."""
        return max((_shared(kept, blocks) for kept in self._kept), key=len, default=[])


def _shared(kept: Sequence[KeptBlock], blocks: Sequence[Block]) -> list[KeptBlock]:
    """The leading part of ``kept`` that ``blocks`` begin with."""
    shared: list[KeptBlock] = []
    for old, new in zip(kept, blocks, strict=False):
        if old.key != new.key:
            break
        shared.append(old)
    return shared
