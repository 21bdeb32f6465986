"""The interface of a language model, and two implementations without a model: echo and prepared answers."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from typing import Protocol

from csmkit.errors import InputError, LanguageModelError

Message = dict[str, str]


class LLM(Protocol):
    """A language model that answers a conversation: any object with this method."""

    def stream(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        """Answer a conversation.

        Args:
            messages: ``{"role": "user" or "assistant", "content": text}``, oldest first; the last is the user's.

        Yields:
            Pieces of the answer, each as soon as it is written. Closing the generator stops the model within one token.
        """


def with_system(prompt: str, messages: Sequence[Message]) -> list[Message]:
    """The messages, a system message before them unless ``prompt`` is empty."""
    return [{"role": "system", "content": prompt}, *messages] if prompt else list(messages)


class EchoLLM:
    """Answers with the user's own message, word by word."""

    def stream(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        """The words of the last message; interface as in `LLM`."""
        for number, word in enumerate(messages[-1]["content"].split()):
            yield f" {word}" if number else word


class FakeLLM:
    """Gives prepared answers, word by word: for tests, and as a template for plugins.

    Args:
        answers: answers of the turns, at least one; after the last one they start again.
        word_s: seconds to wait before each word.
        fail_after: number of words of an answer after which LanguageModelError is raised; -1 for never.

    Attributes:
        seen: messages of each call.
        n_words: number of words yielded so far.

    Raises:
        InputError: no answers.
    """

    def __init__(
        self, answers: Sequence[str] = ("Hello there. How are you?",), *, word_s: float = 0.0, fail_after: int = -1
    ) -> None:
        if isinstance(answers, str) or not answers:
            raise InputError(f"answers={answers!r}: give a list of at least one answer")
        self.seen: list[list[Message]] = []
        self.n_words = 0
        self._answers = list(answers)
        self._word_s = word_s
        self._fail_after = fail_after

    def stream(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        """The next answer; interface as in `LLM`."""
        answer = self._answers[len(self.seen) % len(self._answers)]
        self.seen.append([dict(message) for message in messages])
        for number, word in enumerate(answer.split(" ")):
            if number == self._fail_after:
                raise LanguageModelError(f"the fake language model was told to fail after {number} words")
            if self._word_s:
                time.sleep(self._word_s)
            self.n_words += 1
            yield f" {word}" if number else word
