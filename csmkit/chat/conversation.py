"""What was said so far: as messages for the language model, as segments for the voice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from csmkit.llm.transformers import Message
from csmkit.speech.settings import Segment
from csmkit.text.markup import speakable
from csmkit.text.normalize import in_words

if TYPE_CHECKING:
    import numpy as np

    from csmkit.chat.settings import TurnOptions


@dataclass
class Conversation:
    """The turns that were heard.

    Attributes:
        history: ``{"role", "content"}``, oldest first.
        turns: of each turn the user's segments, then those of the answer.
    """

    history: list[Message] = field(default_factory=list)
    turns: list[list[Segment]] = field(default_factory=list)
    _n_forgotten: int = 0

    def messages(self, text: str) -> list[Message]:
        """What the language model answers: the history, and the user's new words."""
        return [*self.history, {"role": "user", "content": text}]

    def earlier(self, n_turns: int) -> list[Segment]:
        """What the voice hears of the last turns, oldest first, but for what it had to forget."""
        return [segment for turn in self.turns for segment in turn][self._first(n_turns) :]

    def forget(self, n_turns: int, n_segments: int) -> None:
        """Let the voice hear the oldest so many of `earlier` no more; the history keeps them."""
        self._n_forgotten = self._first(n_turns) + n_segments

    def _first(self, n_turns: int) -> int:
        """Where `earlier` begins among all segments."""
        before = self.turns[:-n_turns] if n_turns else self.turns
        return max(self._n_forgotten, sum(len(turn) for turn in before))

    def add(self, text: str, answer: str, segments: Sequence[Segment]) -> None:
        """Keep a turn: the user's words, what was heard of the answer, and the segments of both."""
        self.history += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        self.turns.append(list(segments))

    def remove_last(self) -> None:
        """Take the last turn back."""
        del self.history[-2:]
        self.turns.pop()

    def clear(self) -> None:
        """Forget everything."""
        self.history.clear()
        self.turns.clear()
        self._n_forgotten = 0


def user_segments(text: str, audio: np.ndarray | None, options: TurnOptions) -> list[Segment]:
    """The user's turn as context, with its audio where it was spoken; empty where it has no word.

    Args:
        text: what the user says.
        audio: the sound of it, ``(samples,)`` at 24 kHz, or None.
        options: of the turn.
    """
    if audio is not None:
        return [Segment(options.user_speaker, text, audio)]
    spoken = text if options.raw_text else in_words(speakable(text))
    return [Segment(options.user_speaker, spoken)] if spoken else []
