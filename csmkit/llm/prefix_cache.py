"""The keys and values of tokens that a language model has read, kept from turn to turn."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

N_CONVERSATIONS = 2  # that are kept: two chatbots may take turns with one language model


@dataclass
class Prefix:
    """Tokens that were read, and the model's cache after them. One stream owns it, so that it needs no lock.

    Attributes:
        ids: the tokens whose keys and values are in the cache.
        cache: transformers' cache object; None before the first token.
        reading: whether the model is at work on it. What was broken off there must not be used again.
    """

    ids: list[int] = field(default_factory=list)
    cache: Any = None
    reading: bool = False

    def can_be_cut(self) -> bool:
        """Whether the cache holds every token, so that any first part of it can go on; not so for sliding windows."""
        layers = getattr(self.cache, "layers", None)
        return bool(layers) and all(type(layer).__name__ == "DynamicLayer" for layer in layers)

    def crop(self, n_tokens: int) -> None:
        """Forget all but the first tokens."""
        if n_tokens < len(self.ids):
            self.cache.crop(n_tokens - len(self.ids))  # a negative number means the same in transformers 4 and 5
            del self.ids[n_tokens:]

    def copy(self, n_tokens: int) -> Prefix:
        """The first tokens, in memory of their own."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for number, layer in enumerate(self.cache.layers):
            cache.update(layer.keys[..., :n_tokens, :], layer.values[..., :n_tokens, :], number)
        return Prefix(self.ids[:n_tokens], cache)


class PrefixCache:
    """Lends each stream the kept prefix that has most tokens in common with its prompt. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Prefix] = []

    def take(self, ids: Sequence[int], n_head: int) -> Prefix:
        """The longest known prefix of a prompt, at least one token short of it; empty if there is none.

        It is taken out: a second stream that comes meanwhile begins with another, or an empty one. Where most of it
        would be lost, it belongs to another conversation: that keeps it, and this one gets a copy of what they share.

        Args:
            ids: the prompt.
            n_head: tokens that all conversations begin with, such as those of the system prompt.
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
        """Keep a prefix for the next turn, unless its stream broke off while the model was reading."""
        if prefix.reading or not prefix.ids:
            return
        with self._lock:
            self._kept = [*self._kept, prefix][-N_CONVERSATIONS:]

    def clear(self) -> None:
        """Forget everything, and with it the memory."""
        with self._lock:
            self._kept.clear()


def n_common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences have in common from their beginning."""
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
