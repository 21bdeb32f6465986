"""Context that was read before is not read again: what the backbone made of the last prompt and answer is kept.

Prompts are read a block at a time, one block a turn, whether or not something is kept. A block that is restored is
therefore, bit for bit, the block that would have been computed. An answer becomes the next prompt's last turn: its text
and frames were read when it was spoken, one by one, and are as a block would have made them but for rounding.
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


@dataclass(frozen=True)
class _Answer:
    after: tuple[bytes, ...]  # the keys of the blocks before it
    block: Block
    n_text: int  # its rows of text
    layers: tuple[Tensor, ...]  # as above, of the rows that were read


class PrefixStore:
    """The cache rows of one prompt's turns, and of one answer. Streams copy from it and never write to it: they may
    run side by side."""

    def __init__(self) -> None:
        self._kept: tuple[_Kept, ...] = ()  # replaced as a whole: a reader in another thread has the old or the new one
        self._answer: _Answer | None = None

    def restore(self, blocks: Sequence[Block], cache: KvCache) -> tuple[int, int]:
        """Copy what is known into an empty cache.

        Returns:
            How many leading blocks that was, and how many rows of the one after them.
        """
        kept = _shared(self._kept, blocks)
        for block in kept:
            _append(cache, block.layers, block.layers[0].shape[2])
        answer, rest = self._answer, blocks[len(kept) :]
        if answer is None or not rest or answer.after != tuple(block.key for block in blocks[: len(kept)]):
            return len(kept), 0
        # The last row is read in any case, since what follows is said after it.
        n_rows = min(_n_equal_rows(answer.block, rest[0]), answer.layers[0].shape[2], rest[0].n_rows - 1)
        if n_rows < answer.n_text:  # another turn, which begins alike
            return len(kept), 0
        _append(cache, answer.layers, n_rows)
        return len(kept), n_rows

    def keep(self, blocks: Sequence[Block], cache: KvCache) -> None:
        """Keep the rows of ``blocks``, which fill ``cache`` from its start, in place of what was kept.

        A prompt without turns changes nothing.
        """
        if not blocks:
            return
        kept = list(_shared(self._kept, blocks))
        start = sum(block.n_rows for block in blocks[: len(kept)])
        for block in blocks[len(kept) :]:
            kept.append(_Kept(block.key, _copied(cache, start, block.n_rows)))
            start += block.n_rows
        self._kept = tuple(kept)

    def keep_answer(self, blocks: Sequence[Block], codes: Tensor, cache: KvCache) -> None:
        """Keep what was spoken, in place of the answer before.

        Args:
            blocks: of the prompt, the text that was spoken last.
            codes: ``(n_codebooks, n_frames)`` int64, the frames that were spoken and read.
            cache: of that one stream.
        """
        *context, text = blocks
        block = text.spoken(codes)
        start = sum(turn.n_rows for turn in context)
        layers = _copied(cache, start, block.n_rows)
        self._answer = _Answer(tuple(turn.key for turn in context), block, text.n_rows, layers)


def _shared(kept: Sequence[_Kept], blocks: Sequence[Block]) -> list[_Kept]:
    """The leading part of ``kept`` that ``blocks`` begin with."""
    shared: list[_Kept] = []
    for old, new in zip(kept, blocks, strict=False):
        if old.key != new.key:
            break
        shared.append(old)
    return shared


def _n_equal_rows(block: Block, other: Block) -> int:
    """How many leading rows two blocks have in common."""
    n_rows = min(block.n_rows, other.n_rows)
    equal = (block.rows[:n_rows] == other.rows[:n_rows]).all(dim=1)
    return int(equal.cumprod(dim=0).sum())


def _append(cache: KvCache, layers: Sequence[Tensor], n_rows: int) -> None:
    for layer, rows in zip(cache.layers, layers, strict=True):
        layer.narrow(2, cache.length, n_rows).copy_(rows.narrow(2, 0, n_rows))
    cache.advance(n_rows)


def _copied(cache: KvCache, start: int, n_rows: int) -> tuple[Tensor, ...]:
    return tuple(layer.narrow(2, start, n_rows).clone() for layer in cache.layers)
