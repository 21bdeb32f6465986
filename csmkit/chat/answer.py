"""The text of an answer: read from the language model while it is written, and cut into clauses."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from csmkit.chat.events import TurnClock
from csmkit.llm.contract import LLM, Message
from csmkit.llm.reader_thread import ReaderThread
from csmkit.text.clauses import Clause, ClauseSplitter


class AnswerText:
    """The text of one answer.

    Args:
        splitter: cuts the text into clauses.
        clock: clock of the turn.
        raw_text: whether clauses are spoken as they are written, with their numbers and signs.

    Attributes:
        clauses: clauses that wait to be spoken, in order.
        unspeakable: written text of the clauses that have no word to speak.
        complete: whether the language model has written everything.
        first_clause_at: moment when the first clause was complete; None before.
        reader: the thread that reads the language model; None before `start`.
    """

    def __init__(self, splitter: ClauseSplitter, clock: TurnClock, raw_text: bool = False) -> None:
        self.clauses: deque[Clause] = deque()
        self.unspeakable: list[str] = []
        self.complete = False
        self.first_clause_at: float | None = None
        self.reader: ReaderThread | None = None
        self._splitter, self._clock, self._raw_text = splitter, clock, raw_text
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """The text written so far, without space around it."""
        return "".join(self._pieces).strip()

    def start(self, llm: LLM, messages: Sequence[Message]) -> None:
        """Let the language model answer these messages, in a thread; returns at once."""
        self.reader = ReaderThread(lambda: llm.stream(messages), clock=self._clock)

    def read(self, timeout_s: float | None) -> Iterator[str]:
        """Yield the pieces of text that were written since the last call, and add their clauses to ``clauses``.

        Args:
            timeout_s: seconds to wait for the first piece; 0 does not wait, None waits until there is one.

        Raises:
            LanguageModelError: the language model failed; the cause is its error.
            DeviceMemoryError: the language model ran out of memory.
        """
        if self.complete or self.reader is None:
            return
        for piece in self.reader.take(timeout_s):
            self._pieces.append(piece)
            self._add(self._splitter.push(piece))
            yield piece
        if self.reader.exhausted:
            self.complete = True
            self._add(self._splitter.flush())
        if self.clauses and self.first_clause_at is None:
            self.first_clause_at = self._clock()

    def close(self, timeout_s: float = 0) -> None:
        """Stop the language model before its next piece, and wait at most ``timeout_s`` seconds; from any thread."""
        if self.reader is not None:
            self.reader.close(timeout_s)

    def _add(self, clauses: Sequence[Clause]) -> None:
        if self._raw_text:
            clauses = [Clause(clause.written, clause.written) for clause in clauses]
        self.clauses.extend(clause for clause in clauses if clause.spoken)
        self.unspeakable += [clause.written for clause in clauses if not clause.spoken]
