"""What was said so far: as messages for the language model, as segments for the voice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from csmkit.chat.llm import Message
from csmkit.chat.options import TurnOptions
from csmkit.chat.spoken import in_words, speakable
from csmkit.csm.prompt import Segment

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Conversation:
    """The turns that were heard.

    Attributes:
        history: ``{"role", "content"}``, oldest first.
        turns: of each turn the user's segments, then those of the answer.
    """

    history: list[Message] = field(default_factory=list)
    turns: list[list[Segment]] = field(default_factory=list)

    def messages(self, text: str) -> list[Message]:
        """What the language model answers: the history, and the user's new words."""
        return [*self.history, {"role": "user", "content": text}]

    def context(self, options: TurnOptions, by_user: Sequence[Segment]) -> list[Segment]:
        """What the voice hears before a turn: the segments that lead, the last turns, the user's words."""
        n_turns = options.context_turns
        if not n_turns:
            return list(options.voice)
        earlier = [segment for turn in self.turns[-n_turns:] for segment in turn]
        return [*options.voice, *earlier, *by_user]

    def add(self, text: str, answer: str, segments: Sequence[Segment]) -> None:
        """Keep a turn: the user's words, what was heard of the answer, and the segments of both."""
        self.history += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        self.turns.append(list(segments))

    def clear(self) -> None:
        """Forget everything."""
        self.history.clear()
        self.turns.clear()


def by_user(text: str, sound: np.ndarray | None, speaker: int) -> list[Segment]:
    """The user's words as the voice hears them, with their sound where they were spoken; none without a word."""
    if sound is not None:
        return [Segment(speaker, text, sound)]
    plain = in_words(speakable(text))
    return [Segment(speaker, plain)] if plain else []
