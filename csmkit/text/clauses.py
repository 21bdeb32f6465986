"""Cuts the language model's text into clauses to speak, the first one early, without markup and emoji."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate

from stream2sentence import SentenceSplitter

from csmkit.checks import check_integer
from csmkit.text.markup import speakable
from csmkit.text.normalize import in_latin_letters, in_words

_BREAK = re.compile(r"[,;:.!?]$")


@dataclass(frozen=True)
class Clause:
    """A piece of an answer.

    Attributes:
        written: the text that the language model wrote, without markup.
        spoken: the same text in words alone, as the voice gets it; empty if nothing of it can be spoken.
    """

    written: str
    spoken: str


class ClauseSplitter:
    """Cuts a stream of text into pieces that can be spoken one by one.

    Sentences are found by stream2sentence, which knows "Dr.", "$29.99" and "3 p.m."; the first piece may be shorter
    than a sentence, since the listener waits for it.

    Args:
        first_words: the first piece ends after this many words at the latest.
        most_words: a longer sentence is cut, at a comma where there is one, so that it fits a generation.

    Raises:
        InputError: a number below 1.
    """

    def __init__(self, first_words: int = 12, most_words: int = 24) -> None:
        check_integer("first_words", first_words)
        check_integer("most_words", most_words)
        self._most_words = most_words
        self._splitter = SentenceSplitter(
            tokenizer="rule-based",  # other tokenizers download data
            quick_yield_single_sentence_fragment=True,
            force_first_fragment_after_words=first_words,
            sentence_fragment_delimiters=".?!;:,\n…",  # no hyphens and brackets: they do not end a clause
        )

    def push(self, delta: str) -> list[Clause]:
        """Add some text; returns the clauses that it completes."""
        self._splitter.add(delta)
        return self._clauses(list(self._splitter.stream()))

    def flush(self) -> list[Clause]:
        """Return the remaining clauses at the end of the text."""
        return self._clauses(list(self._splitter.flush()))

    def _clauses(self, sentences: list[str]) -> list[Clause]:
        plain = [speakable(sentence) for sentence in sentences]
        pieces = [piece for sentence in plain if sentence for piece in split_long(sentence, self._most_words)]
        return [Clause(piece, in_latin_letters(in_words(piece))) for piece in pieces]


def split_long(sentence: str, most_words: int) -> list[str]:
    """Cut a sentence into pieces of at most ``most_words`` spoken words, after the last comma or stop that fits.

    A written word such as "1,250" counts as all the words it is spoken as, and is never cut.
    """
    words = sentence.split()
    pieces: list[str] = []
    while (n_fitting := _n_fitting(words, most_words)) < len(words):
        breaks = [n for n in range(1, n_fitting + 1) if _BREAK.search(words[n - 1])]
        n_words = breaks[-1] if breaks else n_fitting
        pieces.append(" ".join(words[:n_words]))
        words = words[n_words:]
    return [*pieces, " ".join(words)]


def _n_fitting(words: list[str], most_words: int) -> int:
    """Number of first words that are together spoken as at most ``most_words`` words; at least 1."""
    n_spoken = accumulate(len(in_words(word).split()) for word in words)
    return max(1, sum(n <= most_words for n in n_spoken))


def spoken_part(clause: str, share: float) -> str:
    """The first words of a clause that fit into a share in [0, 1] of its letters, as of its sound."""
    n_letters = share * len(clause)
    words: list[str] = []
    for word in clause.split():
        if len(" ".join([*words, word])) > n_letters:
            break
        words.append(word)
    return " ".join(words)
