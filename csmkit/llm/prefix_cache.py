"""Keys and values of the prompts that a language model has read, kept from turn to turn."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

N_CONVERSATIONS = 2  # number of prompts that are kept, for two chatbots that share one language model


@dataclass
class Prefix:
    """Tokens that the model has read, and its cache after them. It belongs to one stream, and needs no lock.

    Attributes:
        ids: token ids whose keys and values are in the cache.
        cache: transformers' cache object; None before the first token.
        reading: whether the model is adding tokens to the cache; if that is interrupted, the cache is not usable.
    """

    ids: list[int] = field(default_factory=list)
    cache: Any = None
    reading: bool = False

    def can_be_cut(self) -> bool:
        """Whether the cache can be cropped to any length; that of a sliding window cannot."""
        layers = getattr(self.cache, "layers", None)
        return bool(layers) and all(type(layer).__name__ == "DynamicLayer" for layer in layers)

    def crop(self, n_tokens: int) -> None:
        """Keep only the first ``n_tokens``."""
        if n_tokens < len(self.ids):
            self.cache.crop(n_tokens - len(self.ids))  # negative numbers mean the same in transformers 4 and 5
            del self.ids[n_tokens:]

    def copy(self, n_tokens: int) -> Prefix:
        """A copy of the first ``n_tokens``."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for number, layer in enumerate(self.cache.layers):
            cache.update(layer.keys[..., :n_tokens, :], layer.values[..., :n_tokens, :], number)
        return Prefix(self.ids[:n_tokens], cache)


class PrefixCache:
    """The prefixes kept between streams; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Prefix] = []

    def take(self, ids: Sequence[int], n_head: int) -> Prefix:
        """Remove and return the kept prefix with most tokens in common with a prompt, cropped to those tokens.

        It is at least one token shorter than the prompt, and empty if no token is in common. A kept prefix that would
        lose more than half of its tokens belongs to another conversation: it stays, and a copy is returned.

        Args:
            ids: token ids of the prompt.
            n_head: number of tokens that the prompts of all conversations begin with, such as the system prompt's.
        """
        with self._lock:
            longest = max(self._kept, key=lambda prefix: n_common(prefix.ids, ids), default=None)
            n_tokens = 0 if longest is None else min(n_common(longest.ids, ids), len(ids) - 1)
            if longest is None or n_tokens == 0:
                return Prefix()
            if n_tokens < len(longest.ids) and not longest.can_be_cut():
                return Prefix()
            if n_tokens - n_head < (len(longest.ids) - n_head) / 2:
                return longest.copy(n_tokens)
            self._kept.remove(longest)
        longest.crop(n_tokens)
        return longest

    def keep(self, prefix: Prefix) -> None:
        """Keep a prefix for the next turn, unless its stream was interrupted while the model was reading."""
        if prefix.reading or not prefix.ids:
            return
        with self._lock:
            self._kept = [*self._kept, prefix][-N_CONVERSATIONS:]

    def clear(self) -> None:
        """Discard all prefixes, and free their memory."""
        with self._lock:
            self._kept.clear()


def n_common(left: Sequence[int], right: Sequence[int]) -> int:
    """Number of equal tokens at the beginning of two sequences."""
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
