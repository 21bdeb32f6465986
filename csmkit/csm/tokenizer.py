"""Text to ids, as CSM was trained to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer


@dataclass(frozen=True)
class TextTokenizer:
    """Turns a line of a speaker into ids, as CSM was trained to read it."""

    tokenizer: Tokenizer
    bos: int
    eos: int

    def ids(self, speaker: int, text: str) -> list[int]:
        """``bos [speaker]text eos``."""
        return [self.bos, *self.tokenizer.encode(f"[{speaker}]{text}", add_special_tokens=False).ids, self.eos]


def special_id(tokenizer: Tokenizer, token: str, fallback: Sequence[int | None]) -> int | None:
    """The id of a special token by its name, else the first of the fallbacks that is known."""
    found = tokenizer.token_to_id(token)
    return found if found is not None else next((value for value in fallback if value is not None), None)
